//! Advanced SIMD of arm64: 4 lanes.

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
