//! On AVX-512 with VNNI.

#![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

use super::{
    BLOCK, BlockNumbers, GROUP, GROUP_BYTES, GROUPS, LevelBits, PackedFormat, PackedProduct, SHARING, STRIP_ROWS, activation_bytes,
};
use std::arch::x86_64::*;

/// Activation rows that share one unpacking of the weights; their sums and a block's levels fit the 32 registers.
const ROWS: usize = 8;
/// How far ahead weights are asked for when each is used once: what the processor itself foresees ends at every 4 KiB.
const AHEAD: usize = 4 << 10;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn round(x: *const f32, k: usize, from: usize, to: usize, out: *mut u8) {
    unsafe {
        let scales = out.add(k).cast::<f32>();
        let sums = scales.add(k / BLOCK);
        for block in from..to {
            let x = x.add(block * BLOCK);
            let halves = [_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16))];
            let max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(halves[0]), _mm512_abs_ps(halves[1])));
            let is_number = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(halves[0], halves[1]) == 0;
            let max = if is_number { max } else { f32::NAN };
            let inverse = _mm512_set1_ps(if max == 0.0 { 0.0 } else { 127.0 / max });
            let mut sum = _mm512_setzero_si512();
            for (half, x) in halves.into_iter().enumerate() {
                let codes = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
                sum = _mm512_add_epi32(sum, codes);
                _mm_storeu_si128(out.add(block * BLOCK + 16 * half).cast(), _mm512_cvtsepi32_epi8(codes));
            }
            let scale = max / 127.0;
            scales.add(block).write_unaligned(scale);
            sums.add(block).write_unaligned(scale * _mm512_reduce_add_epi32(sum) as f32);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn product(p: &PackedProduct) {
    unsafe {
        match (p.format.bits, p.format.blocks_per_run()) {
            (LevelBits::Four, 1) => strip::<4, 1>(p),
            (LevelBits::Four, _) => strip::<4, SHARING>(p),
            (LevelBits::Five, 1) => strip::<5, 1>(p),
            (LevelBits::Five, _) => strip::<5, SHARING>(p),
            (LevelBits::Eight, 1) => strip::<8, 1>(p),
            (LevelBits::Eight, _) => strip::<8, SHARING>(p),
        }
    }
}

pub(super) unsafe fn prefetch(weights: *const u8, bytes: usize) {
    // Into the second-level cache: what comes before may be attention, which fills the first.
    (0..bytes).step_by(64).for_each(|at| unsafe { _mm_prefetch::<_MM_HINT_T1>(weights.add(at).cast()) });
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn strip<const BITS: usize, const RUN: usize>(p: &PackedProduct) {
    let mut i = 0;
    while i < p.rows {
        unsafe {
            i += match p.rows - i {
                ROWS.. => tile::<BITS, RUN, ROWS>(p, i),
                4.. => tile::<BITS, RUN, 4>(p, i),
                2.. => tile::<BITS, RUN, 2>(p, i),
                _ => tile::<BITS, RUN, 1>(p, i),
            };
        }
    }
}

/// Rows `i..i + R` of C, blocks in runs of `RUN`. Returns R.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile<const BITS: usize, const RUN: usize, const R: usize>(p: &PackedProduct, i: usize) -> usize {
    unsafe {
        let (blocks, row_bytes) = (p.k / BLOCK, activation_bytes(p.k));
        let (header_bytes, block_bytes) = (p.format.header_bytes(), p.format.block_bytes());
        let a = p.activations.add(i * row_bytes);
        let mut sums = [_mm512_setzero_ps(); R];
        for b in 0..blocks {
            let run = p.strip.add(b / RUN * (header_bytes + RUN * block_bytes));
            let block = run.add(header_bytes + b % RUN * block_bytes);
            if R == 1 {
                (0..block_bytes).step_by(64).for_each(|at| _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + at).cast()));
            }
            let levels = unpack::<BITS>(block);
            let (scale, min) = scale_and_min(p.format, run, block);
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = a.add(r * row_bytes);
                let codes = a.add(b * BLOCK).cast::<i32>();
                // Two chains: each waits for its last sum.
                let mut dots = [_mm512_setzero_si512(); 2];
                for (g, levels) in levels.iter().enumerate() {
                    dots[g % 2] = _mm512_dpbusd_epi32(dots[g % 2], *levels, _mm512_set1_epi32(codes.add(g).read_unaligned()));
                }
                let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(dots[0], dots[1]));
                let scales = a.add(p.k).cast::<f32>();
                let (a_scale, a_sum) = (scales.add(b).read_unaligned(), scales.add(blocks + b).read_unaligned());
                *sum = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(a_scale)), dot, *sum);
                *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(a_sum), *sum);
            }
        }
        let mask = ((1u32 << p.columns.min(STRIP_ROWS)) - 1) as __mmask16;
        for (r, sum) in sums.into_iter().enumerate() {
            _mm512_mask_storeu_ps(p.c.add((i + r) * p.ldc), mask, sum);
        }
    }
    R
}

/// The levels of a block, one group a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn unpack<const BITS: usize>(block: *const u8) -> [__m512i; GROUPS] {
    unsafe {
        let mut levels = [_mm512_setzero_si512(); GROUPS];
        if BITS == 8 {
            for (g, x) in levels.iter_mut().enumerate() {
                *x = _mm512_loadu_si512(block.add(g * GROUP_BYTES).cast());
            }
            return levels;
        }
        let low = _mm512_set1_epi8(15);
        for pair in 0..GROUPS / 2 {
            let both = _mm512_loadu_si512(block.add(pair * GROUP_BYTES).cast());
            levels[2 * pair] = _mm512_and_si512(both, low);
            levels[2 * pair + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
        }
        if BITS == 5 {
            let fifth = _mm512_set1_epi8(16);
            let bits = block.add(GROUPS / 2 * GROUP_BYTES).cast::<u64>();
            for (g, x) in levels.iter_mut().enumerate() {
                *x = _mm512_mask_add_epi8(*x, bits.add(g).read_unaligned(), *x, fifth);
            }
        }
        levels
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn scale_and_min(format: PackedFormat, run: *const u8, block: *const u8) -> (__m512, __m512) {
    unsafe {
        let halves = |at: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
        let bytes = |at: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())));
        let at = block.add(format.level_bytes());
        match format.numbers {
            BlockNumbers::Scale { min } => (halves(at), _mm512_mul_ps(halves(at), _mm512_set1_ps(min))),
            BlockNumbers::ScaleAndMin => (halves(at), halves(at.add(2 * STRIP_ROWS))),
            BlockNumbers::Shared => {
                let (scale, min) = (halves(run), _mm512_sub_ps(_mm512_setzero_ps(), halves(run.add(2 * STRIP_ROWS))));
                (_mm512_mul_ps(bytes(at), scale), _mm512_mul_ps(bytes(at.add(STRIP_ROWS)), min))
            }
        }
    }
}

const _: () = assert!(GROUP == 4, "a lane of dpbusd takes four bytes");
