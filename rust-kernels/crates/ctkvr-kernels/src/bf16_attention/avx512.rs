//! In vectors, on AVX-512 with its bf16 products or on tiles.

#![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

use super::super::bf16;
use super::{A, B, C, CHUNK, Chunk, Products, RawBlock, RawProduct, STRIDE, Softmax, attend_block};
use std::arch::x86_64::*;
use std::f32::consts::LOG2_E;

const LANES: usize = 16;

/// Everything is inlined into a function that has the target features.
pub(in super::super) struct Vectors;

impl Softmax for Vectors {
    #[inline(always)]
    unsafe fn largest(chunk: &Chunk) -> [f32; CHUNK] {
        unsafe {
            let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
            let mut rows = [lowest; CHUNK];
            for (r, row) in rows[..chunk.rows].iter_mut().enumerate() {
                let (x, n) = (chunk.scores.add(r * STRIDE), chunk.visible[r]);
                let mut max = [lowest; 2];
                let mut i = 0;
                while i + 2 * LANES <= n {
                    max[0] = _mm512_max_ps(max[0], _mm512_load_ps(x.add(i)));
                    max[1] = _mm512_max_ps(max[1], _mm512_load_ps(x.add(i + LANES)));
                    i += 2 * LANES;
                }
                while i < n {
                    max[0] = _mm512_max_ps(max[0], _mm512_mask_load_ps(lowest, first_lanes(n - i), x.add(i)));
                    i += LANES;
                }
                *row = _mm512_max_ps(max[0], max[1]);
            }
            lanes_of_each::<true>(rows)
        }
    }

    #[inline(always)]
    unsafe fn weigh(chunk: &Chunk, max: &[f32; CHUNK]) -> [f32; CHUNK] {
        unsafe {
            let scale = _mm512_set1_ps(LOG2_E);
            let mut sums = [_mm512_setzero_ps(); CHUNK];
            for (r, total) in sums[..chunk.rows].iter_mut().enumerate() {
                let (row, visible) = (chunk.scores.add(r * STRIDE), chunk.visible[r]);
                let (offset, out) = (_mm512_set1_ps(max[r] * LOG2_E), row.cast::<u16>());
                let mut sum = [_mm512_setzero_ps(); 2];
                let mut i = 0;
                while i + 2 * LANES <= visible {
                    let x = [power(row.add(i), scale, offset), power(row.add(i + LANES), scale, offset)];
                    sum = [_mm512_add_ps(sum[0], x[0]), _mm512_add_ps(sum[1], x[1])];
                    store(out.add(i), x);
                    i += 2 * LANES;
                }
                while i < chunk.limit {
                    let left = visible.saturating_sub(i);
                    let masks = [first_lanes(left), first_lanes(left.saturating_sub(LANES))];
                    let x = [
                        _mm512_maskz_mov_ps(masks[0], power(row.add(i), scale, offset)),
                        _mm512_maskz_mov_ps(masks[1], power(row.add(i + LANES), scale, offset)),
                    ];
                    sum = [_mm512_add_ps(sum[0], x[0]), _mm512_add_ps(sum[1], x[1])];
                    store(out.add(i), x);
                    i += 2 * LANES;
                }
                *total = _mm512_add_ps(sum[0], sum[1]);
            }
            lanes_of_each::<false>(sums)
        }
    }

    #[inline(always)]
    unsafe fn prefetch(x: *const f32, n: usize) {
        (0..n).step_by(LANES).for_each(|i| unsafe { _mm_prefetch::<_MM_HINT_T0>(x.add(i).cast()) });
    }

    #[inline(always)]
    unsafe fn rescale(x: *mut f32, n: usize, factor: f32) {
        for i in (0..n).step_by(LANES) {
            unsafe { _mm512_store_ps(x.add(i), _mm512_mul_ps(_mm512_load_ps(x.add(i)), _mm512_set1_ps(factor))) };
        }
    }
}

#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    ((1u32 << count.min(LANES)) - 1) as __mmask16
}

/// The larger of two values each, or their sum.
#[inline(always)]
unsafe fn join<const LARGER: bool>(a: __m512, b: __m512) -> __m512 {
    unsafe { if LARGER { _mm512_max_ps(a, b) } else { _mm512_add_ps(a, b) } }
}

/// Joins the lanes of each row's vector, every row's in one order.
#[inline(always)]
unsafe fn lanes_of_each<const LARGER: bool>(rows: [__m512; CHUNK]) -> [f32; CHUNK] {
    unsafe {
        // Quarters (0 and 2, 1 and 3) of rows i and i + 8.
        let mut halves = [_mm512_setzero_ps(); 8];
        for (i, x) in halves.iter_mut().enumerate() {
            let (a, b) = (rows[i], rows[i + 8]);
            *x = join::<LARGER>(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
        }
        // One quarter each of rows i, i + 8, i + 4 and i + 12.
        let mut quarters = [_mm512_setzero_ps(); 4];
        for (i, x) in quarters.iter_mut().enumerate() {
            let (a, b) = (halves[i], halves[i + 4]);
            *x = join::<LARGER>(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        }
        let [a, b, c, d] = quarters;
        let even = join::<LARGER>(_mm512_unpacklo_ps(a, c), _mm512_unpackhi_ps(a, c));
        let odd = join::<LARGER>(_mm512_unpacklo_ps(b, d), _mm512_unpackhi_ps(b, d));
        let all = join::<LARGER>(_mm512_unpacklo_ps(even, odd), _mm512_unpackhi_ps(even, odd));
        let mut out = [0.0; CHUNK];
        _mm512_storeu_ps(out.as_mut_ptr(), _mm512_shuffle_f32x4::<0xd8>(all, all));
        out
    }
}

/// 2^(x scale - offset) of 16 values: the fraction by a polynomial, the whole part as an exponent.
#[inline(always)]
unsafe fn power(x: *const f32, scale: __m512, offset: __m512) -> __m512 {
    /// x less the next integer below.
    const FRACTION: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    unsafe {
        let x = _mm512_fmsub_ps(_mm512_load_ps(x), scale, offset);
        let f = _mm512_reduce_ps::<FRACTION>(x);
        let p = _mm512_fmadd_ps(f, _mm512_set1_ps(C), _mm512_set1_ps(B));
        let p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(A));
        let p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(1.0));
        // The instruction takes the integer below itself.
        _mm512_scalef_ps(p, x)
    }
}

#[inline(always)]
unsafe fn store(out: *mut u16, x: [__m512; 2]) {
    unsafe {
        let pair = _mm512_cvtne2ps_pbh(x[1], x[0]);
        _mm512_storeu_si512(out.cast(), std::mem::transmute::<__m512bh, __m512i>(pair));
    }
}

/// Products of vectors.
struct InVectors;

impl Products for InVectors {
    /// Twice the rows that a product keeps in registers.
    const ROWS: usize = 24;
    #[inline(always)]
    fn new() -> Self {
        Self
    }
    #[inline(always)]
    unsafe fn multiply(&mut self, p: &RawProduct) {
        unsafe { (bf16::AVX512.product)(p) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in super::super) unsafe fn attend(b: &RawBlock) {
    unsafe { attend_block::<InVectors, Vectors>(b) }
}

#[cfg(target_os = "linux")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in super::super) unsafe fn attend_on_tiles(b: &RawBlock) {
    use super::super::amx::{InTiles, Registers};
    unsafe { attend_block::<InTiles<Registers>, Vectors>(b) }
}
