//! Products of queries with stored rows: keys of pages, and vectors of 8-bit codes.

use crate::Kernels;
use crate::kv_format::KvFormat;
use crate::prefetch::{BYTES_AHEAD, prefetch_first, prefetch_row, rows_in};
use crate::rows::{BLOCK_BYTES, F16, Q8, RowFormat, Rows};
use crate::simd::Simd;
use crate::sizes::{check_sizes, span};

impl Kernels {
    /// Raw scores of attention, q . k: `out[h * stride + i]` becomes the inner product of query h and row i.
    ///
    /// `queries` f32 `[group, head_dim]`, already times 1/sqrt(head_dim); `rows` in either format; `out` f32, `group` rows of `stride` values,
    /// of which the first `rows.len()` of each are written and the others left alone. A score is one sum over head_dim in `lanes` running
    /// sums, the same bits wherever the rows are cut. Reference: the table `scalar`, which sums in order.
    ///
    /// # Panics
    /// When the sizes do not fit, or head_dim is no multiple of `lanes`.
    #[inline]
    pub fn score_rows(&self, queries: &[f32], rows: &Rows, out: &mut [f32], stride: usize) {
        let (group, n) = (self.group_of(queries.len(), rows), rows.len());
        check_sizes!(
            n <= stride && out.len() >= span(group, stride, n),
            "score_rows",
            queries = queries.len(),
            head_dim = rows.head_dim(),
            rows = n,
            stride = stride,
            out = out.len(),
        );
        // SAFETY: queries hold group heads, out as many rows of the stride; the rows are readable, as a `Rows` is.
        unsafe { (self.score_rows)(queries.as_ptr(), group, rows, out.as_mut_ptr(), stride) };
    }

    /// As [`Kernels::score_rows`], for threads that write disjoint columns of one buffer: `out` is the first of this call's columns in the
    /// first query's row. It stays unsafe because no slice of this call's own holds columns of several rows.
    ///
    /// # Safety
    /// For every query h the values from `out + h * stride` on, `rows.len()` of them, are live and writable, and nobody else reads or
    /// writes them meanwhile.
    ///
    /// # Panics
    /// When the queries are no whole heads, or head_dim is no multiple of `lanes`.
    #[inline]
    pub unsafe fn score_rows_into_columns(&self, queries: &[f32], rows: &Rows, out: *mut f32, stride: usize) {
        let group = self.group_of(queries.len(), rows);
        // SAFETY: queries hold group heads; the columns are the caller's.
        unsafe { (self.score_rows)(queries.as_ptr(), group, rows, out, stride) };
    }

    /// `out[i]` = query . codes row i, unscaled: the probe of an index. `query` f32 `[d]`, `codes` i8 `[n, d]`, `out` f32 `[n]`, d a multiple
    /// of `lanes`. Sums as [`Kernels::score_rows`].
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn score_codes(&self, query: &[f32], codes: &[i8], out: &mut [f32]) {
        let (d, n) = (query.len(), out.len());
        check_sizes!(
            codes.len() == n.saturating_mul(d) && self.is_whole(d),
            "score_codes",
            query = d,
            codes = codes.len(),
            out = n,
        );
        // SAFETY: checked above.
        unsafe { (self.score_codes)(query.as_ptr(), codes.as_ptr(), n, d, out.as_mut_ptr()) };
    }

    /// Heads in so many values of a query or of sums, at least one.
    ///
    /// # Panics
    /// When they are no whole heads, or head_dim is no multiple of `lanes`.
    #[inline]
    pub(crate) fn group_of(&self, values: usize, rows: &Rows) -> usize {
        let head_dim = rows.head_dim();
        let group = values / head_dim;
        check_sizes!(
            group > 0 && values == group * head_dim && self.is_whole(head_dim),
            "a kernel of rows",
            values = values,
            head_dim = head_dim,
            lanes = self.lanes,
        );
        group
    }
}

/// See [`super::Kernels::score_rows`].
#[inline(always)]
pub(super) unsafe fn score_rows<S: Simd>(q: *const f32, group: usize, rows: &Rows, out: *mut f32, stride: usize) {
    // SAFETY: the contract is the caller's.
    unsafe {
        match rows.format() {
            KvFormat::F16 => score_rows_of::<S, F16>(q, group, rows, out, stride),
            KvFormat::Q8 => score_rows_of::<S, Q8>(q, group, rows, out, stride),
        }
    }
}

#[inline(always)]
unsafe fn score_rows_of<S: Simd, F: RowFormat>(q: *const f32, group: usize, rows: &Rows, out: *mut f32, stride: usize) {
    let d = rows.head_dim();
    // SAFETY: the rows are the caller's.
    unsafe { prefetch_first::<S, F>(rows) };
    // As equal as can be: heads that are left over would widen every row once more.
    let strip = group.div_ceil(group.div_ceil(S::HEADS));
    let mut first = 0;
    while first < rows.len() {
        let end = (first + rows_in::<F>(BLOCK_BYTES, d)).min(rows.len());
        let mut h = 0;
        while h < group {
            let heads = (group - h).min(strip);
            // SAFETY: q holds group * d values, out group rows of stride >= rows.len().
            unsafe {
                let (q, out) = (q.add(h * d), out.add(h * stride));
                match heads {
                    7 => score_strip::<S, F, 7>(q, rows, (first, end), out, stride, h == 0),
                    6 => score_strip::<S, F, 6>(q, rows, (first, end), out, stride, h == 0),
                    5 => score_strip::<S, F, 5>(q, rows, (first, end), out, stride, h == 0),
                    4 => score_strip::<S, F, 4>(q, rows, (first, end), out, stride, h == 0),
                    3 => score_strip::<S, F, 3>(q, rows, (first, end), out, stride, h == 0),
                    2 => score_strip::<S, F, 2>(q, rows, (first, end), out, stride, h == 0),
                    _ => score_strip::<S, F, 1>(q, rows, (first, end), out, stride, h == 0),
                }
            }
            h += heads;
        }
        first = end;
    }
}

/// Scores of `HEADS` heads over rows `first..end`, four rows at a time: each widened vector of a row meets all heads while it is in a
/// register. `ahead`: whether to ask for rows that come later.
#[inline(always)]
unsafe fn score_strip<S: Simd, F: RowFormat, const HEADS: usize>(
    q: *const f32,
    rows: &Rows,
    (first, end): (usize, usize),
    out: *mut f32,
    stride: usize,
    ahead: bool,
) {
    let d = rows.head_dim();
    let ahead = if ahead { rows_in::<F>(BYTES_AHEAD, d) } else { usize::MAX };
    let mut i = first;
    // SAFETY: the caller's bounds.
    unsafe {
        while i < end {
            let count = (end - i).min(4);
            let mut row = [F::row(rows, i); 4];
            for (j, row) in row.iter_mut().enumerate().take(count) {
                *row = F::row(rows, i + j);
                if rows.reach() - i - j > ahead {
                    prefetch_row::<S, F>(rows, i + j + ahead);
                }
            }
            let mut sums = [[S::splat(0.0); 4]; HEADS];
            let mut c = 0;
            while c < d {
                for (j, row) in row.iter().enumerate() {
                    let key = F::load::<S>(*row, c);
                    for (h, sums) in sums.iter_mut().enumerate() {
                        sums[j] = S::fma(S::load(q.add(h * d + c)), key, sums[j]);
                    }
                }
                c += S::LANES;
            }
            for (h, sums) in sums.into_iter().enumerate() {
                let scores = S::sum_each(sums);
                store_up_to_4(out.add(h * stride + i), scores, count);
            }
            i += count;
        }
    }
}

#[inline(always)]
unsafe fn store_up_to_4(p: *mut f32, values: [f32; 4], count: usize) {
    // SAFETY: p has room for count values.
    unsafe {
        if count == 4 {
            p.cast::<[f32; 4]>().write_unaligned(values);
        } else {
            // No call of memcpy: one centroid has three heads as often as not.
            values.iter().take(count.min(3)).enumerate().for_each(|(i, v)| *p.add(i) = *v);
        }
    }
}

/// See [`super::Kernels::score_codes`].
#[inline(always)]
pub(super) unsafe fn score_codes<S: Simd>(q: *const f32, codes: *const i8, n: usize, d: usize, out: *mut f32) {
    let mut i = 0;
    // SAFETY: q holds d values, codes n * d, out n.
    unsafe {
        while i < n {
            let count = (n - i).min(4);
            let at = [0, 1, 2, 3].map(|j: usize| i + j.min(count - 1));
            let mut sums = [S::splat(0.0); 4];
            let mut c = 0;
            while c < d {
                for (sum, at) in sums.iter_mut().zip(at) {
                    *sum = S::fma(S::load(q.add(c)), S::load_i8(codes.add(at * d + c)), *sum);
                }
                c += S::LANES;
            }
            store_up_to_4(out.add(i), S::sum_each(sums), count);
            i += count;
        }
    }
}
