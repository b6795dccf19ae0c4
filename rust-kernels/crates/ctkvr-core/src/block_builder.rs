//! Makes a block of centroids (design 2.1): scores of a few centroids' queries against all keys of the region at once, softmax, list,
//! tail; never centroids times keys.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::centroid_block::{CentroidBlock, Tail, pool};
use crate::error::{Error, Result};
use crate::kernels::{Gemm, Kernels, Rows};
use crate::panels::{BLOCK, transpose, widen_rows};
use crate::posting_lists::PostingLists;
use crate::quantised::QuantisedRows;
use crate::top_k::TopK;
use crate::volatility::{RegionWeights, VolatilityMeter};

/// Query rows scored against all keys at once: enough to amortise a pass over the keys, few enough that the scores stay in cache.
const ROWS_PER_PASS: usize = 28;
/// Of these, rows that tails are made of: enough for whole tiles of the matrix product.
const TAIL_ROWS_PER_PASS: usize = 12;
/// Keys of one accumulation step of the tail's matrix products.
const TAIL_STEP: usize = 256;

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
    /// Neighbouring centroids that share a list and a tail.
    pub(crate) per_list: usize,
    pub(crate) tail: bool,
}

impl BlockInput<'_> {
    /// Centroids of one pass: whole lists.
    pub(crate) fn centroids_per_pass(&self) -> usize {
        let by_rows = ROWS_PER_PASS / self.group / self.per_list;
        let by_tails = if self.tail { TAIL_ROWS_PER_PASS.div_ceil(self.group) } else { 1 };
        by_rows.max(by_tails) * self.per_list
    }

    fn num_centroids(&self) -> usize {
        self.queries.len() / (self.group * self.keys.head_dim())
    }
}

/// Builds a block on the calling thread; `meter` sees every centroid before its list is there. Memory beside the block: three f32 copies
/// of the region's keys or values, and a pass of scores.
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
    let tail_rows = CentroidBlock::num_lists_of(num_centroids, per_list) * group;
    let tail = input.tail.then(|| Tail {
        base: vec![f32::NEG_INFINITY; tail_rows],
        value: QuantisedRows::zeros(tail_rows, d),
        key: QuantisedRows::zeros(tail_rows, d),
    });
    let lists = PostingLists::default();
    let (start, end, made_at, grown_at) = (input.start, input.start + n, input.made_at, input.grown_at);
    let mut block = CentroidBlock { start, end, made_at, grown_at, group, head_dim: d, per_list, pooled, unit, lists, tail };
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
        pass.score(queries, per_list);
        if let Some(meter) = meter.as_deref_mut() {
            for (c, query) in queries.chunks_exact(group * d).enumerate() {
                if meter.samples(first + c) {
                    meter.add(&block, first + c, query, &pass.region_weights(c));
                }
            }
        }
        for l in 0..num_lists {
            let members = l * per_list..((l + 1) * per_list).min(count);
            block.lists.push(pass.list(l, members, input.list_len));
        }
        if let Some(tail) = block.tail.as_mut().filter(|_| input.list_len < n) {
            pass.tails(num_lists, first / per_list * group, tail);
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
    /// Where each of the pass's centroids has its `group` rows: those whose rows tails are made of come first.
    places: Vec<usize>,
    /// Keys transposed in blocks: `[ceil(n / BLOCK), d, BLOCK]`.
    panels: Vec<f32>,
    /// Keys and values, f32 `[n, d]`; empty when no tails are asked for.
    keys: Vec<f32>,
    values: Vec<f32>,
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
    means: Vec<f32>,
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
        let mut values = Vec::new();
        if input.tail {
            values.resize(n * d, 0.0);
            widen_rows(kernels, &input.values, 0, n, &mut values);
        } else {
            keys = Vec::new();
        }
        Ok(Self {
            kernels,
            scale,
            d,
            n,
            group: input.group,
            places: Vec::new(),
            panels,
            keys,
            values,
            stride: blocks * BLOCK,
            queries: Vec::new(),
            weights: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            scores: Vec::new(),
            selected: Vec::new(),
            top_k: TopK::default(),
            means: Vec::new(),
        })
    }

    /// Softmax weights, unnormalised, of every query row over the region.
    fn score(&mut self, queries: &[f32], per_list: usize) {
        let rows = queries.len() / self.d;
        let count = rows / self.group;
        let num_lists = CentroidBlock::num_lists_of(count, per_list);
        self.places.clear();
        self.places.resize(count, usize::MAX);
        (0..num_lists).for_each(|l| self.places[CentroidBlock::middle(l, per_list, count)] = l);
        let others = self.places.iter_mut().filter(|p| **p == usize::MAX);
        others.zip(num_lists..).for_each(|(place, next)| *place = next);
        self.queries.resize(queries.len(), 0.0);
        let row_len = self.group * self.d;
        for (query, place) in queries.chunks_exact(row_len).zip(&self.places) {
            let target = &mut self.queries[place * row_len..(place + 1) * row_len];
            target.iter_mut().zip(query).for_each(|(q, x)| *q = x * self.scale);
        }
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

    fn rows_of(&self, c: usize) -> std::ops::Range<usize> {
        self.places[c] * self.group..(self.places[c] + 1) * self.group
    }

    /// What the pass's c-th centroid attends to.
    fn region_weights(&self, c: usize) -> RegionWeights<'_> {
        let rows = self.rows_of(c);
        RegionWeights {
            weights: &self.weights[rows.start * self.stride..rows.end * self.stride],
            stride: self.stride,
            num_keys: self.n,
            maxima: &self.maxima[rows.clone()],
            sums: &self.sums[rows],
        }
    }

    /// The pass's l-th list, that of `members`; its positions' weights become 0 in the middle one's rows, so that what remains is the tail.
    fn list(&mut self, l: usize, members: std::ops::Range<usize>, list_len: usize) -> &[u32] {
        let group = self.group;
        self.scores.clear();
        self.scores.resize(self.n, 0.0);
        for r in self.places[members].iter().flat_map(|p| p * group..(p + 1) * group) {
            // SAFETY: both hold n values.
            unsafe {
                let row = self.weights.as_ptr().add(r * self.stride);
                (self.kernels.add_scaled)(row, self.n, 1.0 / self.sums[r], self.scores.as_mut_ptr());
            }
        }
        self.top_k.select(self.kernels, &self.scores, list_len, &mut self.selected);
        for r in l * group..(l + 1) * group {
            let row = &mut self.weights[r * self.stride..r * self.stride + self.n];
            self.selected.iter().for_each(|&p| row[p as usize] = 0.0);
        }
        &self.selected
    }

    /// Fills the tail rows from `first_row` on with what the middle centroid of each of the pass's lists sees beyond the list.
    fn tails(&mut self, num_lists: usize, first_row: usize, tail: &mut Tail) {
        let (d, rows) = (self.d, num_lists * self.group);
        // Mean values, then mean keys.
        self.means.clear();
        self.means.resize(2 * rows * d, 0.0);
        for (source, out) in [(&self.values, 0), (&self.keys, rows * d)] {
            for step in (0..self.n).step_by(TAIL_STEP) {
                let product = Gemm {
                    // SAFETY: the step starts inside the row, the source and the means.
                    a: unsafe { self.weights.as_ptr().add(step) },
                    lda: self.stride,
                    // SAFETY: as above.
                    b: unsafe { source.as_ptr().add(step * d) },
                    ldb: d,
                    // SAFETY: as above.
                    c: unsafe { self.means.as_mut_ptr().add(out) },
                    ldc: d,
                    m: rows,
                    n: d,
                    k: TAIL_STEP.min(self.n - step),
                    accumulate: true,
                };
                // SAFETY: the matrices hold what the product says.
                unsafe { (self.kernels.gemm)(&product) };
            }
        }
        let (values, keys) = self.means.split_at_mut(rows * d);
        for r in 0..rows {
            let sum = lane_sum(&self.weights[r * self.stride..r * self.stride + self.n]);
            if sum <= 0.0 {
                continue;
            }
            let (value, key) = (&mut values[r * d..(r + 1) * d], &mut keys[r * d..(r + 1) * d]);
            for x in value.iter_mut().chain(key.iter_mut()) {
                *x = (f64::from(*x) / sum) as f32;
            }
            let row = first_row + r;
            tail.value.set(row, value);
            tail.key.set(row, key);
            let scaled = &self.queries[r * d..(r + 1) * d];
            let dot: f32 = scaled.iter().zip(tail.key.row(row)).map(|(a, b)| a * b).sum();
            tail.base[row] = self.maxima[r] + (sum as f32).ln() - dot;
        }
    }
}

/// Sum in 16 lanes of f32, joined in f64: fast, and off by n / 16 roundings at most.
fn lane_sum(x: &[f32]) -> f64 {
    let mut lanes = [0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(a, b)| *a += b);
    }
    lanes.iter().chain(rest).map(|&v| f64::from(v)).sum()
}

/// Finite f16-sized keys and queries cannot make a score that is not.
fn check_finite(what: &'static str, x: &[f32]) -> Result<()> {
    match x.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { op: "buildIndex", what, index }),
    }
}
