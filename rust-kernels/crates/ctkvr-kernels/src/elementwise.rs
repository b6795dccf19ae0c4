//! What a model does to its rows between the products: norm, gate, rotary embedding. Plain loops that the compiler makes vectors of, in an
//! order that is the same for every instruction set.

use super::simd::{Simd, exp_nonpositive};

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
