//! K-means over the rows of one KV head, in stretches, as RetroInfer clusters keys (arXiv 2505.02922; it calls them segments): keys near
//! each other in the text are alike after rotary embedding, so that a stretch needs to know only its own keys.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use ctkvr_kernels::{Gemm, Kernels};

/// Rows assigned at once.
const ROWS_PER_PASS: usize = 64;

/// Which centre is a row's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The one of largest inner product; centres have length 1 (spherical k-means).
    Direction,
    /// The nearest one.
    Distance,
}

/// How rows are clustered.
#[derive(Clone, Copy)]
pub struct KMeans<'a> {
    pub kernels: &'a Kernels,
    pub likeness: Likeness,
    /// Rows of a cluster, on average.
    pub cluster_size: usize,
    /// Rows clustered together, or nearly so many.
    pub stretch_len: usize,
    /// Times that rows are assigned, at least once.
    pub num_passes: usize,
    pub cancel: &'a AtomicBool,
}

impl KMeans<'_> {
    /// Assigns each of n rows to one of the returned number of clusters. A cluster may stay empty. Ties: the smaller id. `fill` writes some
    /// of the rows to f32 `[.., d]`: a stretch at a time, so that it stays in cache.
    pub fn cluster(&self, n: usize, d: usize, fill: impl Fn(Range<usize>, &mut [f32])) -> Result<(usize, Vec<u32>)> {
        let mut num_clusters = 0;
        let (mut assigned, mut rows) = (vec![0; n], Vec::new());
        for stretch in stretches(n, self.stretch_len) {
            rows.resize(stretch.len() * d, 0.0);
            fill(stretch.clone(), &mut rows);
            let (rows, assigned) = (&rows[..], &mut assigned[stretch.clone()]);
            let mut centres = self.first_centres(rows, d, stretch.len().div_ceil(self.cluster_size));
            self.assign(rows, &centres, d, assigned)?;
            for _ in 1..self.num_passes {
                self.move_centres(rows, assigned, &mut centres, d);
                self.assign(rows, &centres, d, assigned)?;
            }
            assigned.iter_mut().for_each(|c| *c += num_clusters as u32);
            num_clusters += centres.len() / d;
        }
        Ok((num_clusters, assigned))
    }

    /// `count` rows spread evenly over the stretch.
    fn first_centres(&self, rows: &[f32], d: usize, count: usize) -> Vec<f32> {
        let n = rows.len() / d;
        let mut centres: Vec<f32> =
            (0..count).flat_map(|c| rows[(2 * c + 1) * n / (2 * count) * d..][..d].iter().copied()).collect();
        if self.likeness == Likeness::Direction {
            centres.chunks_exact_mut(d).for_each(normalise);
        }
        centres
    }

    /// Each row's own centre.
    fn assign(&self, rows: &[f32], centres: &[f32], d: usize, assigned: &mut [u32]) -> Result<()> {
        let count = centres.len() / d;
        // The matrix product takes columns by the 16; those past the last centre are not looked at.
        let stride = count.next_multiple_of(16);
        let mut columns = vec![0.0; d * stride];
        // The nearest centre is the one of largest row . centre - |centre|^2 / 2.
        let mut offsets = vec![0.0; stride];
        for (c, centre) in centres.chunks_exact(d).enumerate() {
            centre.iter().enumerate().for_each(|(i, x)| columns[i * stride + c] = *x);
            if self.likeness == Likeness::Distance {
                offsets[c] = -0.5 * centre.iter().map(|x| x * x).sum::<f32>();
            }
        }
        let mut products = vec![0.0; ROWS_PER_PASS * stride];
        for (rows, assigned) in rows.chunks(ROWS_PER_PASS * d).zip(assigned.chunks_mut(ROWS_PER_PASS)) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            products.chunks_exact_mut(stride).take(assigned.len()).for_each(|row| row.copy_from_slice(&offsets));
            self.kernels.gemm(Gemm {
                a: rows,
                lda: d,
                b: &columns,
                ldb: stride,
                c: &mut products,
                ldc: stride,
                m: assigned.len(),
                n: stride,
                k: d,
                accumulate: true,
            });
            for (row, best) in products.chunks_exact(stride).zip(assigned) {
                let most = self.kernels.max(&row[..count]);
                *best = row[..count].iter().position(|x| *x == most).unwrap_or(0) as u32;
            }
        }
        Ok(())
    }

    /// Every centre becomes its rows' mean, or the direction of their sum; one without rows stays.
    fn move_centres(&self, rows: &[f32], assigned: &[u32], centres: &mut [f32], d: usize) {
        let mut sums = vec![0.0; centres.len()];
        let mut counts = vec![0u32; centres.len() / d];
        for (row, &c) in rows.chunks_exact(d).zip(assigned) {
            counts[c as usize] += 1;
            sums[c as usize * d..][..d].iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
        for ((centre, sum), count) in centres.chunks_exact_mut(d).zip(sums.chunks_exact_mut(d)).zip(counts) {
            if count == 0 {
                continue;
            }
            match self.likeness {
                Likeness::Direction => normalise(sum),
                Likeness::Distance => sum.iter_mut().for_each(|s| *s /= count as f32),
            }
            centre.copy_from_slice(sum);
        }
    }
}

/// Stretches of nearly `stretch_len` rows each, of n; at least one.
pub fn stretches(n: usize, stretch_len: usize) -> impl Iterator<Item = Range<usize>> {
    let count = ((n + stretch_len / 2) / stretch_len).max(1);
    (0..count).map(move |s| n * s / count..n * (s + 1) / count)
}

/// To length 1; a zero vector stays.
pub fn normalise(x: &mut [f32]) {
    let norm = length(x);
    if norm > 0.0 {
        x.iter_mut().for_each(|v| *v /= norm);
    }
}

/// Euclidean length.
pub fn length(x: &[f32]) -> f32 {
    x.iter().map(|v| v * v).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, dot, tables};

    const D: usize = 16;
    static GO: AtomicBool = AtomicBool::new(false);
    const BOTH: [Likeness; 2] = [Likeness::Direction, Likeness::Distance];

    fn cluster(k_means: KMeans, rows: &[f32]) -> Result<(usize, Vec<u32>)> {
        k_means.cluster(rows.len() / D, D, |range, out| out.copy_from_slice(&rows[range.start * D..range.end * D]))
    }

    fn k_means(kernels: &Kernels, likeness: Likeness, stretch_len: usize) -> KMeans<'_> {
        KMeans { kernels, likeness, cluster_size: 16, stretch_len, num_passes: 10, cancel: &GO }
    }

    #[test]
    fn every_row_goes_to_its_own_centre() -> Result<()> {
        for (kernels, likeness) in tables(D).into_iter().flat_map(|k| BOTH.map(|l| (k, l))) {
            for (n, count) in [(1, 1), (65, 3), (200, 16), (130, 33)] {
                let mut random = Random(n as u64);
                // Small integers tie often, and their products are exact.
                let (rows, centres) = (random.integers(n * D, 2), random.integers(count * D, 1));
                let mut assigned = vec![7; n];
                k_means(kernels, likeness, 8192).assign(&rows, &centres, D, &mut assigned)?;
                for (i, &c) in assigned.iter().enumerate() {
                    let row = &rows[i * D..][..D];
                    let likeness_of = |c: usize| {
                        let centre = &centres[c * D..][..D];
                        match likeness {
                            Likeness::Direction => dot(row, centre),
                            Likeness::Distance => -row.iter().zip(centre).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>(),
                        }
                    };
                    let best = (0..count).fold(0, |best, c| if likeness_of(c) > likeness_of(best) { c } else { best });
                    assert_eq!(c as usize, best, "{} {likeness:?} n {n} centres {count} row {i}", kernels.name);
                }
            }
        }
        Ok(())
    }

    /// 12 far groups, 16 rows each, in turn: the first centres are spread over all of them.
    #[test]
    fn separate_groups_become_the_clusters() -> Result<()> {
        let (num_groups, size) = (12, 16);
        let mut random = Random(3);
        let mut rows = random.reals(num_groups * size * D, 1);
        for (i, row) in rows.chunks_exact_mut(D).enumerate() {
            row[i / size] += 40.0;
        }
        for (kernels, likeness) in tables(D).into_iter().flat_map(|k| BOTH.map(|l| (k, l))) {
            for stretch_len in [num_groups * size, 64] {
                let (count, assigned) = cluster(k_means(kernels, likeness, stretch_len), &rows)?;
                assert_eq!(count, num_groups);
                for (i, c) in assigned.iter().enumerate() {
                    assert_eq!(*c, assigned[i / size * size], "{} {likeness:?} row {i}", kernels.name);
                }
                let mut distinct = assigned.clone();
                distinct.dedup();
                assert_eq!(distinct.len(), num_groups, "{} {likeness:?}", kernels.name);
            }
        }
        Ok(())
    }

    #[test]
    fn equal_rows_zeros_and_cancellation() -> Result<()> {
        for (kernels, likeness) in tables(D).into_iter().flat_map(|k| BOTH.map(|l| (k, l))) {
            for value in [0.0, 1.0] {
                let (count, assigned) = cluster(k_means(kernels, likeness, 8192), &[value; 50 * D])?;
                assert_eq!((count, assigned), (4, vec![0; 50]), "ties go to the smaller id");
            }
            let cancelled = KMeans { cancel: &AtomicBool::new(true), ..k_means(kernels, likeness, 8192) };
            assert_eq!(cluster(cancelled, &[0.0; D]), Err(Error::Cancelled));
        }
        Ok(())
    }
}
