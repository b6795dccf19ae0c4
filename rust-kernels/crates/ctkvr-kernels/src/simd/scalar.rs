//! One f32 at a time.

use super::Simd;

/// One f32 at a time: the plain form every other one is tested against.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

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
