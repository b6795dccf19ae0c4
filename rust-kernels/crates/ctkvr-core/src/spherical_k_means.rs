//! Spherical k-means over the keys of one KV head, in segments, as RetroInfer clusters them (arXiv 2505.02922): keys near each
//! other in the text are alike after rotary embedding, so that a segment needs to know only its own keys.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::kernels::{Gemm, Kernels};

/// Passes over the keys, the last of which is over all segments' centres.
const NUM_PASSES: usize = 10;
/// Keys assigned at once.
const ROWS_PER_PASS: usize = 64;

/// Assigns each of `keys` (f32 `[n, d]`, centred by the caller) to one of the returned number of clusters, `cluster_size` keys each on
/// average. Segments have `segment_len` keys or nearly so. A cluster may stay empty. Ties: the smaller id.
pub(crate) fn cluster_keys(
    kernels: &Kernels,
    keys: &[f32],
    d: usize,
    cluster_size: usize,
    segment_len: usize,
    cancel: &AtomicBool,
) -> Result<(usize, Vec<u32>)> {
    let n = keys.len() / d;
    let num_segments = ((n + segment_len / 2) / segment_len).max(1);
    let mut centres: Vec<f32> = Vec::new();
    let mut assigned = vec![0; n];
    for s in 0..num_segments {
        let segment = n * s / num_segments..n * (s + 1) / num_segments;
        let mine = &keys[segment.start * d..segment.end * d];
        let mut own = first_centres(mine, d, segment.len().div_ceil(cluster_size));
        for _ in 1..NUM_PASSES {
            assign(kernels, mine, &own, d, &mut assigned[segment.clone()], cancel)?;
            move_centres(mine, &assigned[segment.clone()], &mut own, d);
        }
        centres.extend_from_slice(&own);
    }
    assign(kernels, keys, &centres, d, &mut assigned, cancel)?;
    Ok((centres.len() / d, assigned))
}

/// `count` keys spread evenly over the segment, normalised.
fn first_centres(keys: &[f32], d: usize, count: usize) -> Vec<f32> {
    let n = keys.len() / d;
    let mut centres: Vec<f32> = (0..count).flat_map(|c| keys[(2 * c + 1) * n / (2 * count) * d..][..d].iter().copied()).collect();
    centres.chunks_exact_mut(d).for_each(normalise);
    centres
}

/// The centre of largest inner product with each key.
fn assign(kernels: &Kernels, keys: &[f32], centres: &[f32], d: usize, assigned: &mut [u32], cancel: &AtomicBool) -> Result<()> {
    let count = centres.len() / d;
    // The matrix product takes columns by the 16; those past the last centre are not looked at.
    let stride = count.next_multiple_of(16);
    let mut columns = vec![0.0; d * stride];
    for (c, centre) in centres.chunks_exact(d).enumerate() {
        centre.iter().enumerate().for_each(|(i, x)| columns[i * stride + c] = *x);
    }
    let mut products = vec![0.0; ROWS_PER_PASS * stride];
    for (keys, assigned) in keys.chunks(ROWS_PER_PASS * d).zip(assigned.chunks_mut(ROWS_PER_PASS)) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let product = Gemm {
            a: keys.as_ptr(),
            lda: d,
            b: columns.as_ptr(),
            ldb: stride,
            c: products.as_mut_ptr(),
            ldc: stride,
            m: assigned.len(),
            n: stride,
            k: d,
            accumulate: false,
        };
        // SAFETY: the matrices hold what the product says; the stride is a multiple of 16.
        unsafe { (kernels.gemm)(&product) };
        for (row, best) in products.chunks_exact(stride).zip(assigned) {
            // SAFETY: the row holds `count` products.
            let most = unsafe { (kernels.max)(row.as_ptr(), count) };
            *best = row[..count].iter().position(|x| *x == most).unwrap_or(0) as u32;
        }
    }
    Ok(())
}

/// Every centre becomes the direction of its keys' sum; one without keys stays.
fn move_centres(keys: &[f32], assigned: &[u32], centres: &mut [f32], d: usize) {
    let mut sums = vec![0.0; centres.len()];
    let mut has_keys = vec![false; centres.len() / d];
    for (key, &c) in keys.chunks_exact(d).zip(assigned) {
        has_keys[c as usize] = true;
        sums[c as usize * d..][..d].iter_mut().zip(key).for_each(|(s, x)| *s += x);
    }
    for ((centre, sum), has_keys) in centres.chunks_exact_mut(d).zip(sums.chunks_exact_mut(d)).zip(has_keys) {
        if has_keys {
            normalise(sum);
            centre.copy_from_slice(sum);
        }
    }
}

/// To length 1; a zero vector stays.
fn normalise(row: &mut [f32]) {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, dot, tables};

    const D: usize = 16;
    static GO: AtomicBool = AtomicBool::new(false);

    #[test]
    fn every_key_goes_to_the_centre_of_largest_product() -> Result<()> {
        for kernels in tables(D) {
            for (n, count) in [(1, 1), (65, 3), (200, 16), (130, 33)] {
                let mut random = Random(n as u64);
                // Small integers tie often, and their products are exact.
                let (keys, centres) = (random.integers(n * D, 2), random.integers(count * D, 1));
                let mut assigned = vec![7; n];
                assign(kernels, &keys, &centres, D, &mut assigned, &GO)?;
                for (i, &c) in assigned.iter().enumerate() {
                    let product = |c: usize| dot(&keys[i * D..][..D], &centres[c * D..][..D]);
                    let best = (0..count).fold(0, |best, c| if product(c) > product(best) { c } else { best });
                    assert_eq!(c as usize, best, "{} n {n} centres {count} key {i}", kernels.name);
                }
            }
        }
        Ok(())
    }

    /// 12 far directions, 16 keys each, in turn: the first centres are spread over all of them.
    #[test]
    fn separate_groups_become_the_clusters() -> Result<()> {
        let (num_groups, size) = (12, 16);
        let mut random = Random(3);
        let mut keys = random.reals(num_groups * size * D, 1);
        for (i, key) in keys.chunks_exact_mut(D).enumerate() {
            key[i / size] += 40.0;
        }
        for kernels in tables(D) {
            for segment_len in [num_groups * size, 64] {
                let (count, assigned) = cluster_keys(kernels, &keys, D, size, segment_len, &GO)?;
                assert_eq!(count, num_groups);
                for (i, c) in assigned.iter().enumerate() {
                    assert_eq!(*c, assigned[i / size * size], "{} key {i}", kernels.name);
                }
                let mut distinct = assigned.clone();
                distinct.dedup();
                assert_eq!(distinct.len(), num_groups, "{}", kernels.name);
            }
        }
        Ok(())
    }

    #[test]
    fn equal_keys_zeros_and_cancellation() -> Result<()> {
        for kernels in tables(D) {
            for value in [0.0, 1.0] {
                let (count, assigned) = cluster_keys(kernels, &[value; 50 * D], D, 16, 8192, &GO)?;
                assert_eq!((count, assigned), (4, vec![0; 50]), "ties go to the smaller id");
            }
            let cancelled = cluster_keys(kernels, &[0.0; D], D, 16, 8192, &AtomicBool::new(true));
            assert_eq!(cancelled, Err(Error::Cancelled));
        }
        Ok(())
    }
}
