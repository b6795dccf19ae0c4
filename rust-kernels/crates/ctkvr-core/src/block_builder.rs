//! Makes a block of centroids (design 2.1): scores of a few centroids' queries against all keys of the region at once, softmax, list;
//! never centroids times keys.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::centroid_block::{CentroidBlock, pool};
use crate::error::{Error, Result};
use crate::kernels::{Gemm, Kernels, Rows};
use crate::panels::{BLOCK, transpose, widen_rows};
use crate::posting_lists::PostingLists;
use crate::quantised::QuantisedRows;
use crate::top_k::TopK;
use crate::volatility::{RegionWeights, VolatilityMeter};

/// Query rows scored against all keys at once: enough to amortise a pass over the keys, few enough that the scores stay in cache.
const ROWS_PER_PASS: usize = 28;

/// What a block is made from.
pub(crate) struct BlockInput<'a> {
    /// Keys and values of the region, in order.
    pub(crate) keys: Rows<'a>,
    pub(crate) values: Rows<'a>,
    /// Position of the first of them.
    pub(crate) start: usize,
    /// Tokens stored now, and tokens whose queries have had their turn to become centroids.
    pub(crate) made_at: usize,
    pub(crate) grown_at: usize,
    /// f32 `[num_centroids, group, head_dim]`, after rotary embedding, oldest first.
    pub(crate) queries: &'a [f32],
    pub(crate) group: usize,
    pub(crate) list_len: usize,
    /// Neighbouring centroids that share a list.
    pub(crate) per_list: usize,
    /// Whether an index of it has a tail, and how many positions share a cluster of it.
    pub(crate) tail: bool,
    pub(crate) cluster_size: usize,
}

impl BlockInput<'_> {
    /// Centroids of one pass: whole lists.
    pub(crate) fn centroids_per_pass(&self) -> usize {
        (ROWS_PER_PASS / self.group / self.per_list).max(1) * self.per_list
    }

    fn num_centroids(&self) -> usize {
        self.queries.len() / (self.group * self.keys.head_dim())
    }

    /// A block without centroids.
    pub(crate) fn bare_block(&self) -> CentroidBlock {
        let (d, end) = (self.keys.head_dim(), self.start + self.keys.len());
        let (pooled, unit) = (QuantisedRows::zeros(0, d), QuantisedRows::zeros(0, d));
        let Self { start, made_at, grown_at, group, per_list, .. } = *self;
        CentroidBlock { start, end, made_at, grown_at, group, head_dim: d, per_list, pooled, unit, lists: PostingLists::default() }
    }
}

/// Builds a block on the calling thread; `meter` sees every centroid before its list is there. Memory beside the block: two f32 copies of
/// the region's keys, and a pass of scores.
pub(crate) fn build_block(
    kernels: &Kernels,
    input: &BlockInput,
    mut meter: Option<&mut VolatilityMeter>,
    cancel: &AtomicBool,
) -> Result<CentroidBlock> {
    let (d, group, n, per_list) = (input.keys.head_dim(), input.group, input.keys.len(), input.per_list);
    let num_centroids = input.num_centroids();
    if input.queries.len() != num_centroids * group * d || num_centroids == 0 {
        let expected = (num_centroids.max(1)) * group * d;
        return Err(Error::ShapeMismatch { op: "buildIndex", what: "queries", expected, actual: input.queries.len() });
    }
    check_finite("queries", input.queries)?;
    let (unit, pooled) = normalise_all(input.queries, group, d);
    let mut block = CentroidBlock { unit, pooled, ..input.bare_block() };
    let mut pass = Pass::new(kernels, input)?;
    let per_pass = input.centroids_per_pass();
    for first in (0..num_centroids).step_by(per_pass) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let count = per_pass.min(num_centroids - first);
        let num_lists = CentroidBlock::num_lists_of(count, per_list);
        if n == 0 {
            (0..num_lists).for_each(|_| block.lists.push(&[]));
            continue;
        }
        let queries = &input.queries[first * group * d..(first + count) * group * d];
        pass.score(queries);
        if let Some(meter) = meter.as_deref_mut() {
            for (c, query) in queries.chunks_exact(group * d).enumerate() {
                if meter.samples(first + c) {
                    meter.add(&block, first + c, query, &pass.region_weights(c));
                }
            }
        }
        for l in 0..num_lists {
            let members = l * per_list..((l + 1) * per_list).min(count);
            block.lists.push(pass.list(members, input.list_len));
        }
    }
    block.lists.shrink();
    Ok(block)
}

/// Unit and pooled vectors of all centroids, quantised.
fn normalise_all(queries: &[f32], group: usize, d: usize) -> (QuantisedRows, QuantisedRows) {
    let num_centroids = queries.len() / (group * d);
    let (mut unit, mut pooled) = (QuantisedRows::zeros(num_centroids * group, d), QuantisedRows::zeros(num_centroids, d));
    let (mut heads, mut sum) = (vec![0.0; group * d], vec![0.0; d]);
    for c in 0..num_centroids {
        heads.copy_from_slice(&queries[c * group * d..(c + 1) * group * d]);
        pool(&mut heads, &mut sum);
        for (h, head) in heads.chunks_exact(d).enumerate() {
            unit.set(c * group + h, head);
        }
        pooled.set(c, &sum);
    }
    (unit, pooled)
}

/// Scores of a few centroids' queries against all keys, and what is made of them.
struct Pass<'a> {
    kernels: &'a Kernels,
    scale: f32,
    d: usize,
    n: usize,
    group: usize,
    /// Keys transposed in blocks: `[ceil(n / BLOCK), d, BLOCK]`.
    panels: Vec<f32>,
    /// Row length of `weights`: n rounded up to whole blocks.
    stride: usize,
    queries: Vec<f32>,
    /// e^(score - row maximum), f32 `[rows, stride]`.
    weights: Vec<f32>,
    maxima: Vec<f32>,
    sums: Vec<f32>,
    /// One centroid's scores, summed over its group.
    scores: Vec<f32>,
    selected: Vec<u32>,
    top_k: TopK,
}

impl<'a> Pass<'a> {
    fn new(kernels: &'a Kernels, input: &BlockInput) -> Result<Self> {
        let (d, n) = (input.keys.head_dim(), input.keys.len());
        let scale = 1.0 / (d as f32).sqrt();
        let blocks = n.div_ceil(BLOCK);
        let mut panels = vec![0.0; blocks * d * BLOCK];
        let mut keys = vec![0.0; n * d];
        widen_rows(kernels, &input.keys, 0, n, &mut keys);
        check_finite("keys", &keys)?;
        for (b, panel) in panels.chunks_exact_mut(d * BLOCK).enumerate() {
            let count = BLOCK.min(n - b * BLOCK);
            transpose(&keys[b * BLOCK * d..(b * BLOCK + count) * d], count, d, panel);
        }
        Ok(Self {
            kernels,
            scale,
            d,
            n,
            group: input.group,
            panels,
            stride: blocks * BLOCK,
            queries: Vec::new(),
            weights: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            scores: Vec::new(),
            selected: Vec::new(),
            top_k: TopK::default(),
        })
    }

    /// Softmax weights, unnormalised, of every query row over the region.
    fn score(&mut self, queries: &[f32]) {
        let rows = queries.len() / self.d;
        self.queries.clear();
        self.queries.extend(queries.iter().map(|x| x * self.scale));
        self.weights.resize(rows * self.stride, 0.0);
        for (b, panel) in self.panels.chunks_exact(self.d * BLOCK).enumerate() {
            let product = Gemm {
                a: self.queries.as_ptr(),
                lda: self.d,
                b: panel.as_ptr(),
                ldb: BLOCK,
                // SAFETY: block b's columns are inside the row.
                c: unsafe { self.weights.as_mut_ptr().add(b * BLOCK) },
                ldc: self.stride,
                m: rows,
                n: BLOCK,
                k: self.d,
                accumulate: false,
            };
            // SAFETY: weights hold rows * stride values, a panel d * BLOCK.
            unsafe { (self.kernels.gemm)(&product) };
        }
        self.maxima.clear();
        self.sums.clear();
        for row in self.weights.chunks_exact_mut(self.stride).take(rows) {
            let row = &mut row[..self.n];
            // SAFETY: the row holds n values.
            let max = unsafe { (self.kernels.max)(row.as_ptr(), row.len()) };
            // SAFETY: as above, and max bounds the row.
            let sum = unsafe { (self.kernels.exp_sub)(row.as_mut_ptr(), row.len(), max) };
            self.maxima.push(max);
            self.sums.push(sum);
        }
    }

    /// What the pass's c-th centroid attends to.
    fn region_weights(&self, c: usize) -> RegionWeights<'_> {
        let rows = c * self.group..(c + 1) * self.group;
        RegionWeights {
            weights: &self.weights[rows.start * self.stride..rows.end * self.stride],
            stride: self.stride,
            num_keys: self.n,
            maxima: &self.maxima[rows.clone()],
            sums: &self.sums[rows],
        }
    }

    /// The list of some of the pass's centroids.
    fn list(&mut self, members: std::ops::Range<usize>, list_len: usize) -> &[u32] {
        self.scores.clear();
        self.scores.resize(self.n, 0.0);
        for r in members.start * self.group..members.end * self.group {
            // SAFETY: both hold n values.
            unsafe {
                let row = self.weights.as_ptr().add(r * self.stride);
                (self.kernels.add_scaled)(row, self.n, 1.0 / self.sums[r], self.scores.as_mut_ptr());
            }
        }
        self.top_k.select(self.kernels, &self.scores, list_len, &mut self.selected);
        &self.selected
    }
}

/// Finite f16-sized keys and queries cannot make a score that is not.
fn check_finite(what: &'static str, x: &[f32]) -> Result<()> {
    match x.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { op: "buildIndex", what, index }),
    }
}
