//! The query-centric inverted index of one KV head (design 2.1, 2.2; paper section 3): prefill queries as centroids, each with the
//! list of its best positions and a constant-size summary, the tail, of everything else.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::kernels::{Gemm, Kernels, Rows};
use crate::panels::{BLOCK, transpose, widen_rows};
use crate::posting_lists::PostingLists;
use crate::quantised::QuantisedRows;
use crate::top_k::TopK;
use crate::volatility::{RegionWeights, VolatilityMeter};

/// Centroids that the coarse pass keeps for each one probed.
const COARSE_PER_PROBE: usize = 8;
/// Query rows scored against all keys at once: enough to amortise a pass over the keys, few enough that the scores stay in cache.
const ROWS_PER_PASS: usize = 28;
/// What stands at a position that is in a list.
const MARK: u8 = 255;
/// Keys of one accumulation step of the tail's matrix products.
const TAIL_STEP: usize = 256;

/// What an index is built from.
pub struct BuildInput<'a> {
    /// Keys and values of the indexed region, in order.
    pub keys: Rows<'a>,
    pub values: Rows<'a>,
    /// Position of the first of them.
    pub start: usize,
    /// f32 `[num_centroids, group, head_dim]`, after rotary embedding, oldest first.
    pub queries: &'a [f32],
    pub group: usize,
    pub list_len: usize,
    pub tail: bool,
    /// Keys that are read whatever the index says (sinks, window), and how many centroids a decode step will visit: what
    /// [`CentroidIndex::volatility`] is measured with.
    pub always: [Rows<'a>; 2],
    pub num_probes: usize,
}

/// One KV head's index. Immutable once built.
pub struct CentroidIndex {
    start: usize,
    len: usize,
    group: usize,
    head_dim: usize,
    /// `[num_centroids, head_dim]`: normalised sum of the group's normalised queries.
    pooled: QuantisedRows,
    /// `[num_centroids * group, head_dim]`: normalised queries.
    unit: QuantisedRows,
    lists: PostingLists,
    tail: Option<Tail>,
    volatility: f32,
}

/// What is not in a centroid's list, per query head: row `c * group + h`.
struct Tail {
    /// log-sum-exp minus scale * query . key: so that lse at another query is base + scale * query . key (first order, design 2.2.5).
    base: Vec<f32>,
    /// Softmax-weighted mean value and key.
    value: QuantisedRows,
    key: QuantisedRows,
}

/// Reused memory of a probe.
#[derive(Default)]
pub struct ProbeScratch {
    unit_query: Vec<f32>,
    pooled_query: Vec<f32>,
    similarities: Vec<f32>,
    order: Vec<(f32, u32)>,
    marks: Vec<u8>,
}

impl CentroidIndex {
    /// Builds the index on the calling thread. Memory beside the index: three f32 copies of the region's keys or values, and
    /// `ROWS_PER_PASS` rows of scores; never centroids times keys.
    pub fn build(kernels: &Kernels, input: &BuildInput, cancel: &AtomicBool) -> Result<Self> {
        let (d, group, n) = (input.keys.head_dim(), input.group, input.keys.len());
        let num_centroids = input.queries.len() / (group * d);
        if input.queries.len() != num_centroids * group * d || num_centroids == 0 {
            let expected = (num_centroids.max(1)) * group * d;
            return Err(Error::ShapeMismatch { op: "buildIndex", what: "queries", expected, actual: input.queries.len() });
        }
        let scale = 1.0 / (d as f32).sqrt();
        let (unit, pooled) = normalise_all(input.queries, group, d);
        let rows = num_centroids * group;
        let tail = input.tail.then(|| Tail {
            base: vec![f32::NEG_INFINITY; rows],
            value: QuantisedRows::zeros(rows, d),
            key: QuantisedRows::zeros(rows, d),
        });
        let lists = PostingLists::default();
        let mut index = Self { start: input.start, len: n, group, head_dim: d, pooled, unit, lists, tail, volatility: 0.0 };
        check_finite("queries", input.queries)?;
        let mut pass = Pass::new(kernels, input, scale)?;
        let per_pass = (ROWS_PER_PASS / group).max(1);
        let mut meter = VolatilityMeter::new(kernels, input.always, num_centroids, input.num_probes, per_pass);
        for first in (0..num_centroids).step_by(per_pass) {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let count = per_pass.min(num_centroids - first);
            if n == 0 {
                (0..count).for_each(|_| index.lists.push(&[]));
                continue;
            }
            let queries = &input.queries[first * group * d..(first + count) * group * d];
            pass.score(queries);
            for (c, query) in queries.chunks_exact(group * d).enumerate() {
                if meter.samples(first + c) {
                    meter.add(&index, first + c, query, &pass.region_weights(c, group));
                }
            }
            for c in 0..count {
                index.lists.push(pass.list(c, group, input.list_len));
            }
            if let Some(tail) = index.tail.as_mut().filter(|_| input.list_len < n) {
                pass.tail(queries, first * group, tail);
            }
        }
        index.lists.shrink();
        index.volatility = meter.volatility();
        Ok(index)
    }

    /// How much decode queries will miss that the tail cannot stand for; see [`VolatilityMeter::volatility`].
    pub fn volatility(&self) -> f32 {
        self.volatility
    }

    /// First indexed position.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Drops the lists: from now on the index only says what stands for the keys whose values are not read.
    pub(crate) fn drop_lists(&mut self) {
        self.lists = PostingLists::default();
    }

    pub fn num_centroids(&self) -> usize {
        self.pooled.scales.len()
    }

    /// Query heads of the KV head.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let tail = self.tail.as_ref().map_or(0, |t| t.base.len() * size_of::<f32>() + t.value.bytes() + t.key.bytes());
        self.pooled.bytes() + self.unit.bytes() + self.lists.bytes() + tail
    }

    /// Positions of centroid c's list, ascending.
    pub fn list(&self, c: usize) -> Vec<u32> {
        let mut out = Vec::new();
        self.lists.for_each(c, |p| out.push((self.start + p) as u32));
        out
    }

    /// The `num_probes` centroids most similar to the query, best first (ties: smaller id), with their similarities. Coarse by
    /// pooled vectors, then the mean cosine over the group among `COARSE_PER_PROBE` times as many. Returns the bytes read.
    /// `query` f32 `[group, head_dim]`.
    pub fn probe(
        &self,
        kernels: &Kernels,
        query: &[f32],
        num_probes: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<(f32, u32)>,
    ) -> usize {
        let bytes = self.probe_among(kernels, query, self.num_centroids(), num_probes, scratch, out);
        self.prefetch(kernels, out);
        bytes
    }

    /// Probes the first `num_centroids` centroids, at least one.
    pub(crate) fn probe_among(
        &self,
        kernels: &Kernels,
        query: &[f32],
        num_centroids: usize,
        num_probes: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<(f32, u32)>,
    ) -> usize {
        let d = self.head_dim;
        scratch.unit_query.clear();
        scratch.unit_query.extend_from_slice(query);
        scratch.pooled_query.resize(d, 0.0);
        pool(&mut scratch.unit_query, &mut scratch.pooled_query);
        scratch.similarities.resize(scratch.similarities.len().max(num_centroids), 0.0);
        let similarities = &mut scratch.similarities;
        // SAFETY: codes hold num_centroids * d values, similarities at least num_centroids.
        unsafe {
            let codes = self.pooled.codes.as_ptr();
            (kernels.score_codes)(scratch.pooled_query.as_ptr(), codes, num_centroids, d, similarities.as_mut_ptr());
        }
        scratch.order.clear();
        scratch.order.extend(
            similarities[..num_centroids].iter().zip(&self.pooled.scales).enumerate().map(|(c, (s, scale))| (s * scale, c as u32)),
        );
        let keep = (COARSE_PER_PROBE.saturating_mul(num_probes)).min(num_centroids);
        keep_best(&mut scratch.order, keep);
        for &(_, c) in &scratch.order {
            let row = c as usize * self.group;
            // SAFETY: the rows of one centroid's heads lie side by side.
            unsafe { (kernels.prefetch)(self.unit.codes(row).as_ptr().cast(), self.group * d) };
        }
        for (similarity, c) in &mut scratch.order {
            *similarity = 0.0;
            for h in 0..self.group {
                let row = *c as usize * self.group + h;
                let mut dot = 0.0;
                // SAFETY: one row of d codes against one query head of d values.
                unsafe {
                    let q = scratch.unit_query.as_ptr().add(h * d);
                    (kernels.score_codes)(q, self.unit.codes(row).as_ptr(), 1, d, &mut dot);
                }
                *similarity += dot * self.unit.scales[row];
            }
            *similarity /= self.group as f32;
        }
        keep_best(&mut scratch.order, num_probes.min(num_centroids));
        out.clear();
        out.extend_from_slice(&scratch.order);
        num_centroids * (d + 4) + keep * self.group * (d + 4)
    }

    /// Asks for what `union` and `tail` will read.
    fn prefetch(&self, kernels: &Kernels, probes: &[(f32, u32)]) {
        // SAFETY: the bytes are the index's own.
        unsafe {
            for &(_, c) in probes.iter().filter(|(_, c)| (*c as usize) < self.lists.len()) {
                let list = self.lists.encoded(c as usize);
                (kernels.prefetch)(list.as_ptr(), list.len());
            }
            if let (Some(tail), Some(&(_, nearest))) = (&self.tail, probes.first()) {
                let row = nearest as usize * self.group;
                for rows in [&tail.key, &tail.value] {
                    (kernels.prefetch)(rows.codes(row).as_ptr().cast(), self.group * self.head_dim);
                }
            }
        }
    }

    /// Ascending union of the lists of `probes`, as positions. Returns the bytes read.
    pub fn union(&self, kernels: &Kernels, probes: &[(f32, u32)], scratch: &mut ProbeScratch, out: &mut Vec<u32>) -> usize {
        // A byte a position: marking needs no read.
        let marks = &mut scratch.marks;
        marks.clear();
        marks.resize(self.len.next_multiple_of(64), 0);
        let mut bytes = 0;
        for &(_, c) in probes {
            self.lists.for_each(c as usize, |p| marks[p] = MARK);
            bytes += self.lists.encoded(c as usize).len();
        }
        out.clear();
        out.reserve(bytes + 64);
        // SAFETY: marks are whole words; a list has no more positions than bytes, and 64 more fit.
        unsafe {
            let len = (kernels.marked)(marks.as_ptr(), marks.len(), self.start as u32, out.as_mut_ptr());
            out.set_len(len);
        }
        bytes
    }

    /// What centroid c's list leaves out, seen from `query_scaled` (f32 `[group, head_dim]`, times 1/sqrt(head_dim)): writes
    /// log-sum-exp `[group]` and mean value `[group, head_dim]`. Returns the bytes read; nothing is written without tails.
    pub fn tail(&self, kernels: &Kernels, c: usize, query_scaled: &[f32], lse: &mut [f32], value: &mut [f32]) -> usize {
        let Some(tail) = &self.tail else { return 0 };
        let d = self.head_dim;
        for h in 0..self.group {
            let row = c * self.group + h;
            let mut dot = 0.0;
            // SAFETY: one row of d codes against one query head of d values.
            unsafe {
                let q = query_scaled[h * d..(h + 1) * d].as_ptr();
                (kernels.score_codes)(q, tail.key.codes(row).as_ptr(), 1, d, &mut dot);
            }
            lse[h] = tail.base[row] + dot * tail.key.scales[row];
            for (out, x) in value[h * d..(h + 1) * d].iter_mut().zip(tail.value.row(row)) {
                *out = x;
            }
        }
        self.group * 2 * (d + 6)
    }

    /// Stored tail of centroid c: log-sum-exp at its own query `[group]`, mean value and mean key `[group, head_dim]`, or `None`.
    pub fn stored_tail(&self, c: usize, query: &[f32]) -> Option<(Vec<f32>, Vec<f32>, Vec<f32>)> {
        let tail = self.tail.as_ref()?;
        let (d, scale) = (self.head_dim, 1.0 / (self.head_dim as f32).sqrt());
        let rows = c * self.group..(c + 1) * self.group;
        let key: Vec<f32> = rows.clone().flat_map(|row| tail.key.row(row)).collect();
        let value = rows.clone().flat_map(|row| tail.value.row(row)).collect();
        let lse = rows
            .enumerate()
            .map(|(h, row)| {
                let dot: f32 = query[h * d..(h + 1) * d].iter().zip(&key[h * d..]).map(|(a, b)| a * b).sum();
                tail.base[row] + scale * dot
            })
            .collect();
        Some((lse, value, key))
    }
}

/// Keeps the `keep` largest, in descending order; ties go to the smaller id.
fn keep_best(order: &mut Vec<(f32, u32)>, keep: usize) {
    let descending = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if keep < order.len() {
        order.select_nth_unstable_by(keep, descending);
        order.truncate(keep);
    }
    order.sort_unstable_by(descending);
}

/// Normalises each head of `unit` in place and writes the normalised sum to `pooled`. A zero vector stays zero.
fn pool(unit: &mut [f32], pooled: &mut [f32]) {
    pooled.fill(0.0);
    for head in unit.chunks_exact_mut(pooled.len()) {
        normalise(head);
        pooled.iter_mut().zip(head).for_each(|(p, x)| *p += *x);
    }
    normalise(pooled);
}

fn normalise(x: &mut [f32]) {
    let norm = x.iter().map(|v| v * v).sum::<f32>().sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|v| *v /= norm);
    }
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
    fn new(kernels: &'a Kernels, input: &BuildInput, scale: f32) -> Result<Self> {
        let (d, n) = (input.keys.head_dim(), input.keys.len());
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
    fn region_weights(&self, c: usize, group: usize) -> RegionWeights<'_> {
        let rows = c * group..(c + 1) * group;
        RegionWeights {
            weights: &self.weights[rows.start * self.stride..rows.end * self.stride],
            stride: self.stride,
            num_keys: self.n,
            maxima: &self.maxima[rows.clone()],
            sums: &self.sums[rows],
        }
    }

    /// The list of the pass's c-th centroid; its positions' weights become 0, so that what remains is the tail.
    fn list(&mut self, c: usize, group: usize, list_len: usize) -> &[u32] {
        self.scores.clear();
        self.scores.resize(self.n, 0.0);
        for r in c * group..(c + 1) * group {
            // SAFETY: both hold n values.
            unsafe {
                let row = self.weights.as_ptr().add(r * self.stride);
                (self.kernels.add_scaled)(row, self.n, 1.0 / self.sums[r], self.scores.as_mut_ptr());
            }
        }
        self.top_k.select(&self.scores, list_len, &mut self.selected);
        for r in c * group..(c + 1) * group {
            let row = &mut self.weights[r * self.stride..r * self.stride + self.n];
            self.selected.iter().for_each(|&p| row[p as usize] = 0.0);
        }
        &self.selected
    }

    /// Fills the tails of the pass's rows, `first_row` on; `queries` are theirs, unscaled.
    fn tail(&mut self, queries: &[f32], first_row: usize, tail: &mut Tail) {
        let (d, rows) = (self.d, self.maxima.len());
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
            let weights = &self.weights[r * self.stride..r * self.stride + self.n];
            let sum = lane_sum(weights);
            let row = first_row + r;
            if sum <= 0.0 {
                continue;
            }
            let (value, key) = (&mut values[r * d..(r + 1) * d], &mut keys[r * d..(r + 1) * d]);
            for x in value.iter_mut().chain(key.iter_mut()) {
                *x = (f64::from(*x) / sum) as f32;
            }
            tail.value.set(row, value);
            tail.key.set(row, key);
            let dot: f32 = queries[r * d..(r + 1) * d].iter().zip(tail.key.row(row)).map(|(a, b)| a * b).sum();
            tail.base[row] = self.maxima[r] + (sum as f32).ln() - self.scale * dot;
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
