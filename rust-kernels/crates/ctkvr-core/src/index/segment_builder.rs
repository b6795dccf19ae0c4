//! Makes a segment of centroids from keys in this process's memory: scores of a few centroids' queries against all keys of the region at
//! once, softmax, list; never centroids times keys. Neighbouring centroids that share a list make it together.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::index::centroid_segment::CentroidSegment;
use crate::index::posting_lists::PostingLists;
use crate::index::region_sampler::{RegionSampler, RegionWeights};
use crate::index::segment_plan::SegmentPlan;
use crate::kv::key_panels::KeyPanels;
use crate::refine::top_k::TopK;
use crate::tail::ClusterOptions;
use ctkvr_kernels::{Kernels, Rows};

/// What a segment is made from.
pub struct SegmentInput<'a> {
    pub plan: SegmentPlan<'a>,
    /// Keys and values of the region, in order.
    pub keys: Rows<'a>,
    pub values: Rows<'a>,
    /// The tail's clusters; `None`: no tail.
    pub clusters: Option<ClusterOptions>,
}

/// Builds a segment on the calling thread; `sampler` sees the middle centroid of every list before that is there. Memory beside the segment:
/// the region's keys in f32 or bf16, and a pass of scores.
pub fn build_segment(
    kernels: &Kernels,
    input: &SegmentInput,
    mut sampler: Option<&mut RegionSampler>,
    cancel: &AtomicBool,
) -> Result<CentroidSegment> {
    let plan = &input.plan;
    plan.check()?;
    let (num_centroids, num_lists, per_list) = (plan.num_centroids(), plan.num_lists(), plan.per_list);
    if plan.region.is_empty() {
        return Ok(plan.segment(plan.empty_lists()));
    }
    let mut segment = plan.segment(PostingLists::default());
    let mut pass = Pass::new(kernels, input)?;
    for first in (0..num_lists).step_by(plan.lists_per_pass()) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let lists = first..(first + plan.lists_per_pass()).min(num_lists);
        let centroids = lists.start * per_list..(lists.end * per_list).min(num_centroids);
        pass.score(centroids.clone().map(|c| plan.query(c)));
        if let Some(sampler) = sampler.as_deref_mut() {
            for list in lists.clone() {
                let c = segment.middle_of(list);
                if sampler.meter.samples(list, c) {
                    sampler.add(&segment, c, plan.query(c), &pass.region_weights(c - centroids.start));
                }
            }
        }
        for list in lists {
            let members = list * per_list..((list + 1) * per_list).min(num_centroids);
            segment.lists.push(pass.list(members.start - centroids.start..members.end - centroids.start, plan.list_len));
        }
    }
    segment.lists.shrink();
    Ok(segment)
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
            group: input.plan.group,
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
