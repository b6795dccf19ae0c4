//! Makes a segment of centroids: scores of a few centroids' queries against all keys of the region at once, softmax, list;
//! never centroids times keys. Neighbouring centroids that share a list make it together.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::index::centroid_segment::{CentroidSegment, pool};
use crate::index::posting_lists::PostingLists;
use crate::index::quantised::QuantisedRows;
use crate::index::volatility::{RegionWeights, VolatilityMeter};
use crate::kv::key_panels::KeyPanels;
use crate::refine::top_k::TopK;
use crate::tail::ClusterOptions;
use ctkvr_kernels::{Kernels, Rows};

/// Query rows scored against all keys at once: enough to amortise a pass over the keys, few enough that the scores stay in cache.
const ROWS_PER_PASS: usize = 28;

/// What a segment is made from.
pub struct SegmentInput<'a> {
    /// Keys and values of the region, in order.
    pub keys: Rows<'a>,
    pub values: Rows<'a>,
    /// Position of the first of them.
    pub start: usize,
    /// Tokens stored now, and tokens whose queries have had their turn to become centroids.
    pub made_at: usize,
    pub grown_at: usize,
    /// f32 `[num_centroids, group, head_dim]`, after rotary embedding, oldest first.
    pub queries: &'a [f32],
    pub group: usize,
    pub list_len: usize,
    /// Neighbouring centroids that share a list.
    pub per_list: usize,
    /// The tail's clusters; `None`: no tail.
    pub clusters: Option<ClusterOptions>,
}

impl SegmentInput<'_> {
    /// Lists of one pass.
    fn lists_per_pass(&self) -> usize {
        (ROWS_PER_PASS / self.group / self.per_list).max(1)
    }

    /// Centroids whose lists come at once.
    pub fn centroids_per_pass(&self) -> usize {
        self.lists_per_pass() * self.per_list
    }

    fn num_centroids(&self) -> usize {
        self.queries.len() / (self.group * self.keys.head_dim())
    }

    /// A segment without centroids.
    pub fn bare_segment(&self) -> CentroidSegment {
        let (d, end) = (self.keys.head_dim(), self.start + self.keys.len());
        let pooled = QuantisedRows::zeros(0, d);
        let Self { start, made_at, grown_at, group, per_list, .. } = *self;
        CentroidSegment { start, end, made_at, grown_at, group, head_dim: d, per_list, pooled, lists: PostingLists::default() }
    }
}

/// Builds a segment on the calling thread; `meter` sees the middle centroid of every list before that is there. Memory beside the segment: the
/// region's keys in f32 or bf16, and a pass of scores.
pub fn build_segment(
    kernels: &Kernels,
    input: &SegmentInput,
    mut meter: Option<&mut VolatilityMeter>,
    cancel: &AtomicBool,
) -> Result<CentroidSegment> {
    let (d, group, n, per_list) = (input.keys.head_dim(), input.group, input.keys.len(), input.per_list);
    let num_centroids = input.num_centroids();
    if input.queries.len() != num_centroids * group * d || num_centroids == 0 {
        let expected = (num_centroids.max(1)) * group * d;
        return Err(Error::ShapeMismatch { op: "buildIndex", what: "queries", expected, actual: input.queries.len() });
    }
    check_queries(input.queries)?;
    let mut segment = CentroidSegment { pooled: pool_all(input.queries, group, d), ..input.bare_segment() };
    let num_lists = CentroidSegment::num_lists_of(num_centroids, per_list);
    if n == 0 {
        (0..num_lists).for_each(|_| segment.lists.push(&[]));
        return Ok(segment);
    }
    let query = |c: usize| &input.queries[c * group * d..(c + 1) * group * d];
    let mut pass = Pass::new(kernels, input)?;
    for first in (0..num_lists).step_by(input.lists_per_pass()) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let lists = first..(first + input.lists_per_pass()).min(num_lists);
        let centroids = lists.start * per_list..(lists.end * per_list).min(num_centroids);
        pass.score(centroids.clone().map(query));
        if let Some(meter) = meter.as_deref_mut() {
            for list in lists.clone() {
                let c = segment.middle_of(list);
                if meter.samples(list, c) {
                    meter.add(&segment, c, query(c), &pass.region_weights(c - centroids.start));
                }
            }
        }
        for list in lists {
            let members = list * per_list..((list + 1) * per_list).min(num_centroids);
            segment.lists.push(pass.list(members.start - centroids.start..members.end - centroids.start, input.list_len));
        }
    }
    segment.lists.shrink();
    Ok(segment)
}

/// Pooled vectors of all centroids, quantised.
fn pool_all(queries: &[f32], group: usize, d: usize) -> QuantisedRows {
    let mut rows = QuantisedRows::zeros(queries.len() / (group * d), d);
    let mut pooled = vec![0.0; d];
    for (c, query) in queries.chunks_exact(group * d).enumerate() {
        pool(query, &mut pooled);
        rows.set(c, &pooled);
    }
    rows
}

/// Scores of a few centroids' queries against all keys, and what is made of them.
struct Pass<'a> {
    kernels: &'a Kernels,
    scale: f32,
    n: usize,
    group: usize,
    keys: KeyPanels<'a>,
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
    fn new(kernels: &'a Kernels, input: &SegmentInput) -> Result<Self> {
        Ok(Self {
            kernels,
            scale: 1.0 / (input.keys.head_dim() as f32).sqrt(),
            n: input.keys.len(),
            group: input.group,
            keys: KeyPanels::new(kernels, &input.keys)?,
            queries: Vec::new(),
            weights: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            scores: Vec::new(),
            selected: Vec::new(),
            top_k: TopK::default(),
        })
    }

    /// Softmax weights, unnormalised, of some centroids' queries over the region.
    fn score<'q>(&mut self, queries: impl ExactSizeIterator<Item = &'q [f32]>) {
        let (rows, stride) = (queries.len() * self.group, self.keys.stride());
        self.queries.clear();
        self.queries.extend(queries.flatten().map(|x| x * self.scale));
        self.weights.resize(self.weights.len().max(rows * stride), 0.0);
        self.keys.score(&self.queries, &mut self.weights);
        self.maxima.clear();
        self.sums.clear();
        for row in self.weights.chunks_exact_mut(stride).take(rows) {
            let row = &mut row[..self.n];
            let max = self.kernels.max(row);
            let sum = self.kernels.exp_sub(row, max);
            self.maxima.push(max);
            self.sums.push(sum);
        }
    }

    /// What the pass's i-th centroid attends to.
    fn region_weights(&self, i: usize) -> RegionWeights<'_> {
        let (rows, stride) = (i * self.group..(i + 1) * self.group, self.keys.stride());
        RegionWeights {
            weights: &self.weights[rows.start * stride..rows.end * stride],
            stride,
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
            let row = &self.weights[r * self.keys.stride()..][..self.n];
            self.kernels.add_scaled(row, 1.0 / self.sums[r], &mut self.scores);
        }
        self.top_k.select(self.kernels, &self.scores, list_len, &mut self.selected);
        &self.selected
    }
}

fn check_queries(queries: &[f32]) -> Result<()> {
    match queries.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { op: "buildIndex", what: "queries", index }),
    }
}
