//! The kernels, written once over [`Simd`]. kernels/mod.rs compiles each for every instruction set.

use super::MissedSums;
use super::kv_format::{KvFormat, Q8_BLOCK};
use super::rows::{F16, Q8, RowFormat, Rows};
use super::simd::{Simd, exp_nonpositive};

/// Bytes of rows that stay in the first-level cache while every group of heads passes over them.
const BLOCK_BYTES: usize = 16 << 10;
/// Bytes of rows asked for ahead of their use: as many cache lines as a core can wait for, and room beside the block.
pub(super) const BYTES_AHEAD: usize = 8 << 10;
/// Bytes that memory is read in.
pub(super) const CACHE_LINE: usize = 64;
/// Rows of A that one pass of the matrix product keeps in registers.
const GEMM_ROWS: usize = 6;

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

/// How many rows of `d` values are about `bytes` bytes.
#[inline(always)]
pub(super) fn rows_in<F: RowFormat>(bytes: usize, d: usize) -> usize {
    (bytes / F::FORMAT.row_bytes(d)).max(1)
}

/// Asks for the first rows, of which nobody comes before.
#[inline(always)]
unsafe fn prefetch_first<S: Simd, F: RowFormat>(rows: &Rows) {
    for i in 0..rows_in::<F>(BYTES_AHEAD, rows.head_dim()).min(rows.len()) {
        // SAFETY: i is a row.
        unsafe { prefetch_row::<S, F>(rows, i) };
    }
}

/// Asks for row i.
#[inline(always)]
unsafe fn prefetch_row<S: Simd, F: RowFormat>(rows: &Rows, i: usize) {
    // SAFETY: i is a row of the caller's.
    let row = unsafe { F::row(rows, i) };
    // SAFETY: the row's own bytes.
    F::for_pieces(row, rows.head_dim(), |start, bytes| unsafe { prefetch::<S>(start, bytes) });
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

#[inline(always)]
unsafe fn store_first<S: Simd>(p: *mut f32, v: S::V, count: usize) {
    // SAFETY: p has room for count values.
    unsafe {
        if count == S::LANES {
            S::store(p, v);
        } else {
            let mut all = [0f32; 16];
            S::store(all.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, count);
        }
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

/// See [`super::Kernels::max`].
#[inline(always)]
pub(super) unsafe fn max<S: Simd>(x: *const f32, n: usize) -> f32 {
    // SAFETY: x holds n values.
    unsafe {
        let mut best = f32::NEG_INFINITY;
        let whole = n - n % S::LANES;
        if whole > 0 {
            let mut m = S::load(x);
            let mut i = S::LANES;
            while i < whole {
                m = S::max(m, S::load(x.add(i)));
                i += S::LANES;
            }
            best = S::max_lane(m);
        }
        for i in whole..n {
            best = best.max(*x.add(i));
        }
        best
    }
}

/// Loads `count <= LANES` values, the rest 0. Ends of arrays go through the same vector arithmetic as their middle: a value must
/// not depend on where it stands, or equal scores would not tie.
#[inline(always)]
unsafe fn load_first<S: Simd>(p: *const f32, count: usize) -> S::V {
    let mut all = [0f32; 16];
    // SAFETY: p holds count values; `all` at least LANES.
    unsafe {
        std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), count);
        S::load(all.as_ptr())
    }
}

/// See [`super::Kernels::exp_sub`].
#[inline(always)]
pub(super) unsafe fn exp_sub<S: Simd>(x: *mut f32, n: usize, offset: f32) -> f32 {
    // SAFETY: x holds n values.
    unsafe {
        let o = S::splat(offset);
        let mut sum = S::splat(0.0);
        let whole = n - n % S::LANES;
        let mut i = 0;
        while i < whole {
            let e = exp_nonpositive::<S>(S::sub(S::load(x.add(i)), o));
            S::store(x.add(i), e);
            sum = S::add(sum, e);
            i += S::LANES;
        }
        let mut total = S::sum(sum);
        if whole < n {
            let e = exp_nonpositive::<S>(S::sub(load_first::<S>(x.add(whole), n - whole), o));
            store_first::<S>(x.add(whole), e, n - whole);
            for i in whole..n {
                total += *x.add(i);
            }
        }
        total
    }
}

/// See [`super::Kernels::missed_sums`].
#[inline(always)]
pub(super) unsafe fn missed_sums<S: Simd>(weights: *const f32, marks: *const u8, n: usize) -> MissedSums {
    /// Weights added up in f32.
    const RUN: usize = 256;
    let mut out = MissedSums::default();
    for first in (0..n).step_by(RUN) {
        let count = RUN.min(n - first);
        // SAFETY: both hold n values.
        unsafe {
            let (weights, marks) = (weights.add(first), marks.add(first).cast::<i8>());
            let mut sums = [S::splat(0.0); 3];
            let whole = count - count % S::LANES;
            let mut i = 0;
            while i < whole {
                add_missed::<S>(S::load(weights.add(i)), marks.add(i), &mut sums);
                i += S::LANES;
            }
            if whole < count {
                let mut rest = [0i8; 16];
                std::ptr::copy_nonoverlapping(marks.add(whole), rest.as_mut_ptr(), count - whole);
                add_missed::<S>(load_first::<S>(weights.add(whole), count - whole), rest.as_ptr(), &mut sums);
            }
            out.all_squares += f64::from(S::sum(sums[0]));
            out.squares += f64::from(S::sum(sums[1]));
            out.sum += f64::from(S::sum(sums[2]));
        }
    }
    out
}

/// Adds the squares of one vector of weights, the squares of those not marked, and those themselves. Marks: -1 or 0.
#[inline(always)]
unsafe fn add_missed<S: Simd>(w: S::V, marks: *const i8, sums: &mut [S::V; 3]) {
    // SAFETY: the marks hold LANES bytes.
    unsafe {
        let missed = S::fma(S::load_i8(marks), w, w);
        sums[0] = S::fma(w, w, sums[0]);
        sums[1] = S::fma(missed, missed, sums[1]);
        sums[2] = S::add(sums[2], missed);
    }
}

/// See [`super::Kernels::add_scaled`].
#[inline(always)]
pub(super) unsafe fn add_scaled<S: Simd>(x: *const f32, n: usize, scale: f32, acc: *mut f32) {
    // SAFETY: both hold n values.
    unsafe {
        let s = S::splat(scale);
        let whole = n - n % S::LANES;
        let mut i = 0;
        while i < whole {
            S::store(acc.add(i), S::fma(s, S::load(x.add(i)), S::load(acc.add(i))));
            i += S::LANES;
        }
        if whole < n {
            let sum = S::fma(s, load_first::<S>(x.add(whole), n - whole), load_first::<S>(acc.add(whole), n - whole));
            store_first::<S>(acc.add(whole), sum, n - whole);
        }
    }
}

/// See [`super::Kernels::scale`].
#[inline(always)]
pub(super) unsafe fn scale<S: Simd>(x: *mut f32, n: usize, factor: f32) {
    // SAFETY: x holds n values.
    unsafe {
        let s = S::splat(factor);
        let whole = n - n % S::LANES;
        let mut i = 0;
        while i < whole {
            S::store(x.add(i), S::mul(s, S::load(x.add(i))));
            i += S::LANES;
        }
        for i in whole..n {
            *x.add(i) *= factor;
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

/// See [`super::Kernels::marked`].
#[inline(always)]
pub(super) unsafe fn marked<S: Simd>(marks: *const u8, n: usize, start: u32, out: *mut u32) -> usize {
    let mut len = 0;
    let mut i = 0;
    while i < n {
        // SAFETY: marks hold n bytes; out has room for 64 beyond what was found.
        unsafe { len += S::write_bits(S::high_bits(marks.add(i)), start + i as u32, out.add(len)) };
        i += 64;
    }
    len
}

/// Bit j = whether `x[j] >= threshold`, of `count` values, at most 64.
#[inline(always)]
unsafe fn ge_bits<S: Simd>(x: *const f32, count: usize, threshold: f32) -> u64 {
    let mut bits = 0u64;
    // SAFETY: x holds count values; a last vector that is not whole is loaded with the lanes that exist.
    unsafe {
        let t = S::splat(threshold);
        let whole = count - count % S::LANES;
        let mut j = 0;
        while j < whole {
            bits |= u64::from(S::ge_mask(S::load(x.add(j)), t)) << j;
            j += S::LANES;
        }
        if j < count {
            let rest = S::ge_mask(load_first::<S>(x.add(j), count - j), t);
            bits |= (u64::from(rest) & ((1 << (count - j)) - 1)) << j;
        }
    }
    bits
}

/// See [`super::Kernels::count_ge`].
#[inline(always)]
pub(super) unsafe fn count_ge<S: Simd>(x: *const f32, n: usize, threshold: f32) -> usize {
    let mut count = 0;
    let mut i = 0;
    while i < n {
        // SAFETY: x holds n values.
        count += unsafe { ge_bits::<S>(x.add(i), 64.min(n - i), threshold) }.count_ones() as usize;
        i += 64;
    }
    count
}

/// See [`super::Kernels::select_ge`].
#[inline(always)]
pub(super) unsafe fn select_ge<S: Simd>(x: *const f32, n: usize, threshold: f32, out: *mut u32) -> usize {
    let mut len = 0;
    let mut i = 0;
    while i < n {
        // SAFETY: x holds n values; out has room for 64 beyond what was found.
        unsafe { len += S::write_bits(ge_bits::<S>(x.add(i), 64.min(n - i), threshold), i as u32, out.add(len)) };
        i += 64;
    }
    len
}

/// See [`super::Kernels::prefetch`].
#[inline(always)]
pub(super) unsafe fn prefetch<S: Simd>(p: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(CACHE_LINE) {
        // SAFETY: within the caller's bytes; a prefetch cannot fault.
        unsafe { S::prefetch(p.add(offset)) };
    }
}

/// See [`super::Kernels::widen`].
#[inline(always)]
pub(super) unsafe fn widen<S: Simd>(x: *const u16, n: usize, out: *mut f32) {
    let mut i = 0;
    while i < n {
        // SAFETY: n is a multiple of LANES; both hold n values.
        unsafe { S::store(out.add(i), S::load_f16(x.add(i))) };
        i += S::LANES;
    }
}

/// See [`super::Kernels::widen_rows`].
#[inline(always)]
pub(super) unsafe fn widen_rows<S: Simd>(rows: &Rows, out: *mut f32) {
    // SAFETY: the contract is the caller's.
    unsafe {
        match rows.format() {
            KvFormat::F16 => widen_rows_of::<S, F16>(rows, out),
            KvFormat::Q8 => widen_rows_of::<S, Q8>(rows, out),
        }
    }
}

#[inline(always)]
unsafe fn widen_rows_of<S: Simd, F: RowFormat>(rows: &Rows, out: *mut f32) {
    let d = rows.head_dim();
    // SAFETY: the rows are the caller's.
    unsafe { prefetch_first::<S, F>(rows) };
    let ahead = rows_in::<F>(BYTES_AHEAD, d);
    for i in 0..rows.len() {
        // SAFETY: out holds rows.len() rows.
        unsafe {
            if rows.reach() - i > ahead {
                prefetch_row::<S, F>(rows, i + ahead);
            }
            let row = F::row(rows, i);
            let mut c = 0;
            while c < d {
                S::store(out.add(i * d + c), F::load::<S>(row, c));
                c += S::LANES;
            }
        }
    }
}

/// See [`super::Kernels::quantise`].
#[inline(always)]
pub(super) unsafe fn quantise<S: Simd>(x: *const f32, n: usize, codes: *mut i8, scales: *mut f32) {
    for block in 0..n / Q8_BLOCK {
        // SAFETY: a block of the caller's values; the lanes divide it.
        unsafe {
            let (x, codes) = (x.add(block * Q8_BLOCK), codes.add(block * Q8_BLOCK));
            let (mut largest, mut zero) = (S::splat(0.0), S::splat(0.0));
            for i in (0..Q8_BLOCK).step_by(S::LANES) {
                let v = S::load(x.add(i));
                largest = S::max(largest, S::max(v, S::sub(S::splat(0.0), v)));
                zero = S::fma(v, S::splat(0.0), zero);
            }
            // NaN where a value is not finite: then so is its whole block.
            let scale = S::max_lane(largest) / 127.0 + S::sum(zero);
            // Below, there may be no inverse.
            let (scale, inverse) = if scale < f32::MIN_POSITIVE { (0.0, 0.0) } else { (scale, 1.0 / scale) };
            *scales.add(block) = scale;
            for i in (0..Q8_BLOCK).step_by(S::LANES) {
                S::store_i8(codes.add(i), S::mul(S::load(x.add(i)), S::splat(inverse)));
            }
        }
    }
}

/// See [`super::Kernels::narrow`].
#[inline(always)]
pub(super) unsafe fn narrow<S: Simd>(x: *const f32, n: usize, out: *mut u16) {
    let mut i = 0;
    while i < n {
        // SAFETY: n is a multiple of LANES; both hold n values.
        unsafe { S::store_f16(out.add(i), S::load(x.add(i))) };
        i += S::LANES;
    }
}

/// See [`super::Kernels::gemm`]. `VECS` vectors of columns at a time.
#[inline(always)]
pub(super) unsafe fn gemm<S: Simd, const VECS: usize>(m: &super::Gemm) {
    let mut j = 0;
    while j < m.n {
        // SAFETY: the caller's bounds; n is a multiple of LANES.
        unsafe {
            if m.n - j >= VECS * S::LANES {
                gemm_columns::<S, VECS>(m, j);
                j += VECS * S::LANES;
            } else {
                gemm_columns::<S, 1>(m, j);
                j += S::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn gemm_columns<S: Simd, const VECS: usize>(m: &super::Gemm, j: usize) {
    let mut i = 0;
    while i < m.m {
        // SAFETY: rows i.. and columns j.. are inside the matrices.
        unsafe {
            match m.m - i {
                GEMM_ROWS.. => gemm_tile::<S, GEMM_ROWS, VECS>(m, i, j),
                4.. => gemm_tile::<S, 4, VECS>(m, i, j),
                2.. => gemm_tile::<S, 2, VECS>(m, i, j),
                _ => gemm_tile::<S, 1, VECS>(m, i, j),
            }
        }
        i += match m.m - i {
            GEMM_ROWS.. => GEMM_ROWS,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
    }
}

/// A tile of `ROWS` x `VECS * LANES` of C, kept in registers over the whole of k.
#[inline(always)]
unsafe fn gemm_tile<S: Simd, const ROWS: usize, const VECS: usize>(m: &super::Gemm, i: usize, j: usize) {
    // SAFETY: the tile is inside the matrices.
    unsafe {
        let (a, b, c) = (m.a.add(i * m.lda), m.b.add(j), m.c.add(i * m.ldc + j));
        let mut acc = [[S::splat(0.0); VECS]; ROWS];
        if m.accumulate {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = S::load(c.add(r * m.ldc + v * S::LANES));
                }
            }
        }
        for k in 0..m.k {
            let mut bv = [S::splat(0.0); VECS];
            for (v, x) in bv.iter_mut().enumerate() {
                *x = S::load(b.add(k * m.ldb + v * S::LANES));
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let av = S::splat(*a.add(r * m.lda + k));
                for (x, y) in row.iter_mut().zip(bv) {
                    *x = S::fma(av, y, *x);
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                S::store(c.add(r * m.ldc + v * S::LANES), *x);
            }
        }
    }
}
