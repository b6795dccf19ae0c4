//! What stands for the positions of the indexed region that a step does not read: a row of segments of clusters, one for each time the
//! index grew, which together cover the region. A step takes the positions it knows better out of their clusters' counts; what is left
//! of a cluster counts with the score of its mean key and with its mean value.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::kernels::{Kernels, Rows};
use crate::ranked::{Ranked, keep_best};
use crate::tail_segment::TailSegment;

/// The most that [`Tail::corrections`] add: a head's clusters never stand for more than twice what their means say.
pub(crate) const MAX_CORRECTION: f32 = std::f32::consts::LN_2;

/// One KV head's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tail {
    /// Ascending, without gaps.
    segments: Vec<Arc<TailSegment>>,
    /// Of each query head: by how much the logarithm of the weight falls short when every key scores as its cluster's mean, which is too
    /// little (Jensen), as the build's own queries show it.
    corrections: Vec<f32>,
    /// Positions of a cluster, on average.
    cluster_size: usize,
}

/// What is left of the clusters for one query; reused memory.
#[derive(Default)]
pub(crate) struct TailScratch {
    /// Positions left in each cluster, f32 `[num_clusters]`.
    left: Vec<f32>,
    /// Weights of what is left over e^maximum, f32 `[group, num_clusters]`; the maxima, and the weights of all positions, `[group]`.
    weights: Vec<f32>,
    maxima: Vec<f32>,
    totals: Vec<f32>,
    order: Vec<Ranked>,
}

impl Tail {
    /// Of a region's keys and values; its first position is `start`.
    pub(crate) fn build(
        kernels: &Kernels,
        rows: (&Rows, &Rows),
        (start, made_at): (usize, usize),
        (group, cluster_size): (usize, usize),
        cancel: &AtomicBool,
    ) -> Result<Self> {
        let empty = Self { segments: Vec::new(), corrections: vec![0.0; group], cluster_size };
        empty.extended(kernels, rows, (start, made_at), cancel)
    }

    /// With one more segment, of the positions from `start` on, where it ended.
    pub(crate) fn extended(
        &self,
        kernels: &Kernels,
        rows: (&Rows, &Rows),
        (start, made_at): (usize, usize),
        cancel: &AtomicBool,
    ) -> Result<Self> {
        debug_assert!(self.segments.last().is_none_or(|s| s.end() == start));
        let mut grown = self.clone();
        if rows.0.len() > 0 {
            let segment = TailSegment::build(kernels, rows, (start, made_at), self.cluster_size, cancel)?;
            grown.segments.push(Arc::new(segment));
        }
        Ok(grown)
    }

    /// One whose parts were stored.
    pub(crate) fn from_parts(segments: Vec<Arc<TailSegment>>, corrections: Vec<f32>, cluster_size: usize) -> Self {
        Self { segments, corrections, cluster_size }
    }

    /// As it was when only `len` tokens were stored.
    pub(crate) fn truncated(&self, len: usize) -> Self {
        let keep = self.segments.partition_point(|s| s.made_at <= len);
        Self { segments: self.segments[..keep].to_vec(), corrections: self.corrections.clone(), cluster_size: self.cluster_size }
    }

    pub(crate) fn segments(&self) -> &[Arc<TailSegment>] {
        &self.segments
    }

    /// `[group]`; see the field.
    pub(crate) fn corrections(&self) -> &[f32] {
        &self.corrections
    }

    pub(crate) fn correct(&mut self, corrections: Vec<f32>) {
        self.corrections = corrections;
    }

    /// Bytes held (shared segments are counted in full).
    pub(crate) fn bytes(&self) -> usize {
        self.segments.iter().map(|s| s.bytes()).sum::<usize>() + self.corrections.len() * size_of::<f32>()
    }

    fn num_clusters(&self) -> usize {
        self.segments.iter().map(|s| s.num_clusters()).sum()
    }

    /// Segments, and which of all clusters are theirs.
    fn parts(&self) -> impl Iterator<Item = (&TailSegment, Range<usize>)> {
        let mut next = 0;
        self.segments.iter().map(move |segment| {
            let first = next;
            next += segment.num_clusters();
            (&**segment, first..next)
        })
    }

    /// Weighs all positions but `taken` (ascending, of the region) for a query: f32 `[group, head_dim]`, times 1/sqrt(head_dim). Returns
    /// the bytes read.
    pub(crate) fn weigh(&self, kernels: &Kernels, scaled: &[f32], taken: &[u32], scratch: &mut TailScratch) -> usize {
        let (m, group) = (self.num_clusters(), self.corrections.len());
        self.count_left(taken, &mut scratch.left);
        self.score(kernels, scaled, m, &mut scratch.weights);
        scratch.maxima.clear();
        scratch.totals.clear();
        for weights in scratch.weights.chunks_exact_mut(m.max(1)) {
            // SAFETY: the row holds m values, max bounds them.
            let max = unsafe {
                let max = (kernels.max)(weights.as_ptr(), m);
                (kernels.exp_sub)(weights.as_mut_ptr(), m, max);
                max
            };
            let mut total = 0.0;
            let counts = self.segments.iter().flat_map(|s| s.counts());
            for ((weight, left), count) in weights.iter_mut().zip(&scratch.left).zip(counts) {
                total += *weight * count as f32;
                *weight *= left;
            }
            scratch.maxima.push(max);
            scratch.totals.push(total);
        }
        m * (scaled.len() / group * size_of::<u16>() + size_of::<u32>()) + taken.len() * size_of::<u16>()
    }

    /// Takes the `count` clusters out of which most is left, by the sum over the group of the shares of all weight (ties: the smaller
    /// id), and names their positions to `each`, also those taken before. Returns the bytes read.
    pub(crate) fn take_heaviest(&self, count: usize, scratch: &mut TailScratch, mut each: impl FnMut(usize)) -> usize {
        let m = self.num_clusters();
        scratch.order.clear();
        for c in 0..m {
            let shares = scratch.totals.iter().enumerate().map(|(h, total)| scratch.weights[h * m + c] / total);
            scratch.order.push(Ranked::new(shares.sum(), c as u32));
        }
        keep_best(&mut scratch.order, count);
        let mut num_taken = 0;
        for c in scratch.order.iter().map(|r| r.id() as usize) {
            scratch.left[c] = 0.0;
            (0..scratch.totals.len()).for_each(|h| scratch.weights[h * m + c] = 0.0);
            let (segment, clusters) = self.part_of(c);
            let members = segment.members(c - clusters.start);
            members.iter().for_each(|&i| each(segment.start + i as usize));
            num_taken += members.len();
        }
        num_taken * size_of::<u32>()
    }

    /// What is left, after [`Tail::weigh`]: writes log-sum-exp `[group]`, -infinity where that is nothing, and mean value `[group,
    /// head_dim]`. Returns the bytes read.
    pub(crate) fn rest(
        &self,
        kernels: &Kernels,
        row_len: usize,
        scratch: &mut TailScratch,
        lse: &mut Vec<f32>,
        value: &mut Vec<f32>,
    ) -> usize {
        let (m, group) = (self.num_clusters(), self.corrections.len());
        lse.clear();
        for (h, weights) in scratch.weights.chunks_exact_mut(m.max(1)).enumerate() {
            let sum = normalise_sum(weights);
            lse.push(sum.map_or(f32::NEG_INFINITY, |sum| scratch.maxima[h] + sum.ln() + self.corrections[h]));
        }
        lse.resize(group, f32::NEG_INFINITY);
        self.mean_value(kernels, &scratch.weights, row_len, value);
        m * row_len / group * size_of::<u16>()
    }

    /// Mean value `[group, head_dim]` of positions whose weights are known: f32 `[group, n]`, of all n positions in order, 0 for those
    /// that do not count. Returns the bytes read.
    pub(crate) fn mean_of_weighted(
        &self,
        kernels: &Kernels,
        weights: &[f32],
        row_len: usize,
        scratch: &mut TailScratch,
        value: &mut Vec<f32>,
    ) -> usize {
        let (m, group) = (self.num_clusters(), self.corrections.len());
        let n = weights.len() / group;
        scratch.weights.clear();
        scratch.weights.resize(group * m, 0.0);
        let start = self.segments.first().map_or(0, |s| s.start);
        for (weights, sums) in weights.chunks_exact(n.max(1)).zip(scratch.weights.chunks_exact_mut(m.max(1))) {
            for (segment, clusters) in self.parts() {
                let (sums, weights) = (&mut sums[clusters], &weights[segment.start - start..segment.end() - start]);
                segment.cluster_of.iter().zip(weights).for_each(|(&c, w)| sums[usize::from(c)] += w);
            }
            normalise_sum(sums);
        }
        self.mean_value(kernels, &scratch.weights, row_len, value);
        m * row_len / group * size_of::<u16>() + n * size_of::<u16>()
    }

    /// The segment of one of all clusters, and which are its.
    fn part_of(&self, cluster: usize) -> (&TailSegment, Range<usize>) {
        let mut parts = self.parts();
        parts.find(|(_, clusters)| clusters.contains(&cluster)).unwrap_or_else(|| unreachable!("cluster {cluster}"))
    }

    /// Positions that are left in each cluster without `taken`.
    fn count_left(&self, taken: &[u32], left: &mut Vec<f32>) {
        left.clear();
        for (segment, clusters) in self.parts() {
            left.extend(segment.counts().map(|n| n as f32));
            let left = &mut left[clusters];
            for &p in &taken[segment.share_of(taken)] {
                left[usize::from(segment.cluster_of[p as usize - segment.start])] -= 1.0;
            }
        }
    }

    /// Scores of all mean keys, f32 `[group, m]`.
    fn score(&self, kernels: &Kernels, scaled: &[f32], m: usize, out: &mut Vec<f32>) {
        let group = self.corrections.len();
        out.clear();
        out.resize(group * m, 0.0);
        for (segment, clusters) in self.parts() {
            // SAFETY: the segment's columns are inside each of the group's rows.
            unsafe {
                let out = out.as_mut_ptr().add(clusters.start);
                (kernels.score_rows)(scaled.as_ptr(), group, &segment.keys().rows(), out, m);
            }
        }
    }

    /// Mean of all mean values, weighted with f32 `[group, m]`.
    fn mean_value(&self, kernels: &Kernels, weights: &[f32], row_len: usize, value: &mut Vec<f32>) {
        let (m, group) = (self.num_clusters(), self.corrections.len());
        value.clear();
        value.resize(row_len, 0.0);
        for (segment, clusters) in self.parts() {
            // SAFETY: the segment's columns are inside each of the group's rows; the value holds group rows of head_dim.
            unsafe {
                let weights = weights.as_ptr().add(clusters.start);
                (kernels.add_weighted_rows)(weights, m, group, &segment.values().rows(), value.as_mut_ptr());
            }
        }
    }
}

/// Makes some weights sum to 1, and returns what they summed to; `None`, and zeros, when that is nothing.
fn normalise_sum(weights: &mut [f32]) -> Option<f32> {
    let sum: f32 = weights.iter().sum();
    let factor = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    weights.iter_mut().for_each(|w| *w *= factor);
    (sum > 0.0).then_some(sum)
}
