//! What stands for the positions of the indexed region that a step does not read: a row of segments of clusters, one for each time the
//! index grew, which together cover the region. A step takes the positions it knows better out of their clusters' counts; what is left
//! of a cluster counts with the score of its mean key and with its mean value.

pub mod means;
pub mod segment;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::refine::top_k::TopK;
use crate::sum::{sum_of, sum_of_products};
use crate::tail::segment::TailSegment;
use ctkvr_kernels::{Kernels, KvFormat, Rows};

/// The most that [`Tail::corrections`] add: a head's clusters never stand for more than twice what their means say.
pub const MAX_CORRECTION: f32 = std::f32::consts::LN_2;

/// What clusters are to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Positions of a cluster, on average.
    pub size: usize,
    /// Of mean keys and mean values, where it pays: see [`means::ClusterMeans`].
    pub format: KvFormat,
}

/// One KV head's.
#[derive(Debug, Clone, PartialEq)]
pub struct Tail {
    /// Ascending, without gaps.
    segments: Vec<Arc<TailSegment>>,
    /// Positions of each cluster of all segments.
    counts: Vec<f32>,
    /// Of each query head: by how much the logarithm of the weight falls short when every key scores as its cluster's mean, which is too
    /// little (Jensen), as the build's own queries show it.
    corrections: Vec<f32>,
    options: ClusterOptions,
}

/// What is left of the clusters for one query; reused memory.
#[derive(Default)]
pub struct TailScratch {
    /// Positions left in each cluster, f32 `[num_clusters]`.
    left: Vec<f32>,
    /// Weights of what is left over e^maximum, f32 `[group, num_clusters]`; the maxima, and the weights of all positions, `[group]`.
    weights: Vec<f32>,
    maxima: Vec<f32>,
    totals: Vec<f32>,
    /// Sum over the group of the shares of what is left `[num_clusters]`.
    shares: Vec<f32>,
    top_k: TopK,
    /// The heaviest clusters.
    heaviest: Vec<u32>,
}

impl Tail {
    /// Of a region's keys and values; its first position is `start`.
    pub fn build(
        kernels: &Kernels,
        rows: (&Rows, &Rows),
        (start, made_at): (usize, usize),
        (group, options): (usize, ClusterOptions),
        cancel: &AtomicBool,
    ) -> Result<Self> {
        Self::empty(group, options).extended(kernels, rows, (start, made_at), cancel)
    }

    /// Of no positions yet.
    pub fn empty(group: usize, options: ClusterOptions) -> Self {
        Self::from_parts(Vec::new(), vec![0.0; group], options)
    }

    /// What its clusters are like.
    pub fn options(&self) -> ClusterOptions {
        self.options
    }

    /// With one more segment, of positions from where it ended.
    pub fn with_segment(&self, segment: TailSegment) -> Self {
        debug_assert!(self.segments.last().is_none_or(|s| s.end() == segment.start));
        let mut grown = self.clone();
        grown.counts.extend(segment.counts());
        grown.segments.push(Arc::new(segment));
        grown
    }

    /// With one more segment, of the positions from `start` on, where it ended.
    pub fn extended(
        &self,
        kernels: &Kernels,
        rows: (&Rows, &Rows),
        (start, made_at): (usize, usize),
        cancel: &AtomicBool,
    ) -> Result<Self> {
        if rows.0.is_empty() {
            return Ok(self.clone());
        }
        Ok(self.with_segment(TailSegment::build(kernels, rows, (start, made_at), self.options, cancel)?))
    }

    /// One whose parts were stored.
    pub fn from_parts(segments: Vec<Arc<TailSegment>>, corrections: Vec<f32>, options: ClusterOptions) -> Self {
        let counts = segments.iter().flat_map(|s| s.counts()).collect();
        Self { segments, counts, corrections, options }
    }

    /// As it was when only `len` tokens were stored.
    pub fn truncated(&self, len: usize) -> Self {
        let keep = self.segments.partition_point(|s| s.made_at <= len);
        Self::from_parts(self.segments[..keep].to_vec(), self.corrections.clone(), self.options)
    }

    pub fn segments(&self) -> &[Arc<TailSegment>] {
        &self.segments
    }

    /// `[group]`; see the field.
    pub fn corrections(&self) -> &[f32] {
        &self.corrections
    }

    pub fn correct(&mut self, corrections: Vec<f32>) {
        self.corrections = corrections;
    }

    /// Bytes held (shared segments are counted in full).
    pub fn bytes(&self) -> usize {
        let numbers = self.counts.len() + self.corrections.len();
        self.segments.iter().map(|s| s.bytes()).sum::<usize>() + numbers * size_of::<f32>()
    }

    pub fn num_clusters(&self) -> usize {
        self.counts.len()
    }

    /// Bytes of all mean keys, or all mean values.
    fn mean_bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.num_clusters() * segment.means().row_bytes()).sum()
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

    /// Asks for what [`Tail::weigh`] will read.
    pub fn prefetch_keys(&self, kernels: &Kernels) {
        for segment in &self.segments {
            segment.means().prefetch_keys(kernels);
            kernels.prefetch(&segment.cluster_of);
        }
        kernels.prefetch(&self.counts);
    }

    /// Asks for what [`Tail::rest`] will read.
    fn prefetch_values(&self, kernels: &Kernels) {
        self.segments.iter().for_each(|segment| segment.means().prefetch_values(kernels));
    }

    /// Weighs all positions but `taken` (ascending, of the region) for a query: f32 `[group, head_dim]`, times 1/sqrt(head_dim). Returns
    /// the bytes read.
    pub fn weigh(&self, kernels: &Kernels, scaled: &[f32], taken: &[u32], scratch: &mut TailScratch) -> usize {
        let m = self.num_clusters();
        self.count_left(taken, &mut scratch.left);
        self.score(kernels, scaled, m, &mut scratch.weights);
        scratch.maxima.clear();
        scratch.totals.clear();
        for weights in scratch.weights.chunks_exact_mut(m.max(1)) {
            let max = kernels.max(weights);
            kernels.exp_sub(weights, max);
            scratch.maxima.push(max);
            scratch.totals.push(sum_of_products(weights, &self.counts));
            weights.iter_mut().zip(&scratch.left).for_each(|(weight, left)| *weight *= left);
        }
        self.mean_bytes() + m * size_of::<f32>() + taken.len() * size_of::<u16>()
    }

    /// Takes the `count` clusters out of which most is left, by the sum over the group of the shares of all weight (ties: the smaller
    /// id), and names their positions to `each`, also those taken before. Returns the bytes read.
    pub fn take_heaviest(&self, kernels: &Kernels, count: usize, scratch: &mut TailScratch, mut each: impl FnMut(usize)) -> usize {
        let m = self.num_clusters();
        scratch.shares.clear();
        scratch.shares.resize(m, 0.0);
        for (weights, total) in scratch.weights.chunks_exact(m.max(1)).zip(&scratch.totals) {
            kernels.add_scaled(weights, 1.0 / total, &mut scratch.shares);
        }
        scratch.top_k.select(kernels, &scratch.shares, count, &mut scratch.heaviest);
        for c in scratch.heaviest.iter().map(|&c| c as usize) {
            let (segment, clusters) = self.part_of(c);
            kernels.prefetch(segment.members(c - clusters.start));
        }
        self.prefetch_values(kernels);
        let mut num_taken = 0;
        for c in scratch.heaviest.iter().map(|&c| c as usize) {
            (0..scratch.totals.len()).for_each(|h| scratch.weights[h * m + c] = 0.0);
            let (segment, clusters) = self.part_of(c);
            let members = segment.members(c - clusters.start);
            members.iter().for_each(|&i| each(segment.start + i as usize));
            num_taken += members.len();
        }
        num_taken * size_of::<u32>()
    }

    /// What is left, after [`Tail::weigh`]: writes log-sum-exp `[group]`, -infinity where that is nothing. Makes the weights of each head
    /// sum to 1.
    pub fn rest_lse(&self, scratch: &mut TailScratch, lse: &mut Vec<f32>) {
        lse.clear();
        for (h, weights) in scratch.weights.chunks_exact_mut(self.num_clusters().max(1)).enumerate() {
            let sum = normalise_sum(weights);
            lse.push(sum.map_or(f32::NEG_INFINITY, |sum| scratch.maxima[h] + sum.ln() + self.corrections[h]));
        }
        lse.resize(self.corrections.len(), f32::NEG_INFINITY);
    }

    /// As [`Tail::rest_lse`], and writes the mean value `[group, head_dim]`. Returns the bytes read.
    pub fn rest(
        &self,
        kernels: &Kernels,
        row_len: usize,
        scratch: &mut TailScratch,
        lse: &mut Vec<f32>,
        value: &mut Vec<f32>,
    ) -> usize {
        self.rest_lse(scratch, lse);
        self.mean_value(kernels, &scratch.weights, row_len, value);
        self.mean_bytes()
    }

    /// Mean value `[group, head_dim]` of positions whose weights are known: f32 `[group, n]`, of all n positions in order, 0 for those
    /// that do not count. Returns the bytes read.
    pub fn mean_of_weighted(
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
        let mut h = 0;
        while h < group {
            let heads = (group - h).min(4);
            for (segment, clusters) in self.parts() {
                let (weights, first) = (&weights[h * n..], segment.start - start);
                let sums = &mut scratch.weights[h * m + clusters.start..];
                match heads {
                    4 => segment.sum_by_cluster::<4>(weights, (n, first), sums, m),
                    3 => segment.sum_by_cluster::<3>(weights, (n, first), sums, m),
                    2 => segment.sum_by_cluster::<2>(weights, (n, first), sums, m),
                    _ => segment.sum_by_cluster::<1>(weights, (n, first), sums, m),
                }
            }
            h += heads;
        }
        scratch.weights.chunks_exact_mut(m.max(1)).for_each(|sums| _ = normalise_sum(sums));
        self.mean_value(kernels, &scratch.weights, row_len, value);
        self.mean_bytes() + n * size_of::<u32>()
    }

    /// The segment of one of all clusters, and which are its.
    fn part_of(&self, cluster: usize) -> (&TailSegment, Range<usize>) {
        let mut parts = self.parts();
        parts.find(|(_, clusters)| clusters.contains(&cluster)).unwrap_or_else(|| unreachable!("cluster {cluster}"))
    }

    /// Positions that are left in each cluster without `taken`.
    fn count_left(&self, taken: &[u32], left: &mut Vec<f32>) {
        left.clear();
        left.extend_from_slice(&self.counts);
        for (segment, clusters) in self.parts() {
            let left = &mut left[clusters];
            for &p in &taken[segment.share_of(taken)] {
                left[usize::from(segment.cluster_of[p as usize - segment.start])] -= 1.0;
            }
        }
    }

    /// Scores of all mean keys, f32 `[group, m]`.
    fn score(&self, kernels: &Kernels, scaled: &[f32], m: usize, out: &mut Vec<f32>) {
        let group = self.corrections.len();
        // All of it is written.
        out.resize(group * m, 0.0);
        for (segment, clusters) in self.parts() {
            kernels.score_rows(scaled, &segment.means().keys(), &mut out[clusters.start..], m);
        }
    }

    /// Mean of all mean values, weighted with f32 `[group, m]`.
    fn mean_value(&self, kernels: &Kernels, weights: &[f32], row_len: usize, value: &mut Vec<f32>) {
        let m = self.num_clusters();
        value.clear();
        value.resize(row_len, 0.0);
        for (segment, clusters) in self.parts() {
            kernels.add_weighted_rows(&weights[clusters.start..], m, &segment.means().values(), value);
        }
    }
}

/// Makes some weights sum to 1, and returns what they summed to; `None`, and zeros, when that is nothing.
fn normalise_sum(weights: &mut [f32]) -> Option<f32> {
    let sum = sum_of(weights);
    let factor = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    weights.iter_mut().for_each(|w| *w *= factor);
    (sum > 0.0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::head_kv::HeadKv;
    use crate::kv::panels::widen_rows;
    use crate::test_rows::{Random, dot, store, tables};

    const D: usize = 16;
    const OPTIONS: ClusterOptions = ClusterOptions { size: 8, format: KvFormat::F16 };
    const START: usize = 5;
    const GROUP: usize = 3;
    static GO: AtomicBool = AtomicBool::new(false);

    /// Two segments: positions 5 to 204 and 205 to 264.
    fn tail(kernels: &Kernels, kv: HeadKv) -> Result<Tail> {
        let first = Tail::build(kernels, (&kv.keys(START, 200), &kv.values(START, 200)), (START, 300), (GROUP, OPTIONS), &GO)?;
        let mut tail = first.extended(kernels, (&kv.keys(205, 60), &kv.values(205, 60)), (205, 400), &GO)?;
        assert_eq!(tail.truncated(399), first);
        assert_eq!(tail.truncated(400), tail);
        tail.correct(vec![0.0, 0.25, 0.5]);
        Ok(tail)
    }

    /// (mean key, mean value, positions) of every cluster.
    fn clusters(kernels: &Kernels, tail: &Tail, d: usize) -> Vec<(Vec<f32>, Vec<f32>, Vec<u32>)> {
        let row = |rows: &Rows, c: usize| {
            let mut out = vec![0.0; d];
            widen_rows(kernels, rows, c, 1, &mut out);
            out
        };
        let of = |s: &Arc<TailSegment>| -> Vec<_> {
            let positions = |c: usize| s.members(c).iter().map(|i| s.start as u32 + i).collect();
            (0..s.num_clusters()).map(|c| (row(&s.means().keys(), c), row(&s.means().values(), c), positions(c))).collect()
        };
        tail.segments().iter().flat_map(of).collect()
    }

    fn close(actual: &[f32], expected: &[f64], what: &str) {
        assert_eq!(actual.len(), expected.len(), "{what}");
        for (a, e) in actual.iter().zip(expected) {
            // Scores of at most 16 * 2 in size: 18 roundings of them (2^-24 * 32 each), and as many of the values.
            assert!(f64::from(*a) == *e || (f64::from(*a) - e).abs() < 2e-4, "{what}: {a} for {e}");
        }
    }

    #[test]
    fn what_is_left_is_what_the_definition_says() -> Result<()> {
        for kernels in tables(D) {
            let mut random = Random(8);
            let (keys, values) = (random.reals(300 * D, 2), random.reals(300 * D, 2));
            let kv = store(&keys, &values, D);
            let tail = tail(kernels, kv.head())?;
            let clusters = clusters(kernels, &tail, D);
            let all: Vec<u32> = (START as u32..265).collect();
            let some: Vec<u32> = all.iter().copied().filter(|p| p % 3 == 0 || (100..130).contains(p)).collect();
            for (taken, count) in [(&[][..], 0), (&some, 0), (&some, 4), (&[], 1000), (&all, 0), (&all, 2)] {
                let what = format!("{} {} taken, {count} clusters", kernels.name, taken.len());
                let scaled = random.reals(GROUP * D, 1);
                let (mut scratch, mut lse, mut value) = (TailScratch::default(), Vec::new(), Vec::new());
                tail.weigh(kernels, &scaled, taken, &mut scratch);
                let mut found = Vec::new();
                tail.take_heaviest(kernels, count, &mut scratch, |p| found.push(p as u32));
                tail.rest(kernels, GROUP * D, &mut scratch, &mut lse, &mut value);

                let left: Vec<f64> = clusters.iter().map(|c| c.2.iter().filter(|p| !taken.contains(p)).count() as f64).collect();
                let weights: Vec<Vec<f64>> =
                    scaled.chunks_exact(D).map(|q| clusters.iter().map(|c| dot(q, &c.0).exp()).collect()).collect();
                let share = |c: usize| {
                    let of =
                        |w: &Vec<f64>| left[c] * w[c] / w.iter().zip(&clusters).map(|(x, c)| x * c.2.len() as f64).sum::<f64>();
                    weights.iter().map(of).sum::<f64>()
                };
                let mut order: Vec<usize> = (0..clusters.len()).collect();
                order.sort_by(|&a, &b| share(b).total_cmp(&share(a)).then(a.cmp(&b)));
                order.truncate(count);
                let mut expected: Vec<u32> = order.iter().flat_map(|&c| clusters[c].2.clone()).collect();
                expected.sort_unstable();
                found.sort_unstable();
                assert_eq!(found, expected, "{what}");
                for (h, weights) in weights.iter().enumerate() {
                    let of = |c: usize| if order.contains(&c) { 0.0 } else { left[c] * weights[c] };
                    let sum: f64 = (0..clusters.len()).map(of).sum();
                    close(&lse[h..=h], &[sum.ln() + f64::from(tail.corrections()[h])], &what);
                    let mean = |i: usize| {
                        let total: f64 = (0..clusters.len()).map(|c| of(c) * f64::from(clusters[c].1[i])).sum();
                        if sum > 0.0 { total / sum } else { 0.0 }
                    };
                    close(&value[h * D..(h + 1) * D], &(0..D).map(mean).collect::<Vec<_>>(), &what);
                }
            }
        }
        Ok(())
    }

    /// What is read of means in 8 bits, and how many bytes that is; a later, short segment has f16 beside them.
    #[test]
    fn means_in_eight_bits_are_read_as_what_they_stand_for() -> Result<()> {
        let (d, n) = (32, 200);
        for kernels in tables(d) {
            let mut random = Random(10);
            let kv = store(&random.reals(300 * d, 2), &random.reals(300 * d, 2), d);
            let options = ClusterOptions { size: 1, format: KvFormat::Q8 };
            let (place, shape) = ((START, 300), (GROUP, options));
            let first = Tail::build(kernels, (&kv.keys(START, n), &kv.values(START, n)), place, shape, &GO)?;
            let tail = first.extended(kernels, (&kv.keys(START + n, 60), &kv.values(START + n, 60)), (START + n, 400), &GO)?;
            let formats: Vec<KvFormat> = tail.segments().iter().map(|segment| segment.means().format()).collect();
            assert_eq!(formats, [KvFormat::Q8, KvFormat::F16]);
            let num_clusters: Vec<usize> = tail.segments().iter().map(|segment| segment.num_clusters()).collect();
            let mean_bytes = num_clusters[0] * (d + 4) + num_clusters[1] * 2 * d;

            let scaled: Vec<f32> = random.reals(GROUP * d, 1).iter().map(|x| x / 4.0).collect();
            let (mut scratch, mut lse, mut value) = (TailScratch::default(), Vec::new(), Vec::new());
            let bytes = tail.weigh(kernels, &scaled, &[START as u32, 100], &mut scratch);
            assert_eq!(bytes, mean_bytes + 4 * (num_clusters[0] + num_clusters[1]) + 2 * 2);
            assert_eq!(tail.rest(kernels, GROUP * d, &mut scratch, &mut lse, &mut value), mean_bytes);
            let clusters = clusters(kernels, &tail, d);
            for (h, query) in scaled.chunks_exact(d).enumerate() {
                let left = |of: &[u32]| of.iter().filter(|p| ![START as u32, 100].contains(p)).count() as f64;
                let weights: Vec<f64> = clusters.iter().map(|c| left(&c.2) * dot(query, &c.0).exp()).collect();
                let sum: f64 = weights.iter().sum();
                close(&lse[h..=h], &[sum.ln()], kernels.name);
                let mean = |i: usize| weights.iter().zip(&clusters).map(|(w, c)| w * f64::from(c.1[i])).sum::<f64>() / sum;
                close(&value[h * d..(h + 1) * d], &(0..d).map(mean).collect::<Vec<_>>(), kernels.name);
            }
        }
        Ok(())
    }

    #[test]
    fn known_weights_are_averaged_cluster_by_cluster() -> Result<()> {
        for kernels in tables(D) {
            let mut random = Random(9);
            let kv = store(&random.reals(300 * D, 2), &random.reals(300 * D, 2), D);
            let tail = tail(kernels, kv.head())?;
            let clusters = clusters(kernels, &tail, D);
            let mut weights: Vec<f32> = random.reals(GROUP * 260, 1).iter().map(|x| x.abs()).collect();
            weights[260..2 * 260].fill(0.0);
            let mut value = Vec::new();
            tail.mean_of_weighted(kernels, &weights, GROUP * D, &mut TailScratch::default(), &mut value);
            for (h, weights) in weights.chunks_exact(260).enumerate() {
                let of = |p: u32| f64::from(weights[p as usize - START]);
                let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
                let mean = |i: usize| {
                    let total: f64 = clusters.iter().flat_map(|c| c.2.iter().map(move |&p| of(p) * f64::from(c.1[i]))).sum();
                    if sum > 0.0 { total / sum } else { 0.0 }
                };
                close(&value[h * D..(h + 1) * D], &(0..D).map(mean).collect::<Vec<_>>(), kernels.name);
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_indexed_says_nothing() -> Result<()> {
        for kernels in tables(D) {
            let kv = store(&[1.0; 4 * D], &[1.0; 4 * D], D);
            let tail = Tail::build(kernels, (&kv.keys(2, 0), &kv.values(2, 0)), (2, 4), (GROUP, OPTIONS), &GO)?;
            let (mut scratch, mut lse, mut value) = (TailScratch::default(), Vec::new(), Vec::new());
            tail.weigh(kernels, &[1.0; GROUP * D], &[], &mut scratch);
            tail.take_heaviest(kernels, 3, &mut scratch, |p| panic!("position {p}"));
            tail.rest(kernels, GROUP * D, &mut scratch, &mut lse, &mut value);
            assert_eq!((lse, value), (vec![f32::NEG_INFINITY; GROUP], vec![0.0; GROUP * D]));
        }
        Ok(())
    }
}
