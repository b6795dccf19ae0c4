//! Between f32 and what is stored: f16, and codes of 8 bits with scales.

use crate::Kernels;
use crate::kv_format::{KvFormat, Q8_BLOCK};
use crate::prefetch::{BYTES_AHEAD, prefetch_first, prefetch_row, rows_in};
use crate::rows::{F16, Q8, RowFormat, Rows};
use crate::simd::Simd;
use crate::sizes::check_sizes;

impl Kernels {
    /// f16 to f32, exact. Both `[n]`, n a multiple of `lanes`.
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn widen(&self, x: &[u16], out: &mut [f32]) {
        check_sizes!(x.len() == out.len() && self.is_whole(x.len()), "widen", x = x.len(), out = out.len());
        // SAFETY: both hold as many values, whole vectors.
        unsafe { (self.widen)(x.as_ptr(), x.len(), out.as_mut_ptr()) };
    }

    /// Writes `rows` as f32 `[rows.len(), head_dim]` to `out`: f16 exactly, codes times their scale.
    ///
    /// # Panics
    /// When the sizes do not fit, or head_dim is no multiple of `lanes`.
    #[inline]
    pub fn widen_rows(&self, rows: &Rows, out: &mut [f32]) {
        let (n, d) = (rows.len(), rows.head_dim());
        check_sizes!(out.len() == n.saturating_mul(d) && self.is_whole(d), "widen_rows", rows = n, head_dim = d, out = out.len());
        // SAFETY: there is room for the rows, which are readable, as a `Rows` is.
        unsafe { (self.widen_rows)(rows, out.as_mut_ptr()) };
    }

    /// f32 to f16, to nearest even. Both `[n]`, n a multiple of `lanes`.
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn narrow(&self, x: &[f32], out: &mut [u16]) {
        check_sizes!(x.len() == out.len() && self.is_whole(x.len()), "narrow", x = x.len(), out = out.len());
        // SAFETY: both hold as many values, whole vectors.
        unsafe { (self.narrow)(x.as_ptr(), x.len(), out.as_mut_ptr()) };
    }

    /// f32 to 8-bit codes and a scale for each 32 values ([`KvFormat::Q8`]): scale = largest magnitude / 127, code = nearest integer to
    /// value / scale. `x` f32 `[n]`, `codes` i8 `[n]`, `scales` f32 `[n / 32]`, n a multiple of 32. A value that is not finite makes its scale
    /// NaN.
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn quantise(&self, x: &[f32], codes: &mut [i8], scales: &mut [f32]) {
        let n = x.len();
        check_sizes!(
            n.is_multiple_of(Q8_BLOCK) && codes.len() == n && scales.len() == n / Q8_BLOCK,
            "quantise",
            x = n,
            codes = codes.len(),
            scales = scales.len(),
        );
        // SAFETY: checked above.
        unsafe { (self.quantise)(x.as_ptr(), n, codes.as_mut_ptr(), scales.as_mut_ptr()) };
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
