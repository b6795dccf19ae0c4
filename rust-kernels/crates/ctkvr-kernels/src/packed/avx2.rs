//! The products for CPUs that multiply pairs of bytes (`vpmaddubsw`): eight rows of a strip at a time, since eight 32-bit lanes are a vector.

#![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

use std::arch::x86_64::*;

use super::{
    BLOCK, BlockNumbers, GROUP_BYTES, GROUPS, LevelBits, PackedFormat, PackedProduct, SHARING, STRIP_ROWS, activation_bytes,
};

/// Activation rows that share one unpacking of the weights; what they need fits the 16 registers.
const ROWS: usize = 4;
/// Lanes of a vector, half of a strip's rows.
const LANES: usize = STRIP_ROWS / 2;
/// How far ahead weights are asked for when each is used once.
const AHEAD: usize = 4 << 10;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn round(x: *const f32, k: usize, from: usize, to: usize, out: *mut u8) {
    unsafe {
        let scales = out.add(k).cast::<f32>();
        let sums = scales.add(k / BLOCK);
        for block in from..to {
            let x = x.add(block * BLOCK);
            let parts = [0, 8, 16, 24].map(|at| _mm256_loadu_ps(x.add(at)));
            let sign = _mm256_set1_ps(-0.0);
            let [a, b, c, d] = parts.map(|x| _mm256_andnot_ps(sign, x));
            let max = _mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d));
            let mut lanes = [0f32; LANES];
            _mm256_storeu_ps(lanes.as_mut_ptr(), max);
            let not_numbers =
                _mm256_or_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(parts[0], parts[1]), _mm256_cmp_ps::<_CMP_UNORD_Q>(parts[2], parts[3]));
            let is_number = _mm256_movemask_ps(not_numbers) == 0;
            let max = if is_number { lanes.into_iter().fold(0f32, f32::max) } else { f32::NAN };
            let inverse = _mm256_set1_ps(if max == 0.0 { 0.0 } else { 127.0 / max });
            let codes = parts.map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)));
            let sum = _mm256_add_epi32(_mm256_add_epi32(codes[0], codes[1]), _mm256_add_epi32(codes[2], codes[3]));
            let mut of_lanes = [0i32; LANES];
            _mm256_storeu_si256(of_lanes.as_mut_ptr().cast(), sum);
            let bytes = _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
            // Packing stays inside 128-bit halves.
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_storeu_si256(out.add(block * BLOCK).cast(), bytes);
            let scale = max / 127.0;
            scales.add(block).write_unaligned(scale);
            let sum = of_lanes.into_iter().fold(0i32, i32::wrapping_add);
            sums.add(block).write_unaligned(scale * sum as f32);
        }
    }
}

pub(super) unsafe fn prefetch(weights: *const u8, bytes: usize) {
    (0..bytes).step_by(64).for_each(|at| unsafe { _mm_prefetch::<_MM_HINT_T1>(weights.add(at).cast()) });
}

#[target_feature(enable = "avx2,fma,f16c")]
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

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn strip<const BITS: usize, const RUN: usize>(p: &PackedProduct) {
    let mut i = 0;
    while i < p.rows {
        unsafe {
            i += match p.rows - i {
                ROWS.. => both_halves::<BITS, RUN, ROWS>(p, i),
                2.. => both_halves::<BITS, RUN, 2>(p, i),
                _ => both_halves::<BITS, RUN, 1>(p, i),
            };
        }
    }
}

/// Rows `i..i + R` of C. Returns R.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn both_halves<const BITS: usize, const RUN: usize, const R: usize>(p: &PackedProduct, i: usize) -> usize {
    unsafe {
        for half in 0..2 {
            let sums = tile::<BITS, RUN, R>(p, i, half);
            let columns = p.columns.saturating_sub(half * LANES).min(LANES);
            for (r, sum) in sums.into_iter().enumerate() {
                let c = p.c.add((i + r) * p.ldc + half * LANES);
                if columns == LANES {
                    _mm256_storeu_ps(c, sum);
                } else if columns > 0 {
                    let mut lanes = [0f32; LANES];
                    _mm256_storeu_ps(lanes.as_mut_ptr(), sum);
                    std::ptr::copy_nonoverlapping(lanes.as_ptr(), c, columns);
                }
            }
        }
    }
    R
}

/// Half of the columns of some rows, blocks in runs of `RUN`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const BITS: usize, const RUN: usize, const R: usize>(p: &PackedProduct, i: usize, half: usize) -> [__m256; R] {
    unsafe {
        let (blocks, row_bytes) = (p.k / BLOCK, activation_bytes(p.k));
        let (header_bytes, block_bytes) = (p.format.header_bytes(), p.format.block_bytes());
        let a = p.activations.add(i * row_bytes);
        let mut sums = [_mm256_setzero_ps(); R];
        for b in 0..blocks {
            let run = p.strip.add(b / RUN * (header_bytes + RUN * block_bytes));
            let block = run.add(header_bytes + b % RUN * block_bytes);
            if R == 1 && half == 0 {
                (0..block_bytes).step_by(64).for_each(|at| _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + at).cast()));
            }
            let dots = dots::<BITS, R>(block, half, a.add(b * BLOCK), row_bytes);
            let (scale, min) = scale_and_min(p.format, run, block, half);
            for (r, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
                let scales = a.add(r * row_bytes + p.k).cast::<f32>();
                let (a_scale, a_sum) = (scales.add(b).read_unaligned(), scales.add(blocks + b).read_unaligned());
                let dot = _mm256_cvtepi32_ps(dot);
                *sum = _mm256_fmadd_ps(_mm256_mul_ps(scale, _mm256_set1_ps(a_scale)), dot, *sum);
                *sum = _mm256_fmadd_ps(min, _mm256_set1_ps(a_sum), *sum);
            }
        }
        sums
    }
}

/// Levels times codes of a block, for half of the strip and R rows of activations. A product of a pair takes 16 bits: of levels below 32 those
/// of four groups fit them together, of levels below 16 all eight; levels of 8 bits are taken as two of 4.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots<const BITS: usize, const R: usize>(
    block: *const u8,
    half: usize,
    codes: *const u8,
    row_bytes: usize,
) -> [__m256i; R] {
    unsafe {
        let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let code = |r: usize, g: usize| _mm256_set1_epi32(codes.add(r * row_bytes).cast::<i32>().add(g).read_unaligned());
        let mut dots = [_mm256_setzero_si256(); R];
        if BITS == 8 {
            let mut pairs = [[_mm256_setzero_si256(); 2]; R];
            for g in 0..GROUPS {
                let both = _mm256_loadu_si256(block.add(g * GROUP_BYTES + half * GROUP_BYTES / 2).cast());
                let parts = [_mm256_and_si256(both, low), _mm256_and_si256(_mm256_srli_epi16::<4>(both), low)];
                for (r, pairs) in pairs.iter_mut().enumerate() {
                    let code = code(r, g);
                    pairs[0] = _mm256_add_epi16(pairs[0], _mm256_maddubs_epi16(parts[0], code));
                    pairs[1] = _mm256_add_epi16(pairs[1], _mm256_maddubs_epi16(parts[1], code));
                }
            }
            for (dot, [small, large]) in dots.iter_mut().zip(pairs) {
                let large = _mm256_madd_epi16(large, _mm256_set1_epi16(16));
                *dot = _mm256_add_epi32(_mm256_madd_epi16(small, ones), large);
            }
            return dots;
        }
        for first in [0, GROUPS / 2] {
            let mut pairs = [_mm256_setzero_si256(); R];
            for g in (first..first + GROUPS / 2).step_by(2) {
                let both = _mm256_loadu_si256(block.add(g / 2 * GROUP_BYTES + half * GROUP_BYTES / 2).cast());
                let mut levels = [_mm256_and_si256(both, low), _mm256_and_si256(_mm256_srli_epi16::<4>(both), low)];
                if BITS == 5 {
                    for (i, levels) in levels.iter_mut().enumerate() {
                        *levels = _mm256_or_si256(*levels, fifth_bits(block, g + i, half));
                    }
                }
                for (r, pairs) in pairs.iter_mut().enumerate() {
                    for (i, levels) in levels.iter().enumerate() {
                        *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(*levels, code(r, g + i)));
                    }
                }
            }
            for (dot, pairs) in dots.iter_mut().zip(pairs) {
                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
            }
        }
        dots
    }
}

/// 16 for each level of a group whose fifth bit is set.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fifth_bits(block: *const u8, g: usize, half: usize) -> __m256i {
    unsafe {
        let at = block.add(GROUPS / 2 * GROUP_BYTES + g * GROUP_BYTES / 8 + half * GROUP_BYTES / 16);
        let bits = _mm256_set1_epi32(at.cast::<i32>().read_unaligned());
        // Byte j gets the byte that its bit, the j-th, is in.
        let places = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        let one = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
        let own = _mm256_and_si256(_mm256_shuffle_epi8(bits, places), one);
        _mm256_and_si256(_mm256_cmpeq_epi8(own, one), _mm256_set1_epi8(16))
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scale_and_min(format: PackedFormat, run: *const u8, block: *const u8, half: usize) -> (__m256, __m256) {
    unsafe {
        let first = half * LANES;
        let halves = |at: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(at.add(2 * first).cast()));
        let bytes = |at: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.add(first).cast())));
        let at = block.add(format.level_bytes());
        match format.numbers {
            BlockNumbers::Scale { min } => (halves(at), _mm256_mul_ps(halves(at), _mm256_set1_ps(min))),
            BlockNumbers::ScaleAndMin => (halves(at), halves(at.add(2 * STRIP_ROWS))),
            BlockNumbers::Shared => {
                let (scale, min) = (halves(run), _mm256_sub_ps(_mm256_setzero_ps(), halves(run.add(2 * STRIP_ROWS))));
                (_mm256_mul_ps(bytes(at), scale), _mm256_mul_ps(bytes(at.add(STRIP_ROWS)), min))
            }
        }
    }
}
