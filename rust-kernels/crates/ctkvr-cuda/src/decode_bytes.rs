//! `decode-bytes layers=32 kvHeads=8 …`: prints what each kernel reads and writes in a decode step of one sequence, as JSON. The formulas are those
//! that tests/ledger holds to what is counted; how many candidates there are and so on is given (scripts/kernels/decode-bytes.mjs).

use std::collections::HashMap;
use std::io::{Error, Result, Write};

use ctkvr_cuda::Span;
use ctkvr_cuda::launch::attend::{SlotReads, splits_of};
use ctkvr_cuda::launch::linear_f16::LinearF16;
use ctkvr_cuda::launch::merge::MergeWork;
use ctkvr_cuda::launch::norm_round::NormRound;
use ctkvr_cuda::launch::outputs::Outputs;
use ctkvr_cuda::launch::rope_store::RopeStore;
use ctkvr_cuda::launch::search_work::{SearchWay, SearchWork};
use ctkvr_cuda::launch::silu_round::SiluRound;
use ctkvr_cuda::launch::traffic::{SlotShape, Traffic};
use ctkvr_cuda::launch::{clusters, join, probe, score, select};
use ctkvr_kernels::{KvFormat, PageLayout};
use ctkvr_model::RopePairing;

/// What is given, by name.
struct Given(HashMap<String, usize>);

impl Given {
    fn read() -> Result<Self> {
        let pair = |text: String| {
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let wrong = |text: &str| Error::other(format!("decode-bytes: {text:?} is not name=number"));
        std::env::args().skip(1).map(|text| pair(text.clone()).ok_or_else(|| wrong(&text))).collect::<Result<_>>().map(Self)
    }

    fn get(&self, name: &str) -> Result<usize> {
        self.0.get(name).copied().ok_or_else(|| Error::other(format!("decode-bytes: {name}=… is missing")))
    }
}

/// A kernel's launches of one step.
struct Line {
    kernel: &'static str,
    /// Whether it belongs to attention and retrieval.
    is_attention: bool,
    traffic: Traffic,
}

fn main() -> Result<()> {
    let given = Given::read()?;
    let mut lines = attention(&given)?;
    lines.extend(others(&given)?);
    let line = |Line { kernel, is_attention, traffic: Traffic { stored, passed, written } }: &Line| {
        format!(
            r#"{{"kernel": "{kernel}", "isAttention": {is_attention}, "stored": {stored}, "passed": {passed}, "written": {written}}}"#
        )
    };
    let lines: Vec<String> = lines.iter().map(line).collect();
    let again = again(&given)?;
    writeln!(std::io::stdout().lock(), "{{\"readAgain\": {again}, \"kernels\": [\n{}\n]}}", lines.join(",\n"))
}

/// One of the model's KV heads.
fn shape(given: &Given) -> Result<SlotShape> {
    let format = if given.get("isQ8")? == 1 { KvFormat::Q8 } else { KvFormat::F16 };
    Ok(SlotShape { layout: PageLayout { head_dim: given.get("headDim")?, format }, group: given.get("group")? })
}

/// The two kinds of heads, and how many there are over all layers.
fn works(given: &Given) -> Result<[(SearchWork, usize); 2]> {
    let region = given.get("context")? - given.get("window")?;
    let (group, centroids, list_bytes) = (given.get("group")?, given.get("centroids")?, given.get("listBytes")?);
    let clusters = given.get("clusters")?;
    let clusters_in_q8 = if given.get("isClusterQ8")? == 1 { clusters } else { 0 };
    let (probed, cluster_size) = (given.get("probes")?, given.get("clusterSize")?);
    let plain_heaviest = given.get("clusterProbes")?;
    let united = given.get("candidates")?.saturating_sub(plain_heaviest * cluster_size);
    let selected = given.get("values")?;
    let common =
        SearchWork { region, clusters, clusters_in_q8, cluster_segments: 1, selected, chooses: true, ..SearchWork::default() };
    // Lists, and so many of the clusters.
    let probing = |heaviest: usize| SearchWork {
        way: SearchWay::Probes,
        centroids,
        probed,
        list_offsets: 2 * probed,
        list_pieces: probed * list_bytes.div_ceil(join::LIST_PIECE),
        united,
        heaviest,
        member_offsets: 2 * heaviest,
        members: heaviest * cluster_size,
        member_words: (heaviest * cluster_size).min(region.div_ceil(32)),
        heads_with_rest: group,
        candidates: (united + heaviest * cluster_size).min(region),
        ..common
    };
    let retrieval = match given.get("retrievalClusters")? {
        0 => SearchWork { way: SearchWay::ScoresAll, candidates: region, ..common },
        heaviest => probing(heaviest),
    };
    let (plain, retrieval_heads) = (probing(plain_heaviest), given.get("retrievalHeads")?);
    Ok([(plain, given.get("layers")? * given.get("kvHeads")? - retrieval_heads), (retrieval, retrieval_heads)])
}

/// Retrieval, attention and the merge of all heads.
fn attention(given: &Given) -> Result<Vec<Line>> {
    let (shape, works, window) = (shape(given)?, works(given)?, given.get("window")?);
    let reads = |work: &SearchWork| SlotReads { entries: window + work.selected, listed: work.selected };
    let merged = |work: &SearchWork| MergeWork {
        splits: splits_of(window + work.selected),
        has_host: false,
        has_dropped: true,
        given_tails: if work.way == SearchWay::Probes { shape.group } else { 0 },
        tail_values: shape.group,
    };
    let of_heads = |kernel, of_head: &dyn Fn(&SearchWork) -> Traffic| Line {
        kernel,
        is_attention: true,
        traffic: works.iter().map(|(work, heads)| of_head(work) * *heads).sum(),
    };
    Ok(vec![
        of_heads("probe", &|work| probe::traffic(&shape, work)),
        of_heads("score_clusters", &|work| clusters::scores_traffic(&shape, work)),
        of_heads("join_lists", &join::lists_traffic),
        of_heads("weigh_clusters", &|work| clusters::weights_traffic(&shape, work)),
        of_heads("list_marked", &join::marked_traffic),
        of_heads("score", &|work| score::traffic(&shape, work)),
        of_heads("sum_weights", &|work| select::weights_traffic(&shape, work)),
        of_heads("select_largest", &|work| select::choice_traffic(&shape, work)),
        of_heads("rest_values", &|work| clusters::rest_traffic(&shape, work)),
        of_heads("attend", &|work| reads(work).traffic(&shape)),
        of_heads("merge_partials", &|work| merged(work).traffic(&shape)),
    ])
}

/// Of what attention and retrieval read, what a launch of the same layer has read before.
fn again(given: &Given) -> Result<usize> {
    let shape = shape(given)?;
    Ok(works(given)?.iter().map(|(work, heads)| work.read_again(&shape) * heads).sum())
}

/// Everything else, with weights of f16 and one row.
fn others(given: &Given) -> Result<Vec<Line>> {
    let SlotShape { layout, group } = shape(given)?;
    let (layers, num_kv_heads) = (given.get("layers")?, given.get("kvHeads")?);
    let (width, inner, vocab) = (given.get("width")?, given.get("inner")?, given.get("vocab")?);
    let (q, kv) = (group * num_kv_heads * layout.head_dim, num_kv_heads * layout.head_dim);
    let f32s = Span::unbacked;
    let f16_out = |width| Outputs { f16: Span::unbacked(width), ..Outputs::NONE };
    let linear = |k: usize, n: usize| {
        let (weights, activations) = (Span::unbacked(n * k), Span::unbacked(k));
        LinearF16 { weights, bias: Span::EMPTY, activations, out: f32s(n), out_stride: n, rows: 1, k, n }.traffic()
    };
    let norm = NormRound {
        hidden: f32s(width),
        hidden_stride: width,
        row_of: Span::EMPTY,
        block: f32s(width),
        block_stride: width,
        block_scale: 1.0,
        weight: f32s(width),
        epsilon: 1e-5,
        factor: 1.0,
        out: f16_out(width),
        rows: 1,
        width,
    };
    let silu = SiluRound { gate: f32s(inner), up: f32s(inner), stride: inner, out: f16_out(inner), rows: 1, width: inner };
    let num_pairs = layout.head_dim / 2;
    let store = RopeStore {
        queries: f32s(q),
        keys: f32s(kv),
        values: f32s(kv),
        stride: q + 2 * kv,
        turned: f32s(q),
        cos: f32s(num_pairs),
        sin: f32s(num_pairs),
        places: Span::unbacked(1),
        recent: Span::unbacked(q),
        layout,
        first_head: 0,
        num_q_heads: group * num_kv_heads,
        num_kv_heads,
        num_pairs,
        pairing: RopePairing::Halves,
        query_factor: 1.0,
    };
    let of_layer = linear(width, q) + linear(width, kv) * 2 + linear(q, width) + linear(width, inner) * 2 + linear(inner, width);
    let line = |kernel, traffic| Line { kernel, is_attention: false, traffic };
    Ok(vec![
        line("few_rows_f16", of_layer * layers + linear(width, vocab)),
        line("norm_round", norm.traffic() * (2 * layers + 1)),
        line("rope_store", store.traffic() * layers),
        line("silu_round", silu.traffic() * layers),
    ])
}
