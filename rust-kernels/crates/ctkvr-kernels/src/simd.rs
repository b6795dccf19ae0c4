//! The few vector operations that the kernels are written in, once per instruction set. Everything is `inline(always)`: it takes
//! the target features of the function it lands in (table.rs), which is the only caller.

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

#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon;
pub(super) use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, choose_prefetch};
