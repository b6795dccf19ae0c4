//! One KV head on plain arrays, without a model: the index, its stages one by one, and the whole decode attention. For users whose
//! keys and queries come from another runtime, and for tests of each stage.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use half::f16;

mod given_candidates;
mod growth;
mod image;
mod kept_queries;
mod options;

pub use given_candidates::{GivenCandidates, GivenTail};
pub use growth::AppendInput;
use kept_queries::KeptQueries;
pub use options::HeadIndexOptions;

use crate::attention::alone::{HeadAttention, attend_alone, select_alone};
use crate::attention::decode::HeadDecode;
use crate::error::{Error, Result};
use crate::head_index::image::{IndexImage, decode_image, encode_image};
use crate::index::ctkvr::CtkvrHead;
use crate::index::options::CentroidChoice;
use crate::index::probe::ProbeScratch;
use crate::index::spread_queries::spread_queries;
use crate::kv::block_table::BlockTable;
use crate::kv::head_kv::HeadKv;
use crate::kv::host_pool::HostKvPool;
use crate::kv::pool::PageShape;
use crate::options::StepOptions;
use crate::retriever::{HeadQuery, HeadRetriever, Proposal, Scratch};
use crate::search::{HeadStep, Layout};
use crate::tail::TailScratch;
use crate::tail::segment::TailSegment;
use ctkvr_kernels::{Kernels, KvFormat};

/// Plain arrays of one KV head.
pub struct HeadInput<'a> {
    /// f32 row-major `[num_tokens, head_dim]`, after rotary embedding; stored as f16.
    pub keys: &'a [f32],
    /// f32 `[num_tokens, head_dim]`; stored as f16.
    pub values: &'a [f32],
    /// f32 `[any, group, head_dim]`, after rotary embedding, oldest first; at most [`crate::BuildOptions::query_count`] become centroids, see
    /// `options.centroids`.
    pub queries: &'a [f32],
    pub head_dim: usize,
    pub group: usize,
    pub options: &'a HeadIndexOptions,
    /// Name of the kernels; empty = the fastest.
    pub isa: &'a str,
}

/// What [`HeadIndex::load`] needs besides the image: the keys and values that the index is of, as `HeadInput` has them.
pub struct ImageInput<'a> {
    pub image: &'a [u8],
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub isa: &'a str,
}

/// A segment that probes look at; see `index/centroid_segment.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Where its lists end.
    pub end: usize,
    /// Tokens stored when it was made.
    pub made_at: usize,
    pub num_centroids: usize,
}

/// What stands for positions that are not read; see `tail.rs`.
#[derive(Debug, Clone, PartialEq)]
pub struct TailInfo {
    /// By how much each query head's log-sum-exp is raised `[group]`.
    pub corrections: Vec<f32>,
    pub segments: Vec<TailSegmentInfo>,
}

/// Clusters of one stretch of positions; see `tail/segment.rs`.
#[derive(Debug, Clone, PartialEq)]
pub struct TailSegmentInfo {
    pub start: usize,
    pub made_at: usize,
    /// The cluster of each position.
    pub cluster_of: Vec<u16>,
    /// Mean keys and mean values, f32 `[num_clusters, head_dim]`.
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

/// One KV head with its index.
pub struct HeadIndex {
    kernels: &'static Kernels,
    table: BlockTable,
    num_tokens: usize,
    head_dim: usize,
    group: usize,
    options: HeadIndexOptions,
    /// `None` when a cut went back further than is known.
    ctkvr: Option<Arc<CtkvrHead>>,
    /// Tokens stored at the first build and at the end of each turn since, ascending; empty without an index.
    built_at: Vec<usize>,
    kept: Arc<KeptQueries>,
}

impl HeadIndex {
    /// Stores keys and values and builds the index, on the calling thread.
    pub fn build(input: &HeadInput, cancel: &AtomicBool) -> Result<Self> {
        let (d, group) = (input.head_dim, input.group);
        let mut options = *input.options;
        // The only one that images and the readable form in TypeScript have.
        options.ctkvr.build.cluster_format = KvFormat::F16;
        let kernels = Kernels::named(input.isa, d)?;
        options.check()?;
        if group == 0 {
            return Err(Error::InvalidOption { option: "groupSize", expected: "at least 1".into(), actual: "0".into() });
        }
        let num_queries = input.queries.len() / (group * d);
        check_len("queries", input.queries.len(), num_queries.max(1) * group * d)?;
        check_finite("queries", input.queries)?;
        let mut head = Self {
            kernels,
            table: one_head(d),
            num_tokens: 0,
            head_dim: d,
            group,
            options,
            ctkvr: None,
            built_at: Vec::new(),
            kept: Arc::new(KeptQueries::new(group * d)),
        };
        head.store_first(input.keys, input.values)?;
        let queries = head.centroid_queries(input.queries);
        head.ctkvr = Some(Arc::new(head.first_segment(&queries, cancel)?));
        head.built_at.push(head.num_tokens);
        Ok(head)
    }

    /// The queries that become the first segment's centroids.
    fn centroid_queries<'a>(&self, queries: &'a [f32]) -> Cow<'a, [f32]> {
        let (row_len, count) = (self.row_len(), self.first_count());
        match self.options.ctkvr.build.centroids {
            CentroidChoice::Last => queries[queries.len().saturating_sub(count.saturating_mul(row_len))..].into(),
            CentroidChoice::Spread => {
                let chosen = spread_queries(queries, self.group, self.head_dim, count);
                chosen.into_iter().flat_map(|i| &queries[i * row_len..(i + 1) * row_len]).copied().collect()
            }
        }
    }

    /// Takes up an index that [`HeadIndex::save`] wrote, of these keys and values.
    pub fn load(input: &ImageInput) -> Result<Self> {
        let image = decode_image(input.image)?;
        let kernels = Kernels::named(input.isa, image.head_dim)?;
        check_len("keys", input.keys.len(), image.num_tokens * image.head_dim)?;
        let mut head = Self {
            kernels,
            table: one_head(image.head_dim),
            num_tokens: 0,
            head_dim: image.head_dim,
            group: image.group,
            ctkvr: image.index.map(|index| Arc::new(CtkvrHead::new(index, 0.0, image.options.ctkvr))),
            options: image.options,
            built_at: image.built_at,
            kept: Arc::new(image.kept),
        };
        head.store_first(input.keys, input.values)?;
        Ok(head)
    }

    /// The index and what it needs to go on as it would, without keys and values: see `head_index/image.rs`.
    pub fn save(&self) -> Vec<u8> {
        encode_image(&IndexImage {
            num_tokens: self.num_tokens,
            head_dim: self.head_dim,
            group: self.group,
            options: self.options,
            index: self.ctkvr.as_ref().map(|ctkvr| ctkvr.index.clone()),
            built_at: self.built_at.clone(),
            kept: KeptQueries::clone(&self.kept),
        })
    }

    /// Checks and stores the first tokens.
    fn store_first(&mut self, keys: &[f32], values: &[f32]) -> Result<()> {
        let num_tokens = keys.len() / self.head_dim;
        check_len("keys", keys.len(), num_tokens * self.head_dim)?;
        check_len("values", values.len(), keys.len())?;
        check_finite("keys", keys)?;
        check_finite("values", values)?;
        self.table.reserve(0, num_tokens)?;
        self.store(0, keys, values);
        self.num_tokens = num_tokens;
        Ok(())
    }

    /// Writes rows to positions from `first` on, which were reserved.
    fn store(&mut self, first: usize, keys: &[f32], values: &[f32]) {
        let d = self.head_dim;
        for (i, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
            // SAFETY: reserved by the caller; nobody else has the pages; a row holds d values.
            unsafe { self.kv().store(self.kernels, first + i, key.as_ptr(), value.as_ptr()) };
        }
    }

    fn kv(&self) -> HeadKv<'_> {
        self.table.head(0)
    }

    /// Values of one token's queries.
    fn row_len(&self) -> usize {
        self.group * self.head_dim
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub fn group(&self) -> usize {
        self.group
    }

    pub fn options(&self) -> &HeadIndexOptions {
        &self.options
    }

    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// Centroids that probes look at.
    pub fn num_centroids(&self) -> usize {
        self.ctkvr.as_ref().map_or(0, |ctkvr| ctkvr.index.num_centroids())
    }

    /// Indexed positions; what lies outside is always attended. Empty without an index: then everything is.
    pub fn region(&self) -> Range<usize> {
        let start = self.options.step.num_sink_tokens.min(self.num_tokens);
        self.ctkvr.as_ref().map_or(start..start, |ctkvr| ctkvr.index.start()..ctkvr.index.end())
    }

    /// The segments that probes look at, oldest first: centroid ids count through them.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |b: &Arc<crate::index::centroid_segment::CentroidSegment>| SegmentInfo {
            end: b.end,
            made_at: b.made_at,
            num_centroids: b.num_centroids(),
        };
        self.ctkvr.as_ref().map_or(Vec::new(), |ctkvr| ctkvr.index.active().iter().map(info).collect())
    }

    /// How much decode queries will miss that the tail cannot stand for, as the build measured it: 0 to 1. See `volatility.rs`.
    pub fn volatility(&self) -> f32 {
        self.ctkvr.as_ref().map_or(0.0, |ctkvr| ctkvr.index.figures().volatility)
    }

    /// Nearest similarity below which a query is unlike what the build's queries found; -1 when the build could not tell.
    pub fn similarity_floor(&self) -> f32 {
        self.ctkvr.as_ref().map_or(-1.0, |ctkvr| ctkvr.index.figures().similarity_floor)
    }

    /// Positions of centroid c's list, ascending.
    pub fn list(&self, c: usize) -> Result<Vec<u32>> {
        Ok(self.ctkvr_of(c)?.index.list(c))
    }

    /// What stands for the indexed positions that are not read; `None` without an index, or when its options say no tail.
    pub fn tail(&self) -> Option<TailInfo> {
        let tail = self.ctkvr.as_ref()?.index.tail()?;
        let widen = |rows: &[u16]| rows.iter().map(|&x| f16::from_bits(x).to_f32()).collect();
        let info = |s: &Arc<TailSegment>| TailSegmentInfo {
            start: s.start,
            made_at: s.made_at,
            cluster_of: s.cluster_of.clone(),
            keys: widen(&s.means().keys_in_f16()),
            values: widen(&s.means().values_in_f16()),
        };
        Some(TailInfo { corrections: tail.corrections().to_vec(), segments: tail.segments().iter().map(info).collect() })
    }

    /// The tail of all indexed positions but `taken` (ascending), seen from a query (f32 `[group, head_dim]`): log-sum-exp `[group]`, mean
    /// value `[group, head_dim]`. -infinity and zeros where nothing is left, or without a tail.
    pub fn tail_at(&self, query: &[f32], taken: &[u32]) -> Result<(Vec<f32>, Vec<f32>)> {
        self.check_query(query)?;
        self.check_candidates(taken)?;
        let (mut lse, mut value) = (Vec::new(), Vec::new());
        match self.ctkvr.as_ref().and_then(|ctkvr| ctkvr.index.tail()) {
            Some(tail) => {
                let mut scratch = TailScratch::default();
                tail.weigh(self.kernels, &self.scaled(query), taken, &mut scratch);
                tail.rest(self.kernels, query.len(), &mut scratch, &mut lse, &mut value);
            }
            None => (lse, value) = (vec![f32::NEG_INFINITY; self.group], vec![0.0; query.len()]),
        }
        Ok((lse, value))
    }

    /// `candidates` (ascending, indexed), and the positions of the `cluster_probes` clusters out of which most is left without them for a
    /// query f32 `[group, head_dim]`; ascending. Without a tail, `candidates`.
    pub fn widen(&self, query: &[f32], candidates: &[u32]) -> Result<Vec<u32>> {
        self.check_query(query)?;
        self.check_candidates(candidates)?;
        let mut out = candidates.to_vec();
        if let Some(tail) = self.ctkvr.as_ref().and_then(|ctkvr| ctkvr.index.tail()) {
            let mut scratch = TailScratch::default();
            tail.weigh(self.kernels, &self.scaled(query), candidates, &mut scratch);
            tail.take_heaviest(self.kernels, self.options.ctkvr.search.cluster_probes, &mut scratch, |p| out.push(p as u32));
            out.sort_unstable();
            out.dedup();
        }
        Ok(out)
    }

    /// The nearest centroids, best first, with their similarities. `query` f32 `[group, head_dim]`.
    pub fn probe(&self, query: &[f32]) -> Result<Vec<(f32, u32)>> {
        self.check_query(query)?;
        let mut out = Vec::new();
        if let Some(ctkvr) = &self.ctkvr {
            ctkvr.index.probe(self.kernels, query, self.options.ctkvr.search.num_probes, &mut ProbeScratch::default(), &mut out);
        }
        Ok(out)
    }

    /// Ascending union of the lists of `centroids` and of the positions that came after the first one's segment.
    pub fn candidates(&self, centroids: &[u32]) -> Result<Vec<u32>> {
        centroids.iter().try_for_each(|&c| self.ctkvr_of(c as usize).map(|_| ()))?;
        let probes: Vec<(f32, u32)> = centroids.iter().map(|&c| (0.0, c)).collect();
        let mut out = Vec::new();
        if let Some(ctkvr) = &self.ctkvr {
            ctkvr.index.union(self.kernels, &probes, &mut ProbeScratch::default(), &mut out);
        }
        Ok(out)
    }

    /// Exact scores f32 `[group, candidates]` of any stored positions.
    pub fn scores(&self, query: &[f32], candidates: &[u32]) -> Result<Vec<f32>> {
        self.check_query(query)?;
        if let Some(&p) = candidates.iter().find(|&&p| p as usize >= self.num_tokens) {
            let expected = format!("below {}", self.num_tokens);
            return Err(Error::InvalidOption { option: "candidates", expected, actual: p.to_string() });
        }
        let scaled = self.scaled(query);
        let mut out = vec![0.0; self.group * candidates.len()];
        // SAFETY: checked above: the positions are stored.
        let rows = unsafe { self.kv().keys_at(candidates) };
        self.kernels.score_rows(&scaled, &rows, &mut out, candidates.len());
        Ok(out)
    }

    /// Probe, union and refine: candidates and selected positions, ascending.
    pub fn select(&self, query: &[f32]) -> Result<(Vec<u32>, Vec<u32>)> {
        let head = self.decode(query)?;
        Ok((head.searched().candidates().to_vec(), head.selected().to_vec()))
    }

    /// The whole attention of a query at the end of the sequence.
    pub fn attend(&self, query: &[f32]) -> Result<HeadAttention> {
        Ok(self.finish(self.decode(query)?))
    }

    /// The rest of a step after its selection.
    fn finish(&self, decode: HeadDecode) -> HeadAttention {
        attend_alone(self.kernels, &self.kv(), decode)
    }

    /// A decode step up to the selection.
    fn decode(&self, query: &[f32]) -> Result<HeadDecode> {
        if self.num_tokens == 0 {
            return Err(Error::InvalidOption { option: "keys", expected: "at least one token".into(), actual: "none".into() });
        }
        let (region, StepOptions { max_selected, top_p, .. }) = (self.region(), self.options.step);
        let layout = Layout { len: self.num_tokens, start: region.start, end: region.end, max_selected, top_p };
        let head = self.ctkvr.as_deref().filter(|_| !region.is_empty()).map(|head| head as &dyn HeadRetriever);
        self.decode_with(query, layout, head, |query, scratch, out| {
            if let Some(head) = head {
                head.search(&query, scratch, out);
            }
        })
    }

    /// A decode step up to the selection, by another search.
    fn decode_with(
        &self,
        query: &[f32],
        layout: Layout,
        head: Option<&dyn HeadRetriever>,
        search: impl FnOnce(HeadQuery<'_>, &mut Scratch, &mut Proposal),
    ) -> Result<HeadDecode> {
        self.check_query(query)?;
        let step = HeadStep { query, group: self.group, layout, may_repair: false };
        Ok(select_alone(self.kernels, &self.kv(), &step, head, search))
    }

    fn scaled(&self, query: &[f32]) -> Vec<f32> {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        query.iter().map(|x| x * scale).collect()
    }

    fn check_query(&self, query: &[f32]) -> Result<()> {
        check_len("query", query.len(), self.group * self.head_dim)?;
        check_finite("query", query)
    }

    fn check_candidates(&self, candidates: &[u32]) -> Result<()> {
        let region = self.region();
        let outside = candidates.iter().find(|&&p| !region.contains(&(p as usize)));
        let descending = || candidates.windows(2).find(|pair| pair[0] >= pair[1]).map(|pair| &pair[1]);
        match outside.or_else(descending) {
            None => Ok(()),
            Some(p) => {
                let expected = format!("ascending, from {} to below {}", region.start, region.end);
                Err(Error::InvalidOption { option: "candidates", expected, actual: p.to_string() })
            }
        }
    }

    /// The index, which has a centroid c.
    fn ctkvr_of(&self, c: usize) -> Result<&CtkvrHead> {
        let expected = format!("below {}", self.num_centroids());
        let refused = Error::InvalidOption { option: "centroid", expected, actual: c.to_string() };
        self.ctkvr.as_deref().filter(|ctkvr| c < ctkvr.index.num_centroids()).ok_or(refused)
    }
}

/// No tokens yet of one head, in a pool of its own.
fn one_head(head_dim: usize) -> BlockTable {
    BlockTable::new(Arc::new(HostKvPool::new(PageShape { num_heads: 1, head_dim }, None)), KvFormat::F16)
}

pub fn check_len(what: &'static str, actual: usize, expected: usize) -> Result<()> {
    if actual == expected { Ok(()) } else { Err(Error::ShapeMismatch { op: "headIndex", what, expected, actual }) }
}

pub fn check_finite(what: &'static str, data: &[f32]) -> Result<()> {
    match data.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { op: "headIndex", what, index }),
    }
}
