//! The few vector operations that the kernels are written in, once per instruction set. Everything is `inline(always)`: it takes
//! the target features of the kernel wrapper it lands in (kernels/mod.rs), which is the only caller.

/// One instruction set's vector of f32. All functions require the CPU to have the implementor's features.
pub(super) trait Simd: Copy {
    /// f32 values in one vector.
    const LANES: usize;
    /// Heads of a group whose running sums over four rows stay in registers: each row is widened, and read from memory, once for so many.
    const HEADS: usize;
    /// A vector of `LANES` f32.
    type V: Copy;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Widens `LANES` f16 values.
    unsafe fn load_f16(p: *const u16) -> Self::V;
    /// Narrows to f16, round to nearest even.
    unsafe fn store_f16(p: *mut u16, v: Self::V);
    /// Widens `LANES` i8 values.
    unsafe fn load_i8(p: *const i8) -> Self::V;
    /// Narrows to i8, round to nearest even; the values are in its range.
    unsafe fn store_i8(p: *mut i8, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once where the hardware can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Nearest integer, as f32.
    unsafe fn round(a: Self::V) -> Self::V;
    /// a * 2^n for integer-valued n in -126..=0.
    unsafe fn scale_pow2(a: Self::V, n: Self::V) -> Self::V;
    /// Sum of the lanes.
    unsafe fn sum(v: Self::V) -> f32;
    /// Largest lane.
    unsafe fn max_lane(v: Self::V) -> f32;
    /// Sum of the lanes of each of four vectors.
    unsafe fn sum_each(v: [Self::V; 4]) -> [f32; 4];
    /// Bit i = whether lane i of a is at least lane i of b.
    unsafe fn ge_mask(a: Self::V, b: Self::V) -> u32;
    /// Asks for the cache line at `p`, which is read once and soon: into the first-level cache, and past the second where that is faster.
    unsafe fn prefetch(p: *const u8);
    /// Writes `start` plus the place of every set bit, ascending; returns how many. `out` has room for 64.
    #[inline(always)]
    unsafe fn write_bits(mut word: u64, start: u32, out: *mut u32) -> usize {
        let count = word.count_ones() as usize;
        let mut k = 0;
        // Eight at a time, some of them too many: the number of rounds is easier to foresee than the number of bits.
        while k < count {
            for j in 0..8 {
                // SAFETY: k + j is below 64.
                unsafe { *out.add(k + j) = start + word.trailing_zeros() };
                word &= word.wrapping_sub(1);
            }
            k += 8;
        }
        count
    }
    /// Bit i = highest bit of byte i, of 64 bytes.
    #[inline(always)]
    unsafe fn high_bits(p: *const u8) -> u64 {
        let mut bits = 0;
        for i in 0..8 {
            // SAFETY: the caller's 64 bytes are readable.
            let word = u64::from_le_bytes(unsafe { *p.add(8 * i).cast::<[u8; 8]>() });
            // Byte j's bit moves to bit 56 + j; no two partial products meet.
            bits |= (((word >> 7) & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
        }
        bits
    }
}

/// e^x for x <= 0; below -87 the result is e^-87, which no sum here can see.
/// Range reduction by ln 2 in two parts and a degree-6 polynomial (Cephes expf); relative error under 2e-7.
#[inline(always)]
pub(super) unsafe fn exp_nonpositive<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller has S's features.
    unsafe {
        let x = S::max(x, S::splat(-87.0));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_2e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = S::fma(p, r, S::splat(c));
        }
        let p = S::fma(S::mul(p, r), r, S::add(r, S::splat(1.0)));
        S::scale_pow2(p, n)
    }
}

/// One f32 at a time: the plain form every other one is tested against.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Simd for Scalar {
    const LANES: usize = 1;
    const HEADS: usize = 2;
    type V = f32;

    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        // SAFETY: the caller's pointer is readable.
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: f32) {
        // SAFETY: the caller's pointer is writable.
        unsafe { *p = v }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> f32 {
        // SAFETY: the caller's pointer is readable.
        half::f16::from_bits(unsafe { *p }).to_f32()
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: f32) {
        // SAFETY: the caller's pointer is writable.
        unsafe { *p = half::f16::from_f32(v).to_bits() }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> f32 {
        // SAFETY: the caller's pointer is readable.
        f32::from(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, v: f32) {
        // SAFETY: the caller's pointer is writable.
        unsafe { *p = v.round_ties_even() as i8 }
    }
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn max(a: f32, b: f32) -> f32 {
        a.max(b)
    }
    #[inline(always)]
    unsafe fn fma(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    unsafe fn round(a: f32) -> f32 {
        a.round_ties_even()
    }
    #[inline(always)]
    unsafe fn scale_pow2(a: f32, n: f32) -> f32 {
        a * f32::from_bits(((n as i32 + 127) as u32) << 23)
    }
    #[inline(always)]
    unsafe fn sum(v: f32) -> f32 {
        v
    }
    #[inline(always)]
    unsafe fn max_lane(v: f32) -> f32 {
        v
    }
    #[inline(always)]
    unsafe fn sum_each(v: [f32; 4]) -> [f32; 4] {
        v
    }
    #[inline(always)]
    unsafe fn ge_mask(a: f32, b: f32) -> u32 {
        u32::from(a >= b)
    }
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, choose_prefetch};

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

    use super::Simd;
    use std::arch::x86_64::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Past the second-level cache where the CPU is AMD's: there scattered rows come 1.4 to 1.6 times as fast as through it (Zen 5). On
    /// Intel's they then come at a third to a half of the speed (Sapphire Rapids).
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe {
            if PAST_SECOND_CACHE.load(Ordering::Relaxed) {
                _mm_prefetch::<_MM_HINT_NTA>(p.cast());
            } else {
                _mm_prefetch::<_MM_HINT_T0>(p.cast());
            }
        }
    }

    static PAST_SECOND_CACHE: AtomicBool = AtomicBool::new(false);

    /// Chooses how rows are asked for on this CPU; before that they are on the way that is right for most.
    pub(in super::super) fn choose_prefetch() {
        let vendor = __cpuid(0);
        let is_amd = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD";
        PAST_SECOND_CACHE.store(is_amd, Ordering::Relaxed);
    }

    /// AVX2 with FMA and F16C: 8 lanes.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        const LANES: usize = 8;
        const HEADS: usize = 2;
        type V = __m256;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> __m256 {
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
        }
        #[inline(always)]
        unsafe fn store_f16(p: *mut u16, v: __m256) {
            unsafe { _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
        }
        #[inline(always)]
        unsafe fn load_i8(p: *const i8) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn store_i8(p: *mut i8, v: __m256) {
            unsafe {
                let i = _mm256_cvtps_epi32(v);
                let i = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256::<1>(i));
                _mm_storel_epi64(p.cast(), _mm_packs_epi16(i, i));
            }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn round(a: __m256) -> __m256 {
            unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        unsafe fn scale_pow2(a: __m256, n: __m256) -> __m256 {
            unsafe {
                let e = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
                _mm256_mul_ps(a, _mm256_castsi256_ps(e))
            }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            unsafe {
                let h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let h = _mm_add_ps(h, _mm_movehl_ps(h, h));
                _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)))
            }
        }
        #[inline(always)]
        unsafe fn max_lane(v: __m256) -> f32 {
            unsafe {
                let h = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let h = _mm_max_ps(h, _mm_movehl_ps(h, h));
                _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)))
            }
        }
        #[inline(always)]
        unsafe fn sum_each(v: [__m256; 4]) -> [f32; 4] {
            unsafe {
                let sums = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
                let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
                std::mem::transmute(sums)
            }
        }
        #[inline(always)]
        unsafe fn ge_mask(a: __m256, b: __m256) -> u32 {
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) as u32 }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            unsafe { prefetch(p) }
        }
        #[inline(always)]
        unsafe fn high_bits(p: *const u8) -> u64 {
            unsafe {
                let low = _mm256_movemask_epi8(_mm256_loadu_si256(p.cast())) as u32;
                let high = _mm256_movemask_epi8(_mm256_loadu_si256(p.add(32).cast())) as u32;
                u64::from(low) | u64::from(high) << 32
            }
        }
    }

    /// AVX-512 F, BW, DQ, VL: 16 lanes.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    impl Simd for Avx512 {
        const LANES: usize = 16;
        const HEADS: usize = 7;
        type V = __m512;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> __m512 {
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        }
        #[inline(always)]
        unsafe fn store_f16(p: *mut u16, v: __m512) {
            unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
        }
        #[inline(always)]
        unsafe fn load_i8(p: *const i8) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn store_i8(p: *mut i8, v: __m512) {
            unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v))) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn round(a: __m512) -> __m512 {
            unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        unsafe fn scale_pow2(a: __m512, n: __m512) -> __m512 {
            unsafe { _mm512_scalef_ps(a, n) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }
        #[inline(always)]
        unsafe fn max_lane(v: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(v) }
        }
        #[inline(always)]
        unsafe fn sum_each(v: [__m512; 4]) -> [f32; 4] {
            unsafe {
                // Two rounds inside 128-bit lanes, two across them.
                let pair = |x, y| _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
                let (x, y) = (_mm512_castps_pd(pair(v[0], v[1])), _mm512_castps_pd(pair(v[2], v[3])));
                let sums = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
                let half = _mm256_add_ps(
                    _mm512_castps512_ps256(sums),
                    _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sums))),
                );
                std::mem::transmute(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half)))
            }
        }
        #[inline(always)]
        unsafe fn ge_mask(a: __m512, b: __m512) -> u32 {
            unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b)) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            unsafe { prefetch(p) }
        }
        #[inline(always)]
        unsafe fn write_bits(word: u64, start: u32, out: *mut u32) -> usize {
            let mut count = 0;
            for first in (0..64).step_by(16) {
                let bits = (word >> first) as u16;
                // Compressed in a register and stored whole: a compressing store is microcode on Zen.
                unsafe {
                    let places = _mm512_add_epi32(
                        _mm512_set1_epi32((start + first) as i32),
                        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                    );
                    _mm512_storeu_epi32(out.add(count).cast(), _mm512_maskz_compress_epi32(bits, places));
                }
                count += bits.count_ones() as usize;
            }
            count
        }
        #[inline(always)]
        unsafe fn high_bits(p: *const u8) -> u64 {
            unsafe { _mm512_movepi8_mask(_mm512_loadu_si512(p.cast())) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

    use super::Simd;
    use std::arch::{aarch64::*, asm};

    /// Advanced SIMD: 4 lanes.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon;

    impl Simd for Neon {
        const LANES: usize = 4;
        const HEADS: usize = 4;
        type V = float32x4_t;

        #[inline(always)]
        unsafe fn splat(x: f32) -> float32x4_t {
            unsafe { vdupq_n_f32(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> float32x4_t {
            unsafe { vld1q_f32(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: float32x4_t) {
            unsafe { vst1q_f32(p, v) }
        }
        // The f16 conversion intrinsics are not stable in Rust; the instructions are part of baseline Armv8.
        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> float32x4_t {
            unsafe {
                let h = vld1_u16(p);
                let v: float32x4_t;
                asm!("fcvtl {v:v}.4s, {h:v}.4h", v = out(vreg) v, h = in(vreg) h, options(pure, nomem, nostack, preserves_flags));
                v
            }
        }
        #[inline(always)]
        unsafe fn store_f16(p: *mut u16, v: float32x4_t) {
            unsafe {
                let h: uint16x4_t;
                asm!("fcvtn {h:v}.4h, {v:v}.4s", h = out(vreg) h, v = in(vreg) v, options(pure, nomem, nostack, preserves_flags));
                vst1_u16(p, h);
            }
        }
        #[inline(always)]
        unsafe fn load_i8(p: *const i8) -> float32x4_t {
            unsafe {
                let b = vreinterpret_s8_s32(vdup_n_s32(p.cast::<i32>().read_unaligned()));
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(b))))
            }
        }
        #[inline(always)]
        unsafe fn store_i8(p: *mut i8, v: float32x4_t) {
            unsafe {
                let i = vqmovn_s32(vcvtnq_s32_f32(v));
                let i = vqmovn_s16(vcombine_s16(i, i));
                p.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(i)));
            }
        }
        #[inline(always)]
        unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vaddq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vsubq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmulq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmaxq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            unsafe { vfmaq_f32(c, a, b) }
        }
        #[inline(always)]
        unsafe fn round(a: float32x4_t) -> float32x4_t {
            unsafe { vrndnq_f32(a) }
        }
        #[inline(always)]
        unsafe fn scale_pow2(a: float32x4_t, n: float32x4_t) -> float32x4_t {
            unsafe { vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127))))) }
        }
        #[inline(always)]
        unsafe fn sum(v: float32x4_t) -> f32 {
            unsafe { vaddvq_f32(v) }
        }
        #[inline(always)]
        unsafe fn max_lane(v: float32x4_t) -> f32 {
            unsafe { vmaxvq_f32(v) }
        }
        #[inline(always)]
        unsafe fn sum_each(v: [float32x4_t; 4]) -> [f32; 4] {
            unsafe {
                let sums = vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
                std::mem::transmute(sums)
            }
        }
        #[inline(always)]
        unsafe fn ge_mask(a: float32x4_t, b: float32x4_t) -> u32 {
            const LANE_BITS: [u32; 4] = [1, 2, 4, 8];
            unsafe { vaddvq_u32(vandq_u32(vcgeq_f32(a, b), vld1q_u32(LANE_BITS.as_ptr()))) }
        }
        #[inline(always)]
        unsafe fn prefetch(_p: *const u8) {}
    }
}
