//! On AVX-512 with its bf16 products.

#![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

use super::{PANEL_COLUMNS, RawProduct};
use std::arch::x86_64::*;

/// bf16 pairs in one vector.
const PAIRS: usize = 16;
/// Vectors of one row of a panel.
const VECS: usize = PANEL_COLUMNS / PAIRS;
/// Rows of a tile: with `VECS` vectors each, its sums fill 24 of the 32 registers.
const ROWS: usize = 12;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn narrow(x: *const f32, n: usize, out: *mut u16) {
    let mut i = 0;
    unsafe {
        while i + 32 <= n {
            let pair = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x.add(i + 16)), _mm512_loadu_ps(x.add(i)));
            _mm512_storeu_si512(out.add(i).cast(), std::mem::transmute::<__m512bh, __m512i>(pair));
            i += 32;
        }
        super::scalar::narrow(x.add(i), n - i, out.add(i));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack_columns(rows: *const u16, k: usize, panel: *mut u16) {
    let (rows, panel, pairs) = (rows.cast::<u32>(), panel.cast::<u32>(), k / 2);
    for v in 0..VECS {
        let mut t = 0;
        unsafe {
            while t + PAIRS <= pairs {
                let mut tile = [_mm512_setzero_si512(); PAIRS];
                for (r, x) in tile.iter_mut().enumerate() {
                    *x = _mm512_loadu_si512(rows.add((v * PAIRS + r) * pairs + t).cast());
                }
                for (r, x) in transpose(tile).into_iter().enumerate() {
                    _mm512_storeu_si512(panel.add((t + r) * PANEL_COLUMNS + v * PAIRS).cast(), x);
                }
                t += PAIRS;
            }
            for t in t..pairs {
                for j in v * PAIRS..(v + 1) * PAIRS {
                    *panel.add(t * PANEL_COLUMNS + j) = *rows.add(j * pairs + t);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack_rows(rows: *const u16, ld: usize, k: usize, columns: usize, panel: *mut u16) {
    let mask = ((1u64 << columns.min(PANEL_COLUMNS)) - 1) as __mmask32;
    // Values 0, 32, 1, 33 and so on of two vectors, and from 16 on.
    let mut low = [0u16; PANEL_COLUMNS];
    for (i, x) in low.iter_mut().enumerate() {
        *x = (i / 2 + i % 2 * PANEL_COLUMNS) as u16;
    }
    unsafe {
        let low = _mm512_loadu_si512(low.as_ptr().cast());
        let high = _mm512_add_epi16(low, _mm512_set1_epi16(PAIRS as i16));
        for t in 0..k / 2 {
            let first = _mm512_maskz_loadu_epi16(mask, rows.add(2 * t * ld).cast());
            let second = _mm512_maskz_loadu_epi16(mask, rows.add((2 * t + 1) * ld).cast());
            let out = panel.add(2 * t * PANEL_COLUMNS);
            _mm512_storeu_si512(out.cast(), _mm512_permutex2var_epi16(first, low, second));
            _mm512_storeu_si512(out.add(PANEL_COLUMNS).cast(), _mm512_permutex2var_epi16(first, high, second));
        }
    }
}

/// Transposes 16 x 16 values of 32 bits: pairs, then fours, then 128-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut a = r;
    for i in (0..16).step_by(2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    let mut b = a;
    for i in (0..16).step_by(4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    // b[4 g + c] holds, in lane l, column 4 l + c of rows 4 g .. 4 g + 4.
    let mut out = r;
    for c in 0..4 {
        let low = |x, y| _mm512_shuffle_i32x4::<0x88>(x, y);
        let high = |x, y| _mm512_shuffle_i32x4::<0xdd>(x, y);
        let (even01, odd01) = (low(b[c], b[4 + c]), high(b[c], b[4 + c]));
        let (even23, odd23) = (low(b[8 + c], b[12 + c]), high(b[8 + c], b[12 + c]));
        out[c] = low(even01, even23);
        out[8 + c] = high(even01, even23);
        out[4 + c] = low(odd01, odd23);
        out[12 + c] = high(odd01, odd23);
    }
    out
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn product(p: &RawProduct) {
    let mut i = 0;
    while i < p.m {
        let rows = p.m - i;
        unsafe {
            i += match rows {
                ROWS.. => tile::<ROWS>(p, i),
                6.. => tile::<6>(p, i),
                3.. => tile::<3>(p, i),
                _ => tile::<1>(p, i),
            };
        }
    }
}

/// Rows `i..i + R` of C, kept in registers over the whole of k. Returns R.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile<const R: usize>(p: &RawProduct, i: usize) -> usize {
    unsafe {
        let (a, c) = (p.a.add(i * p.lda), p.c.add(i * p.ldc));
        let mask = |v: usize| -> __mmask16 { ((1u32 << p.columns.saturating_sub(v * PAIRS).min(PAIRS)) - 1) as u16 };
        let masks = [mask(0), mask(1)];
        let mut acc = [[_mm512_setzero_ps(); VECS]; R];
        if p.accumulate {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = _mm512_maskz_loadu_ps(masks[v], c.add(r * p.ldc + v * PAIRS));
                }
            }
        }
        for t in 0..p.k / 2 {
            let mut b = [_mm512_setzero_si512(); VECS];
            for (v, x) in b.iter_mut().enumerate() {
                *x = _mm512_loadu_si512(p.panel.add((t * PANEL_COLUMNS + v * PAIRS) * 2).cast());
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let pair = _mm512_set1_epi32(a.add(r * p.lda + 2 * t).cast::<i32>().read_unaligned());
                for (x, y) in row.iter_mut().zip(b) {
                    *x = _mm512_dpbf16_ps(
                        *x,
                        std::mem::transmute::<__m512i, __m512bh>(pair),
                        std::mem::transmute::<__m512i, __m512bh>(y),
                    );
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                _mm512_mask_storeu_ps(c.add(r * p.ldc + v * PAIRS), masks[v], *x);
            }
        }
    }
    R
}
