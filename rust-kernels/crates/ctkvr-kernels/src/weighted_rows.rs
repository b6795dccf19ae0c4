//! Weighted sums of stored rows: values of pages.

use crate::Kernels;
use crate::kv_format::KvFormat;
use crate::prefetch::{BYTES_AHEAD, prefetch_first, prefetch_row, rows_in};
use crate::rows::{BLOCK_BYTES, F16, Q8, RowFormat, Rows};
use crate::simd::Simd;
use crate::sizes::{check_sizes, span};

impl Kernels {
    /// Output of attention: `acc[h]` += the sum over i of `weights[h * stride + i]` times row i.
    ///
    /// `acc` f32 `[group, head_dim]`; `weights` f32, `group` rows of `stride` values, of which the first `rows.len()` are read. Each value of
    /// `acc` is one running sum in the order of the rows. Reference: the table `scalar`.
    ///
    /// # Panics
    /// When the sizes do not fit, or head_dim is no multiple of `lanes`.
    #[inline]
    pub fn add_weighted_rows(&self, weights: &[f32], stride: usize, rows: &Rows, acc: &mut [f32]) {
        let (group, n) = (self.group_of(acc.len(), rows), rows.len());
        check_sizes!(
            n <= stride && weights.len() >= span(group, stride, n),
            "add_weighted_rows",
            weights = weights.len(),
            stride = stride,
            rows = n,
            head_dim = rows.head_dim(),
            acc = acc.len(),
        );
        // SAFETY: weights hold group rows of the stride, acc as many heads; the rows are readable, as a `Rows` is.
        unsafe { (self.add_weighted_rows)(weights.as_ptr(), stride, group, rows, acc.as_mut_ptr()) };
    }
}

/// See [`super::Kernels::add_weighted_rows`].
#[inline(always)]
pub(super) unsafe fn add_weighted_rows<S: Simd>(weights: *const f32, stride: usize, group: usize, rows: &Rows, acc: *mut f32) {
    // SAFETY: the contract is the caller's.
    unsafe {
        match rows.format() {
            KvFormat::F16 => add_weighted_rows_of::<S, F16>(weights, stride, group, rows, acc),
            KvFormat::Q8 => add_weighted_rows_of::<S, Q8>(weights, stride, group, rows, acc),
        }
    }
}

#[inline(always)]
unsafe fn add_weighted_rows_of<S: Simd, F: RowFormat>(
    weights: *const f32,
    stride: usize,
    group: usize,
    rows: &Rows,
    acc: *mut f32,
) {
    let d = rows.head_dim();
    // SAFETY: the rows are the caller's.
    unsafe { prefetch_first::<S, F>(rows) };
    let ahead = rows_in::<F>(BYTES_AHEAD, d);
    let strip = group.div_ceil(group.div_ceil(4));
    let mut first = 0;
    while first < rows.len() {
        let end = (first + rows_in::<F>(BLOCK_BYTES, d)).min(rows.len());
        let mut c = 0;
        while c < d {
            let wide = d - c >= 4 * S::LANES;
            let mut h = 0;
            while h < group {
                let heads = (group - h).min(strip);
                let range = (first, end, if c == 0 && h == 0 { ahead } else { usize::MAX });
                // SAFETY: weights hold group rows of stride >= rows.len(), acc holds group * d.
                unsafe {
                    let (w, a) = (weights.add(h * stride), acc.add(h * d + c));
                    match (heads, wide) {
                        (4, true) => weighted_strip::<S, F, 4, 4>(w, stride, rows, range, c, a),
                        (3, true) => weighted_strip::<S, F, 3, 4>(w, stride, rows, range, c, a),
                        (2, true) => weighted_strip::<S, F, 2, 4>(w, stride, rows, range, c, a),
                        (_, true) => weighted_strip::<S, F, 1, 4>(w, stride, rows, range, c, a),
                        (4, false) => weighted_strip::<S, F, 4, 1>(w, stride, rows, range, c, a),
                        (3, false) => weighted_strip::<S, F, 3, 1>(w, stride, rows, range, c, a),
                        (2, false) => weighted_strip::<S, F, 2, 1>(w, stride, rows, range, c, a),
                        (_, false) => weighted_strip::<S, F, 1, 1>(w, stride, rows, range, c, a),
                    }
                }
                h += heads;
            }
            c += if wide { 4 * S::LANES } else { S::LANES };
        }
        first = end;
    }
}

/// `HEADS` accumulators of `VECS` vectors each over rows `first..end`, columns from `c`. `ahead`: which later row to ask for.
#[inline(always)]
unsafe fn weighted_strip<S: Simd, F: RowFormat, const HEADS: usize, const VECS: usize>(
    weights: *const f32,
    stride: usize,
    rows: &Rows,
    (first, end, ahead): (usize, usize, usize),
    c: usize,
    acc: *mut f32,
) {
    let d = rows.head_dim();
    // SAFETY: the caller's bounds.
    unsafe {
        let mut a = [[S::splat(0.0); VECS]; HEADS];
        for (h, head) in a.iter_mut().enumerate() {
            for (k, v) in head.iter_mut().enumerate() {
                *v = S::load(acc.add(h * d + k * S::LANES));
            }
        }
        for i in first..end {
            if rows.reach() - i > ahead {
                prefetch_row::<S, F>(rows, i + ahead);
            }
            let row = F::row(rows, i);
            let mut v = [S::splat(0.0); VECS];
            for (k, x) in v.iter_mut().enumerate() {
                *x = F::load::<S>(row, c + k * S::LANES);
            }
            for (h, head) in a.iter_mut().enumerate() {
                let w = S::splat(*weights.add(h * stride + i));
                for (x, y) in head.iter_mut().zip(v) {
                    *x = S::fma(w, y, *x);
                }
            }
        }
        for (h, head) in a.iter().enumerate() {
            for (k, v) in head.iter().enumerate() {
                S::store(acc.add(h * d + k * S::LANES), *v);
            }
        }
    }
}
