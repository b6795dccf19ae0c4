//! What a model does to its rows between the products: norm, gate, rotary embedding. Plain loops that the compiler makes vectors of, in an
//! order that is the same for every instruction set.

use crate::Kernels;
use crate::simd::{Simd, exp_nonpositive};
use crate::sizes::check_sizes;

impl Kernels {
    /// Root mean square norm: `out[i]` = x i / sqrt(mean of x^2 + epsilon) * weight i. All f32 `[n]`. The mean is summed in f64 in 16 running
    /// sums.
    ///
    /// # Panics
    /// When their lengths differ.
    #[inline]
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let n = x.len();
        check_sizes!(weight.len() == n && out.len() == n, "rms_norm", x = n, weight = weight.len(), out = out.len());
        // SAFETY: all hold n values.
        unsafe { (self.rms_norm)(x.as_ptr(), weight.as_ptr(), n, epsilon, out.as_mut_ptr()) };
    }

    /// As [`Kernels::rms_norm`], in place.
    ///
    /// # Panics
    /// When the lengths differ.
    #[inline]
    pub fn rms_norm_in_place(&self, x: &mut [f32], weight: &[f32], epsilon: f32) {
        check_sizes!(weight.len() == x.len(), "rms_norm_in_place", x = x.len(), weight = weight.len());
        let at = x.as_mut_ptr();
        // SAFETY: both hold as many values; the kernel may write what it reads.
        unsafe { (self.rms_norm)(at, weight.as_ptr(), x.len(), epsilon, at) };
    }

    /// `out[i]` = silu(gate i) * up i; silu(x) = x / (1 + e^-x). All f32 `[n]`.
    ///
    /// # Panics
    /// When their lengths differ.
    #[inline]
    pub fn gate(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        let n = gate.len();
        check_sizes!(up.len() == n && out.len() == n, "gate", gate = n, up = up.len(), out = out.len());
        // SAFETY: all hold n values.
        unsafe { (self.gate)(gate.as_ptr(), up.as_ptr(), n, out.as_mut_ptr()) };
    }

    /// As [`Kernels::gate`] by GELU: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is x / (1 + e^-(x s)) with s = 2 sqrt(2 / pi)
    /// (1 + 0.044715 x^2): silu(x s) / s.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn gate_by_gelu(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        let n = gate.len();
        check_sizes!(up.len() == n && out.len() == n, "gate_by_gelu", gate = n, up = up.len(), out = out.len());
        let [mut scaled, mut rest] = [[0f32; CHUNK]; 2];
        for first in (0..n).step_by(CHUNK) {
            let chunk = first..n.min(first + CHUNK);
            for (i, (x, up)) in gate[chunk.clone()].iter().zip(&up[chunk.clone()]).enumerate() {
                // From there on it is x or 0.
                let near = x.clamp(-20.0, 20.0);
                let s = GELU_SCALE * (1.0 + 0.044_715 * near * near);
                (scaled[i], rest[i]) = (x * s, up / s);
            }
            self.gate(&scaled[..chunk.len()], &rest[..chunk.len()], &mut out[chunk.clone()]);
        }
    }

    /// Rotary embedding of a head in place: turns (x i, x i + half) by the angle whose cosine and sine are the i-th. `x` f32 `[2 * half]`,
    /// `cos` and `sin` f32 `[half]`.
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn rotate_halves(&self, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        check_turns(x, cos, sin);
        // SAFETY: 2 * half values and half turns.
        unsafe { (self.rotate_halves)(x.as_mut_ptr(), cos.as_ptr(), sin.as_ptr(), cos.len()) };
    }

    /// The same for (x 2i, x 2i + 1).
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn rotate_adjacent(&self, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        check_turns(x, cos, sin);
        // SAFETY: 2 * half values and half turns.
        unsafe { (self.rotate_adjacent)(x.as_mut_ptr(), cos.as_ptr(), sin.as_ptr(), cos.len()) };
    }
}

#[inline]
fn check_turns(x: &[f32], cos: &[f32], sin: &[f32]) {
    check_sizes!(sin.len() == cos.len() && x.len() == 2 * cos.len(), "a rotation", x = x.len(), cos = cos.len(), sin = sin.len(),);
}

/// 2 sqrt(2 / pi).
const GELU_SCALE: f32 = 1.595_769_2;
/// Values whose exponentials are made at once.
const CHUNK: usize = 64;
/// Sums side by side: one would wait for itself.
const SUMS: usize = 16;

/// See [`super::Kernels::rms_norm`].
#[inline(always)]
pub(super) unsafe fn rms_norm(x: *const f32, weight: *const f32, n: usize, epsilon: f32, out: *mut f32) {
    // SAFETY: the caller's n values; only pointers may name the same memory.
    let sum = unsafe { sum_of_squares(std::slice::from_raw_parts(x, n)) };
    let scale = 1.0 / ((sum / n as f64) as f32 + epsilon).sqrt();
    for i in 0..n {
        // SAFETY: as above.
        unsafe { *out.add(i) = *x.add(i) * scale * *weight.add(i) };
    }
}

#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f64 {
    let mut sums = [0f64; SUMS];
    let (chunks, rest) = x.as_chunks::<SUMS>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += f64::from(x * x));
    }
    rest.iter().map(|x| f64::from(x * x)).chain(sums).sum()
}

/// See [`super::Kernels::gate`].
#[inline(always)]
pub(super) unsafe fn gate<S: Simd>(gate: *const f32, up: *const f32, n: usize, out: *mut f32) {
    let mut exponentials = [0f32; CHUNK];
    for first in (0..n).step_by(CHUNK) {
        let count = CHUNK.min(n - first);
        // SAFETY: the caller's n values.
        let (gate, up) =
            unsafe { (std::slice::from_raw_parts(gate.add(first), count), std::slice::from_raw_parts(up.add(first), count)) };
        // e^-|x| overflows nowhere: of a negative x, x / (1 + e^-x) = x e^x / (1 + e^x).
        exponentials.iter_mut().zip(gate).for_each(|(e, x)| *e = -x.abs());
        for i in (0..CHUNK).step_by(S::LANES) {
            // SAFETY: the chunk holds them; the caller has S's features.
            unsafe {
                let e = exponentials.as_mut_ptr().add(i);
                S::store(e, exp_nonpositive::<S>(S::load(e)));
            }
        }
        for (i, ((x, up), e)) in gate.iter().zip(up).zip(&exponentials).enumerate() {
            let numerator = if *x < 0.0 { x * e } else { *x };
            // SAFETY: as above.
            unsafe { *out.add(first + i) = numerator / (1.0 + e) * up };
        }
    }
}

/// See [`super::Kernels::rotate_halves`].
#[inline(always)]
pub(super) unsafe fn rotate_halves(x: *mut f32, cos: *const f32, sin: *const f32, half: usize) {
    // SAFETY: the caller's 2 * half values and half turns.
    unsafe {
        let (first, second) = (std::slice::from_raw_parts_mut(x, half), std::slice::from_raw_parts_mut(x.add(half), half));
        let (cos, sin) = (std::slice::from_raw_parts(cos, half), std::slice::from_raw_parts(sin, half));
        for i in 0..half {
            (first[i], second[i]) = turned(first[i], second[i], cos[i], sin[i]);
        }
    }
}

/// See [`super::Kernels::rotate_adjacent`].
#[inline(always)]
pub(super) unsafe fn rotate_adjacent(x: *mut f32, cos: *const f32, sin: *const f32, half: usize) {
    // SAFETY: as above.
    unsafe {
        let pairs = std::slice::from_raw_parts_mut(x.cast::<[f32; 2]>(), half);
        let (cos, sin) = (std::slice::from_raw_parts(cos, half), std::slice::from_raw_parts(sin, half));
        for (i, [x, y]) in pairs.iter_mut().enumerate() {
            (*x, *y) = turned(*x, *y, cos[i], sin[i]);
        }
    }
}

#[inline(always)]
fn turned(x: f32, y: f32, cos: f32, sin: f32) -> (f32, f32) {
    (x * cos - y * sin, x * sin + y * cos)
}
