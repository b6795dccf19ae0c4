//! Clusters of keys as a selector, as in RetroInfer (Chen et al. 2025, arXiv 2505.02922): keys are clustered by k-means, a query ranks
//! the clusters by their mean keys, those that rank first are read whole, and the next ones are estimated: each as its number of keys at
//! the score of its mean key, with its mean value. As in the authors' code: 16 keys a cluster, segments of 8,192 keys, keys centred by
//! their mean, 10 passes, clusters ranked by the softmax over mean keys summed over the group, 23.2 % of the clusters estimated. Ours: as many clusters are read as fit in `max_selected` positions (at least one; the authors read 1.8 % of the clusters), and
//! centres are normalised before the first pass too.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::index::k_means::{KMeans, Likeness};
use crate::kv::head_kv::HeadKv;
use crate::kv::panels::{mean_row, widen_rows};
use crate::selector::{Candidates, HeadSelector, Proposal, Query};
use ctkvr_kernels::{Kernels, KvFormat, Rows};

/// Keys of a cluster, on average.
const CLUSTER_SIZE: usize = 16;
/// Keys clustered together.
const SEGMENT: usize = 8192;
/// Passes over the keys.
const NUM_PASSES: usize = 10;
/// Share of the clusters that are estimated.
const ESTIMATED_SHARE: f64 = 0.232;

/// One KV head's clusters.
pub struct KeyClusters {
    /// Row c: mean key and mean value of cluster c.
    centres: HeadKv,
    /// Where each cluster's positions begin: u32 `[num_clusters + 1]`; none is empty.
    offsets: Vec<u32>,
    /// Stored positions by cluster, ascending in each: u32 `[region]`.
    members: Vec<u32>,
}

impl KeyClusters {
    /// `keys` and `values`: the region's, in order, whose first is at position `start`.
    pub fn build(kernels: &Kernels, keys: &Rows, values: &Rows, start: usize, cancel: &AtomicBool) -> Result<Self> {
        let (d, len) = (keys.head_dim(), keys.len());
        let mean = mean_row(kernels, keys);
        let centred = |stretch: Range<usize>, out: &mut [f32]| {
            widen_rows(kernels, keys, stretch.start, stretch.len(), out);
            out.chunks_exact_mut(d).for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
        };
        let k_means = KMeans {
            kernels,
            likeness: Likeness::Direction,
            cluster_size: CLUSTER_SIZE,
            stretch_len: SEGMENT,
            num_passes: NUM_PASSES,
            cancel,
        };
        let (num_clusters, assigned) = k_means.cluster(len, d, centred)?;
        let mut lists = vec![Vec::new(); num_clusters];
        assigned.iter().enumerate().for_each(|(i, &c)| lists[c as usize].push(i as u32));
        lists.retain(|list| !list.is_empty());
        let mut centres = HeadKv::new(d, KvFormat::F16);
        centres.reserve(0, lists.len())?;
        let (mut offsets, mut members) = (vec![0], Vec::with_capacity(len));
        for (c, list) in lists.iter().enumerate() {
            let (key, value) = (mean_of(kernels, keys, list), mean_of(kernels, values, list));
            // SAFETY: reserved above, and nobody else has the pages.
            unsafe { centres.store(kernels, c, key.as_ptr(), value.as_ptr()) };
            members.extend(list.iter().map(|i| start as u32 + i));
            offsets.push(members.len() as u32);
        }
        Ok(Self { centres, offsets, members })
    }

    fn num_clusters(&self) -> usize {
        self.offsets.len() - 1
    }

    fn cluster(&self, c: u32) -> &[u32] {
        &self.members[self.offsets[c as usize] as usize..self.offsets[c as usize + 1] as usize]
    }

    /// Scores of the mean keys, and the clusters by rank (ties: the smaller id).
    fn rank(&self, query: &Query, group: usize, scratch: &mut ClusterScratch) {
        let n = self.num_clusters();
        scratch.scores.clear();
        scratch.scores.resize(group * n, 0.0);
        scratch.ranks.clear();
        scratch.ranks.resize(n, 0.0);
        // SAFETY: the scores hold group rows of n, the ranks n.
        unsafe {
            let keys = self.centres.keys(0, n);
            (query.kernels.score_rows)(query.scaled.as_ptr(), group, &keys, scratch.scores.as_mut_ptr(), n);
            scratch.weights.clear();
            scratch.weights.extend_from_slice(&scratch.scores);
            for row in scratch.weights.chunks_exact_mut(n) {
                let max = (query.kernels.max)(row.as_ptr(), n);
                let sum = (query.kernels.exp_sub)(row.as_mut_ptr(), n, max);
                (query.kernels.add_scaled)(row.as_ptr(), n, 1.0 / sum, scratch.ranks.as_mut_ptr());
            }
        }
        scratch.order.clear();
        scratch.order.extend(0..n as u32);
        let ranks = &scratch.ranks;
        scratch.order.sort_unstable_by(|&a, &b| ranks[b as usize].total_cmp(&ranks[a as usize]).then(a.cmp(&b)));
    }

    /// How many of the ranked clusters are read.
    fn num_read(&self, order: &[u32], max_selected: usize) -> usize {
        if max_selected == 0 {
            return order.len();
        }
        let mut total = 0;
        let fitting = order.iter().take_while(|&&c| {
            total += self.cluster(c).len();
            total <= max_selected
        });
        fitting.count().max(1)
    }

    /// What stands for `estimated`: of each head one log-sum-exp and one mean value.
    fn estimate(&self, query: &Query, group: usize, estimated: &[u32], out: &mut Proposal) {
        let (n, d) = (estimated.len(), query.query.len() / group);
        let scratch = &mut out.clusters;
        scratch.weights.clear();
        for scores in scratch.scores.chunks_exact(self.num_clusters()) {
            scratch.weights.extend(estimated.iter().map(|&c| scores[c as usize] + (self.cluster(c).len() as f32).ln()));
        }
        out.has_rest = true;
        out.rest_lse.clear();
        out.rest_value.clear();
        out.rest_value.resize(group * d, 0.0);
        // SAFETY: the weights hold group rows of n, the mean values group * d.
        unsafe {
            for row in scratch.weights.chunks_exact_mut(n) {
                let max = (query.kernels.max)(row.as_ptr(), n);
                let sum = (query.kernels.exp_sub)(row.as_mut_ptr(), n, max);
                (query.kernels.scale)(row.as_mut_ptr(), n, 1.0 / sum);
                out.rest_lse.push(max + sum.ln());
            }
            let values = self.centres.values_at(estimated);
            (query.kernels.add_weighted_rows)(scratch.weights.as_ptr(), n, group, &values, out.rest_value.as_mut_ptr());
        }
    }
}

/// Mean of some rows.
fn mean_of(kernels: &Kernels, rows: &Rows, list: &[u32]) -> Vec<f32> {
    let d = rows.head_dim();
    let (mut sum, mut row) = (vec![0.0; d], vec![0.0; d]);
    for &i in list {
        widen_rows(kernels, rows, i as usize, 1, &mut row);
        sum.iter_mut().zip(&row).for_each(|(s, x)| *s += x);
    }
    sum.iter_mut().for_each(|s| *s /= list.len() as f32);
    sum
}

/// Reused memory of a choice.
#[derive(Default)]
pub struct ClusterScratch {
    scores: Vec<f32>,
    weights: Vec<f32>,
    ranks: Vec<f32>,
    order: Vec<u32>,
}

impl HeadSelector for KeyClusters {
    fn propose(&self, query: &Query, out: &mut Proposal) {
        let (n, d) = (self.num_clusters(), self.centres.keys(0, 0).head_dim());
        let group = query.query.len() / d;
        self.rank(query, group, &mut out.clusters);
        let order = std::mem::take(&mut out.clusters.order);
        let num_read = self.num_read(&order, query.max_selected);
        let num_estimated = ((ESTIMATED_SHARE * n as f64).round() as usize).min(n - num_read);
        out.positions.clear();
        order[..num_read].iter().for_each(|&c| out.positions.extend_from_slice(self.cluster(c)));
        out.positions.sort_unstable();
        if num_estimated > 0 {
            self.estimate(query, group, &order[num_read..num_read + num_estimated], out);
        }
        out.clusters.order = order;
        out.candidates = Candidates::Listed;
        out.reads_all = true;
        out.num_probed = num_read;
        // Every mean key, the estimated mean values, two offsets a cluster of either kind, and the read clusters' positions.
        let rows = (n + num_estimated) * d * size_of::<u16>();
        out.bytes_read = rows + size_of::<u32>() * (2 * (num_read + num_estimated) + out.positions.len());
    }

    fn bytes(&self) -> usize {
        self.centres.bytes() + size_of::<u32>() * (self.offsets.len() + self.members.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, dot, store, tables};
    use ctkvr_kernels::PAGE_SIZE;
    use half::f16;

    const D: usize = 16;
    const START: usize = 6;
    static GO: AtomicBool = AtomicBool::new(false);

    /// Mean of a cluster's rows, as it is stored.
    fn mean(rows: &[f32], cluster: &[u32]) -> Vec<f32> {
        let sum = |c: usize| cluster.iter().map(|p| f64::from(rows[*p as usize * D + c])).sum::<f64>();
        (0..D).map(|c| f16::from_f64(sum(c) / cluster.len() as f64).to_f32()).collect()
    }

    fn clusters(selector: &KeyClusters) -> Vec<Vec<u32>> {
        (0..selector.num_clusters() as u32).map(|c| selector.cluster(c).to_vec()).collect()
    }

    #[test]
    fn every_position_is_in_one_cluster_with_its_mean() -> Result<()> {
        for kernels in tables(D) {
            for n in [1, 2, 15, 16, 17, 500, PAGE_SIZE * 17 + 3] {
                let mut random = Random(n as u64);
                let (keys, values) = (random.reals((START + n) * D, 2), random.reals((START + n) * D, 2));
                let kv = store(&keys, &values, D);
                let selector = KeyClusters::build(kernels, &kv.keys(START, n), &kv.values(START, n), START, &GO)?;
                let mut all: Vec<u32> = clusters(&selector).concat();
                all.sort_unstable();
                assert_eq!(all, (START as u32..(START + n) as u32).collect::<Vec<_>>(), "{} n {n}", kernels.name);
                assert!(selector.num_clusters() <= n.div_ceil(CLUSTER_SIZE));
                let mut row = vec![0.0; D];
                for (c, cluster) in clusters(&selector).iter().enumerate() {
                    assert!(!cluster.is_empty() && cluster.is_sorted_by(|a, b| a < b));
                    for (rows, stored) in [(&keys, selector.centres.keys(c, 1)), (&values, selector.centres.values(c, 1))] {
                        widen_rows(kernels, &stored, 0, 1, &mut row);
                        for (actual, expected) in row.iter().zip(mean(rows, cluster)) {
                            // One unit of f16 at 2: the mean may round to the neighbour.
                            assert!((actual - expected).abs() <= 2f32.powi(-9), "{} n {n} cluster {c}", kernels.name);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Given the clusters, what is read and what is estimated, from the definition in f64.
    #[test]
    fn reads_and_estimates_what_the_definition_names() -> Result<()> {
        let n = 700;
        let mut random = Random(1);
        let (keys, values) = (random.reals((START + n) * D, 2), random.reals((START + n) * D, 2));
        let kv = store(&keys, &values, D);
        for kernels in tables(D) {
            let selector = KeyClusters::build(kernels, &kv.keys(START, n), &kv.values(START, n), START, &GO)?;
            let clusters = clusters(&selector);
            for (group, max_selected) in [(1, 64), (3, 200), (3, 1), (2, 650), (2, 0)] {
                let scaled = random.reals(group * D, 1);
                let mut out = Proposal::default();
                selector.propose(&Query { query: &scaled, scaled: &scaled, max_selected, kernels }, &mut out);
                let scores: Vec<Vec<f64>> =
                    scaled.chunks_exact(D).map(|q| clusters.iter().map(|c| dot(q, &mean(&keys, c))).collect()).collect();
                let softmax = |s: &[f64]| {
                    let sum: f64 = s.iter().map(|x| x.exp()).sum();
                    s.iter().map(|x| x.exp() / sum).collect::<Vec<f64>>()
                };
                let weights: Vec<Vec<f64>> = scores.iter().map(|s| softmax(s)).collect();
                let rank = |c: usize| weights.iter().map(|w| w[c]).sum::<f64>();
                let mut order: Vec<usize> = (0..clusters.len()).collect();
                order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));
                let mut read = Vec::new();
                let mut num_read = 0;
                for &c in &order {
                    if max_selected > 0 && num_read > 0 && read.len() + clusters[c].len() > max_selected {
                        break;
                    }
                    read.extend_from_slice(&clusters[c]);
                    num_read += 1;
                }
                read.sort_unstable();
                let what = format!("{} group {group} of {max_selected}", kernels.name);
                assert_eq!(out.positions, read, "{what}");
                assert_eq!(out.num_probed, num_read, "{what}");
                let count = ((clusters.len() as f64 * 0.232).round() as usize).min(clusters.len() - num_read);
                let estimated = &order[num_read..num_read + count];
                assert_eq!(out.has_rest, count > 0, "{what}");
                for (h, scores) in scores.iter().enumerate().filter(|_| count > 0) {
                    let weight = |c: usize| clusters[c].len() as f64 * scores[c].exp();
                    let sum: f64 = estimated.iter().map(|&c| weight(c)).sum();
                    // Scores of at most 32 in size from f16 means: 2^-11 * 32 would be the worst case of rounding twice; both sides use
                    // the rounded means, so that f32 sums (18 * 2^-24 * 32) and a mean that rounds to its neighbour remain.
                    assert!((f64::from(out.rest_lse[h]) - sum.ln()).abs() < 2e-3, "{what}: {} for {}", out.rest_lse[h], sum.ln());
                    for c in 0..D {
                        let value: f64 =
                            estimated.iter().map(|&e| weight(e) / sum * f64::from(mean(&values, &clusters[e])[c])).sum();
                        assert!((f64::from(out.rest_value[h * D + c]) - value).abs() < 4e-3, "{what} value {c}");
                    }
                }
            }
        }
        Ok(())
    }
}
