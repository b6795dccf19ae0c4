//! Texts as queries, keys and values, and a step of attention as a model graph drives it.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use ctkvr_core::{
    AttentionShape, CentroidChoice, Error, Phase, SelectionCounters, SelectorKind, SelectorOptions, SequenceId, SequenceRows,
};
use ctkvr_cpu::{ATTENTION_PHASES, AttentionBackend, CpuAttention, Job, LayerAttention, LayerIo, Team, Units};
use half::{bf16, f16};

/// A small generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        narrowed((((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 2.0)
    }
}

/// Rounded to what both bf16 and f16 hold, so that storing and products in bf16 lose nothing.
pub fn narrowed(x: f32) -> f32 {
    f16::from_f32(bf16::from_f32(x).to_f32()).to_f32()
}

/// Queries, keys and values of a text: layer, position, head. Queries drift slowly, as rotated queries of neighbours do.
pub struct Text {
    pub q: Vec<Vec<f32>>,
    pub k: Vec<Vec<f32>>,
    pub v: Vec<Vec<f32>>,
}

impl Text {
    pub fn new(shape: AttentionShape, seed: u64, len: usize) -> Self {
        let mut r = Random(seed);
        let (nq, nk) = (shape.num_q_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim);
        let mut make = |n: usize| (0..shape.num_layers).map(|_| (0..n).map(|_| r.next()).collect()).collect::<Vec<Vec<f32>>>();
        let mut q = make(len * nq);
        for layer in &mut q {
            for i in nq..layer.len() {
                layer[i] = narrowed(0.9 * layer[i - nq] + 0.3 * layer[i]);
            }
        }
        Self { q, k: make(len * nk), v: make(len * nk) }
    }
}

/// Settings for texts of some hundred tokens.
pub fn options(kind: SelectorKind) -> SelectorOptions {
    SelectorOptions {
        kind,
        num_sink_tokens: 4,
        recent_window: 32,
        num_centroids: 24,
        centroids: CentroidChoice::Last,
        centroids_per_list: 1,
        append_size: 48,
        list_len: 64,
        num_probes: 3,
        max_selected: 32,
        tail: true,
        dense_below: 0,
        dense_layers: false,
        ..SelectorOptions::full()
    }
}

/// The attention of one layer.
struct Layer<'a> {
    attention: &'a CpuAttention,
    layer: usize,
    io: LayerIo<'a>,
}

// SAFETY: the buffers outlive the job; units write disjoint parts.
unsafe impl Sync for Layer<'_> {}

impl Job for Layer<'_> {
    fn open(&self, phase: usize) -> Option<Units> {
        // SAFETY: as the trait asks.
        (phase < ATTENTION_PHASES).then(|| unsafe { self.attention.open(self.layer, phase, &self.io) })
    }

    fn work(&self, phase: usize, units: Range<usize>, thread: usize) -> usize {
        // SAFETY: as the trait asks.
        unsafe { self.attention.work(self.layer, phase, &self.io, units, thread) }
    }
}

/// Outputs `[layer][row, q head, d]` and the rows' counters.
pub type StepOutput = (Vec<Vec<f32>>, Vec<Option<SelectionCounters>>);

/// Feeds rows to the attention like a graph does, and collects `[layer][row, q head, d]`.
pub fn step(
    attention: &CpuAttention,
    threads: usize,
    rows: &[(SequenceId, &Text, std::ops::Range<usize>, Phase)],
    audit: bool,
) -> Result<StepOutput, Error> {
    let mut first_row = 0;
    let plan: Vec<_> = rows
        .iter()
        .map(|(sequence, _, range, phase)| {
            let r = SequenceRows { sequence: *sequence, first_row, num_rows: range.len(), phase: *phase };
            first_row += range.len();
            r
        })
        .collect();
    attention.begin_step(&plan, audit)?;
    let shape = attention.shape();
    let (nq, nk) = (shape.num_q_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim);
    let mut outputs = Vec::new();
    let team = Team::new(threads).expect("threads");
    for layer in 0..shape.num_layers {
        let join = |f: &dyn Fn(&Text) -> &[f32], n: usize| -> Vec<f32> {
            rows.iter().flat_map(|(_, text, range, _)| f(text)[range.start * n..range.end * n].iter().copied()).collect()
        };
        let q = join(&|t| &t.q[layer], nq);
        let (k, v) = (join(&|t| &t.k[layer], nk), join(&|t| &t.v[layer], nk));
        let mut out = vec![f32::NAN; q.len()];
        let io = LayerIo {
            queries: q.as_ptr(),
            keys: k.as_ptr(),
            values: v.as_ptr(),
            out: out.as_mut_ptr(),
            num_rows: first_row,
            prepare: &|_, _| (),
        };
        team.run(&Layer { attention, layer, io }, &AtomicBool::new(false)).expect("no panic");
        outputs.push(out);
    }
    Ok((outputs, attention.end_step().counters))
}
