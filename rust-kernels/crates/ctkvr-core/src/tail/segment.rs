//! Clusters of the keys and values of one stretch of positions, which stand for those of them that a step does not read. Where lists are
//! made of what queries want, the rest is best told by what its keys are: a cluster's keys score nearly alike for any query, so that
//! its mean key and mean value say what all of it adds (docs/decisions/2026-11-25-tail-of-clusters.md; clusters of keys as in RetroInfer,
//! arXiv 2505.02922).

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::k_means::{KMeans, Likeness, stretches};
use crate::kv::panels::widen_rows;
use crate::tail::ClusterOptions;
use crate::tail::means::ClusterMeans;
use ctkvr_kernels::{Kernels, KvFormat, Rows};

/// Positions clustered together.
const STRETCH_LEN: usize = 1024;
/// Times that positions are assigned.
pub const NUM_PASSES: usize = 2;
/// Clusters are counted by u16: beyond this many positions they grow.
const MAX_CLUSTERS: usize = 1 << 16;

/// Immutable; shared by forks.
#[derive(Debug, PartialEq)]
pub struct TailSegment {
    /// Position of the first.
    pub start: usize,
    /// Tokens stored when it was made: a sequence cut shorter than that has it no more.
    pub made_at: usize,
    /// The cluster of each position.
    pub cluster_of: Vec<u16>,
    /// Where each cluster's positions begin in `members`: `[num_clusters + 1]`; none is empty.
    offsets: Vec<u32>,
    /// Positions counted from `start`, cluster by cluster, ascending in each.
    members: Vec<u32>,
    /// Row c: of cluster c.
    means: ClusterMeans,
}

/// Clusters of [`stretches_of`] in order, made with [`NUM_PASSES`] passes as [`KMeans`] makes them of keys, and of values times
/// [`weight_of_spreads`].
#[derive(Debug, Clone, Copy)]
pub struct MadeClusters<'a> {
    /// Each position's cluster.
    pub assigned: &'a [u32],
    /// Means, f32 `[clusters, head_dim]`; of empty clusters anything.
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub head_dim: usize,
}

impl TailSegment {
    /// Clusters `keys` and `values`, rows of the same positions from `start` on, of which there is at least one.
    pub fn build(
        kernels: &Kernels,
        (keys, values): (&Rows, &Rows),
        (start, made_at): (usize, usize),
        options: ClusterOptions,
        cancel: &AtomicBool,
    ) -> Result<Self> {
        let (d, n) = (keys.head_dim(), keys.len());
        let weight = value_weight(kernels, keys, values);
        let k_means = KMeans {
            kernels,
            likeness: Likeness::Distance,
            cluster_size: least_cluster_size(n, options.size),
            stretch_len: STRETCH_LEN,
            num_passes: NUM_PASSES,
            cancel,
        };
        let joint = |stretch: Range<usize>, out: &mut [f32]| joint_rows(kernels, (keys, values), weight, stretch, out);
        let (_, assigned) = k_means.cluster(n, 2 * d, joint)?;
        let cluster_of = without_empty(&assigned);
        let num_clusters = cluster_of.iter().max().map_or(0, |&c| usize::from(c) + 1);
        let (offsets, members) = members_of(&cluster_of, num_clusters);
        let [keys, values] = [keys, values].map(|rows| means_of(kernels, rows, &offsets, &members));
        let means = ClusterMeans::new(kernels, &keys, &values, d, options.format);
        Ok(Self { start, made_at, cluster_of, offsets, members, means })
    }

    /// Of clusters that were made elsewhere.
    pub fn from_clusters(kernels: &Kernels, (start, made_at): (usize, usize), made: &MadeClusters, format: KvFormat) -> Self {
        let MadeClusters { assigned, keys, values, head_dim: d } = *made;
        let used = used_clusters(assigned);
        let cluster_of = without_empty(assigned);
        let (offsets, members) = members_of(&cluster_of, used.len());
        let of_used = |rows: &[f32]| -> Vec<f32> { used.iter().flat_map(|&c| &rows[c * d..(c + 1) * d]).copied().collect() };
        let means = ClusterMeans::new(kernels, &of_used(keys), &of_used(values), d, format);
        Self { start, made_at, cluster_of, offsets, members, means }
    }

    /// One whose parts were stored; `None` when they do not fit each other.
    pub fn from_parts(start: usize, made_at: usize, cluster_of: Vec<u16>, means: ClusterMeans) -> Option<Self> {
        let num_clusters = means.num_clusters()?;
        if cluster_of.iter().any(|&c| usize::from(c) >= num_clusters) {
            return None;
        }
        let (offsets, members) = members_of(&cluster_of, num_clusters);
        let none_is_empty = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        none_is_empty.then_some(Self { start, made_at, cluster_of, offsets, members, means })
    }

    pub fn end(&self) -> usize {
        self.start + self.cluster_of.len()
    }

    pub fn num_clusters(&self) -> usize {
        self.offsets.len() - 1
    }

    /// How many positions each cluster has.
    pub fn counts(&self) -> impl Iterator<Item = f32> + '_ {
        self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as f32)
    }

    /// A cluster's positions, counted from `start`, ascending.
    pub fn members(&self, cluster: usize) -> &[u32] {
        &self.members[self.offsets[cluster] as usize..self.offsets[cluster + 1] as usize]
    }

    /// Where each cluster's positions begin, `[num_clusters + 1]`, and all positions, as [`TailSegment::members`] has them.
    pub fn member_lists(&self) -> (&[u32], &[u32]) {
        (&self.offsets, &self.members)
    }

    /// Sums of each cluster's weights for `HEADS` heads at once, which share the look at who is in it. `weights`: f32 rows of `n` values, of
    /// which this segment's begin at `first`; `sums`: f32 rows of `stride`.
    pub fn sum_by_cluster<const HEADS: usize>(&self, weights: &[f32], (n, first): (usize, usize), sums: &mut [f32], stride: usize) {
        assert!(first + self.cluster_of.len() <= n && weights.len() >= HEADS * n);
        for c in 0..self.num_clusters() {
            let mut of_cluster = [0f32; HEADS];
            for &i in self.members(c) {
                for (h, sum) in of_cluster.iter_mut().enumerate() {
                    // SAFETY: members are places in the segment, whose weights lie in each head's row.
                    *sum += unsafe { weights.get_unchecked(h * n + first + i as usize) };
                }
            }
            of_cluster.into_iter().enumerate().for_each(|(h, sum)| sums[h * stride + c] = sum);
        }
    }

    /// Mean keys and mean values of all clusters.
    pub fn means(&self) -> &ClusterMeans {
        &self.means
    }

    /// Which of some ascending positions lie in the segment: indexes.
    pub fn share_of(&self, positions: &[u32]) -> Range<usize> {
        let place = |position: usize| positions.partition_point(|&p| (p as usize) < position);
        place(self.start)..place(self.end())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let numbers = (self.offsets.len() + self.members.len()) * size_of::<u32>();
        self.means.bytes() + self.cluster_of.len() * size_of::<u16>() + numbers
    }
}

/// What is clustered: f32 `[.., 2 d]`, each key of some positions, then its value times `weight`.
fn joint_rows(kernels: &Kernels, (keys, values): (&Rows, &Rows), weight: f32, range: Range<usize>, out: &mut [f32]) {
    let d = keys.head_dim();
    for (i, row) in range.zip(out.chunks_exact_mut(2 * d)) {
        let (key, value) = row.split_at_mut(d);
        widen_rows(kernels, keys, i, 1, key);
        widen_rows(kernels, values, i, 1, value);
        value.iter_mut().for_each(|x| *x *= weight);
    }
}

/// Positions, of n, that are clustered together, and how many clusters they make, stretch by stretch.
pub fn stretches_of(n: usize, cluster_size: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let size = least_cluster_size(n, cluster_size);
    stretches(n, STRETCH_LEN).map(move |stretch| (stretch.clone(), stretch.len().div_ceil(size)))
}

fn least_cluster_size(n: usize, wanted: usize) -> usize {
    wanted.max(n.div_ceil(MAX_CLUSTERS / 2))
}

fn value_weight(kernels: &Kernels, keys: &Rows, values: &Rows) -> f32 {
    weight_of_spreads(spread(kernels, keys), spread(kernels, values))
}

/// The power of two that makes values spread about as far around their mean as keys do: it keeps small integers exact. 1 where either has
/// no spread. Takes sums of squared distances from the mean.
pub fn weight_of_spreads(keys: f64, values: f64) -> f32 {
    if keys > 0.0 && values > 0.0 { (0.5 * (keys / values).log2()).round().exp2() as f32 } else { 1.0 }
}

/// Sum of the squared distances of rows from their mean.
fn spread(kernels: &Kernels, rows: &Rows) -> f64 {
    let d = rows.head_dim();
    let (mut sums, mut squares, mut row) = (vec![0f64; d], vec![0f64; d], vec![0.0; d]);
    for i in 0..rows.len() {
        widen_rows(kernels, rows, i, 1, &mut row);
        for ((sum, square), x) in sums.iter_mut().zip(&mut squares).zip(&row) {
            *sum += f64::from(*x);
            *square += f64::from(*x) * f64::from(*x);
        }
    }
    squares.iter().sum::<f64>() - sums.iter().map(|s| s * s).sum::<f64>() / rows.len() as f64
}

/// Clusters that somebody is in, ascending.
fn used_clusters(assigned: &[u32]) -> Vec<usize> {
    let mut is_used = vec![false; assigned.iter().max().map_or(0, |&c| c as usize + 1)];
    assigned.iter().for_each(|&c| is_used[c as usize] = true);
    (0..is_used.len()).filter(|&c| is_used[c]).collect()
}

/// The same clusters counted without those that nobody is in, in the same order.
fn without_empty(assigned: &[u32]) -> Vec<u16> {
    let mut ids = vec![u16::MAX; assigned.iter().max().map_or(0, |&c| c as usize + 1)];
    assigned.iter().for_each(|&c| ids[c as usize] = 0);
    let used = ids.iter_mut().filter(|id| **id == 0);
    used.zip(0..).for_each(|(id, next)| *id = next);
    assigned.iter().map(|&c| ids[c as usize]).collect()
}

/// Offsets and members as [`TailSegment`] has them.
fn members_of(cluster_of: &[u16], num_clusters: usize) -> (Vec<u32>, Vec<u32>) {
    let mut offsets = vec![0; num_clusters + 1];
    cluster_of.iter().for_each(|&c| offsets[usize::from(c) + 1] += 1);
    (0..num_clusters).for_each(|c| offsets[c + 1] += offsets[c]);
    let (mut next, mut members) = (offsets.clone(), vec![0; cluster_of.len()]);
    for (i, &c) in cluster_of.iter().enumerate() {
        members[next[usize::from(c)] as usize] = i as u32;
        next[usize::from(c)] += 1;
    }
    (offsets, members)
}

/// Mean of each cluster's rows, f32 `[num_clusters, head_dim]`.
fn means_of(kernels: &Kernels, rows: &Rows, offsets: &[u32], members: &[u32]) -> Vec<f32> {
    let d = rows.head_dim();
    let mut row = vec![0.0; d];
    let mut means = Vec::with_capacity((offsets.len() - 1) * d);
    for pair in offsets.windows(2) {
        let mut sums = vec![0f64; d];
        for &i in &members[pair[0] as usize..pair[1] as usize] {
            widen_rows(kernels, rows, i as usize, 1, &mut row);
            sums.iter_mut().zip(&row).for_each(|(s, x)| *s += f64::from(*x));
        }
        means.extend(sums.iter().map(|s| (s / f64::from(pair[1] - pair[0])) as f32));
    }
    means
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::kv::f16_rows::F16Rows;
    use crate::test_rows::{Random, few, store, tables};
    use ctkvr_kernels::{KvFormat, PAGE_SIZE};

    const D: usize = 16;
    const START: usize = 6;
    static GO: AtomicBool = AtomicBool::new(false);
    const OPTIONS: ClusterOptions = ClusterOptions { size: 8, format: KvFormat::F16 };

    #[test]
    fn every_position_is_in_one_cluster_with_its_mean() -> Result<()> {
        for kernels in tables(D) {
            for n in few(4, [1, 7, 8, 9, 300, PAGE_SIZE * 17 + 3]) {
                let mut random = Random(n as u64);
                let (keys, values) = (random.reals((START + n) * D, 2), random.reals((START + n) * D, 8));
                let kv = store(&keys, &values, D);
                let rows = (&kv.keys(START, n), &kv.values(START, n));
                let segment = TailSegment::build(kernels, rows, (START, 900), OPTIONS, &GO)?;
                assert_eq!((segment.start, segment.end(), segment.made_at), (START, START + n, 900));
                let mut all: Vec<u32> = (0..segment.num_clusters()).flat_map(|c| segment.members(c)).copied().collect();
                all.sort_unstable();
                assert_eq!(all, (0..n as u32).collect::<Vec<_>>(), "{} n {n}", kernels.name);
                for c in 0..segment.num_clusters() {
                    let members = segment.members(c);
                    assert!(!members.is_empty() && members.is_sorted_by(|a, b| a < b));
                    assert!(members.iter().all(|&i| usize::from(segment.cluster_of[i as usize]) == c));
                    for (of, stored) in [(&keys, segment.means().keys_in_f16()), (&values, segment.means().values_in_f16())] {
                        for i in 0..D {
                            let sum: f64 = members.iter().map(|m| f64::from(of[(START + *m as usize) * D + i])).sum();
                            let (mean, actual) = (sum / members.len() as f64, f16::from_bits(stored[c * D + i]).to_f64());
                            // Half a unit of f16 at 8.
                            assert!(
                                (actual - mean).abs() <= 2f64.powi(-8),
                                "{} n {n} cluster {c}: {actual} for {mean}",
                                kernels.name
                            );
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Two kinds of keys, and of each two kinds of values, all far from each other, kind after kind.
    #[test]
    fn keys_and_values_both_tell_clusters_apart() -> Result<()> {
        let n = 64;
        let mut random = Random(5);
        let (mut keys, mut values) = (random.reals(n * D, 1), random.reals(n * D, 1));
        for i in 0..n {
            keys[i * D] += if i / 16 % 2 == 0 { 300.0 } else { -300.0 };
            values[i * D] += if i / 16 < 2 { 20.0 } else { -20.0 };
        }
        let kv = store(&keys, &values, D);
        for kernels in tables(D) {
            let segment = TailSegment::build(kernels, (&kv.keys(0, n), &kv.values(0, n)), (0, n), OPTIONS, &GO)?;
            for (i, a) in segment.cluster_of.iter().enumerate() {
                let mut strangers = segment.cluster_of.iter().enumerate().filter(|(j, _)| j / 16 != i / 16);
                assert!(strangers.all(|(_, b)| a != b), "{} position {i}", kernels.name);
            }
        }
        Ok(())
    }

    #[test]
    fn rows_weigh_alike_by_a_power_of_two() {
        let mut random = Random(6);
        for kernels in tables(D) {
            for (most, weight) in [(1, 4.0), (4, 1.0), (16, 0.25)] {
                let (keys, values) = (random.reals(500 * D, 4), random.reals(500 * D, most));
                let kv = store(&keys, &values, D);
                let (stored_keys, stored_values) = (kv.keys(0, 500), kv.values(0, 500));
                assert_eq!(value_weight(kernels, &stored_keys, &stored_values), weight);
                let mut rows = [0.0; 4 * D];
                joint_rows(kernels, (&stored_keys, &stored_values), weight, 7..9, &mut rows);
                for (row, i) in rows.chunks_exact(2 * D).zip([7, 8]) {
                    assert_eq!(row[..D], keys[i * D..(i + 1) * D]);
                    assert_eq!(row[D..], values[i * D..(i + 1) * D].iter().map(|x| x * weight).collect::<Vec<_>>());
                }
            }
            let kv = store(&[1.0; 3 * D], &[7.0; 3 * D], D);
            assert_eq!(value_weight(kernels, &kv.keys(0, 3), &kv.values(0, 3)), 1.0, "no spread, no weight");
        }
    }

    #[test]
    fn clusters_of_elsewhere_leave_out_the_empty() {
        let rows = |first: usize| -> Vec<f32> { (0..6 * D).map(|i| (first + i / D) as f32).collect() };
        let made = MadeClusters { assigned: &[3, 0, 3, 5], keys: &rows(10), values: &rows(20), head_dim: D };
        let segment = TailSegment::from_clusters(tables(D)[0], (START, 900), &made, KvFormat::F16);
        assert_eq!((segment.start, segment.end(), segment.made_at), (START, START + 4, 900));
        assert_eq!(segment.cluster_of, [1, 0, 1, 2]);
        assert_eq!(segment.member_lists(), (&[0, 1, 3, 4][..], &[1, 0, 2, 3][..]));
        let first_values = |rows: &[u16]| rows.chunks_exact(D).map(|row| f16::from_bits(row[0]).to_f32()).collect::<Vec<_>>();
        let (keys, values) = (segment.means().keys_in_f16(), segment.means().values_in_f16());
        assert_eq!((first_values(&keys), first_values(&values)), (vec![10.0, 13.0, 15.0], vec![20.0, 23.0, 25.0]));
    }

    #[test]
    fn stretches_and_their_clusters() {
        let of = |n, size| stretches_of(n, size).collect::<Vec<_>>();
        assert_eq!(of(1, 32), [(0..1, 1)]);
        assert_eq!(of(1100, 32), [(0..1100, 35)]);
        assert_eq!(of(3000, 100), [(0..1000, 10), (1000..2000, 10), (2000..3000, 10)]);
        // Clusters are counted by u16: of many positions they are larger than asked for.
        let many: usize = of(1 << 20, 1).iter().map(|(_, count)| count).sum();
        assert_eq!(many, 1 << 15);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let rows = |n: usize| F16Rows::new(vec![0; n * D], D);
        let of = |clusters: &[u16], keys, values| {
            let means = ClusterMeans::Exact { keys: rows(keys), values: rows(values) };
            TailSegment::from_parts(0, 9, clusters.to_vec(), means)
        };
        assert!(of(&[0, 1, 0], 2, 2).is_some());
        assert!(of(&[0, 2, 0], 2, 2).is_none(), "an unknown cluster");
        assert!(of(&[0, 0, 0], 2, 2).is_none(), "an empty cluster");
        assert!(of(&[0, 1, 0], 2, 1).is_none(), "means of another number");
    }
}
