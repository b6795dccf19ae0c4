//! Softmax in its parts: maximum, exponentials with their sum, sums of weights.

use crate::Kernels;
use crate::simd::{Simd, exp_nonpositive};
use crate::sizes::check_sizes;

/// What [`Kernels::missed_sums`] adds up, f32 by the 256 and those in f64.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MissedSums {
    /// Squares of all weights.
    pub all_squares: f64,
    /// Squares of those that are not marked, and themselves.
    pub squares: f64,
    pub sum: f64,
}

impl Kernels {
    /// Largest of some values; -infinity for none.
    #[inline]
    pub fn max(&self, x: &[f32]) -> f32 {
        // SAFETY: the slice's own values.
        unsafe { (self.max)(x.as_ptr(), x.len()) }
    }

    /// x = e^(x - offset) in place, `offset` at least every x; returns the sum, in `lanes` running sums. Relative error of a value under
    /// 3e-7; below e^-87 a value is e^-87.
    #[inline]
    pub fn exp_sub(&self, x: &mut [f32], offset: f32) -> f32 {
        // SAFETY: the slice's own values.
        unsafe { (self.exp_sub)(x.as_mut_ptr(), x.len(), offset) }
    }

    /// Sums over all weights, and over those whose `marks[i]` is 0 (others are 255): see [`MissedSums`]. `weights` f32 `[n]`, `marks` u8
    /// `[n]` or more.
    ///
    /// # Panics
    /// When there are fewer marks than weights.
    #[inline]
    pub fn missed_sums(&self, weights: &[f32], marks: &[u8]) -> MissedSums {
        check_sizes!(marks.len() >= weights.len(), "missed_sums", weights = weights.len(), marks = marks.len());
        // SAFETY: both hold as many values as there are weights.
        unsafe { (self.missed_sums)(weights.as_ptr(), marks.as_ptr(), weights.len()) }
    }

    /// acc += scale * x, value by value, each rounded once where the hardware can. Both f32 `[n]`.
    ///
    /// # Panics
    /// When their lengths differ.
    #[inline]
    pub fn add_scaled(&self, x: &[f32], scale: f32, acc: &mut [f32]) {
        check_sizes!(x.len() == acc.len(), "add_scaled", x = x.len(), acc = acc.len());
        // SAFETY: both hold as many values.
        unsafe { (self.add_scaled)(x.as_ptr(), x.len(), scale, acc.as_mut_ptr()) };
    }

    /// x *= factor in place.
    #[inline]
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        // SAFETY: the slice's own values.
        unsafe { (self.scale)(x.as_mut_ptr(), x.len(), factor) };
    }
}

/// See [`super::Kernels::max`].
#[inline(always)]
pub(super) unsafe fn max<S: Simd>(x: *const f32, n: usize) -> f32 {
    // SAFETY: x holds n values.
    unsafe {
        let mut best = f32::NEG_INFINITY;
        let whole = n - n % S::LANES;
        if whole > 0 {
            let mut m = S::load(x);
            let mut i = S::LANES;
            while i < whole {
                m = S::max(m, S::load(x.add(i)));
                i += S::LANES;
            }
            best = S::max_lane(m);
        }
        for i in whole..n {
            best = best.max(*x.add(i));
        }
        best
    }
}

/// Loads `count <= LANES` values, the rest 0. Ends of arrays go through the same vector arithmetic as their middle: a value must
/// not depend on where it stands, or equal scores would not tie.
#[inline(always)]
pub(super) unsafe fn load_first<S: Simd>(p: *const f32, count: usize) -> S::V {
    let mut all = [0f32; 16];
    // SAFETY: p holds count values; `all` at least LANES.
    unsafe {
        std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), count);
        S::load(all.as_ptr())
    }
}

/// See [`super::Kernels::exp_sub`].
#[inline(always)]
pub(super) unsafe fn exp_sub<S: Simd>(x: *mut f32, n: usize, offset: f32) -> f32 {
    // SAFETY: x holds n values.
    unsafe {
        let o = S::splat(offset);
        let mut sum = S::splat(0.0);
        let whole = n - n % S::LANES;
        let mut i = 0;
        while i < whole {
            let e = exp_nonpositive::<S>(S::sub(S::load(x.add(i)), o));
            S::store(x.add(i), e);
            sum = S::add(sum, e);
            i += S::LANES;
        }
        let mut total = S::sum(sum);
        if whole < n {
            let e = exp_nonpositive::<S>(S::sub(load_first::<S>(x.add(whole), n - whole), o));
            store_first::<S>(x.add(whole), e, n - whole);
            for i in whole..n {
                total += *x.add(i);
            }
        }
        total
    }
}

/// See [`super::Kernels::missed_sums`].
#[inline(always)]
pub(super) unsafe fn missed_sums<S: Simd>(weights: *const f32, marks: *const u8, n: usize) -> MissedSums {
    /// Weights added up in f32.
    const RUN: usize = 256;
    let mut out = MissedSums::default();
    for first in (0..n).step_by(RUN) {
        let count = RUN.min(n - first);
        // SAFETY: both hold n values.
        unsafe {
            let (weights, marks) = (weights.add(first), marks.add(first).cast::<i8>());
            let mut sums = [S::splat(0.0); 3];
            let whole = count - count % S::LANES;
            let mut i = 0;
            while i < whole {
                add_missed::<S>(S::load(weights.add(i)), marks.add(i), &mut sums);
                i += S::LANES;
            }
            if whole < count {
                let mut rest = [0i8; 16];
                std::ptr::copy_nonoverlapping(marks.add(whole), rest.as_mut_ptr(), count - whole);
                add_missed::<S>(load_first::<S>(weights.add(whole), count - whole), rest.as_ptr(), &mut sums);
            }
            out.all_squares += f64::from(S::sum(sums[0]));
            out.squares += f64::from(S::sum(sums[1]));
            out.sum += f64::from(S::sum(sums[2]));
        }
    }
    out
}

/// Adds the squares of one vector of weights, the squares of those not marked, and those themselves. Marks: -1 or 0.
#[inline(always)]
unsafe fn add_missed<S: Simd>(w: S::V, marks: *const i8, sums: &mut [S::V; 3]) {
    // SAFETY: the marks hold LANES bytes.
    unsafe {
        let missed = S::fma(S::load_i8(marks), w, w);
        sums[0] = S::fma(w, w, sums[0]);
        sums[1] = S::fma(missed, missed, sums[1]);
        sums[2] = S::add(sums[2], missed);
    }
}

/// See [`super::Kernels::add_scaled`].
#[inline(always)]
pub(super) unsafe fn add_scaled<S: Simd>(x: *const f32, n: usize, scale: f32, acc: *mut f32) {
    // SAFETY: both hold n values.
    unsafe {
        let s = S::splat(scale);
        let whole = n - n % S::LANES;
        let mut i = 0;
        while i < whole {
            S::store(acc.add(i), S::fma(s, S::load(x.add(i)), S::load(acc.add(i))));
            i += S::LANES;
        }
        if whole < n {
            let sum = S::fma(s, load_first::<S>(x.add(whole), n - whole), load_first::<S>(acc.add(whole), n - whole));
            store_first::<S>(acc.add(whole), sum, n - whole);
        }
    }
}

/// See [`super::Kernels::scale`].
#[inline(always)]
pub(super) unsafe fn scale<S: Simd>(x: *mut f32, n: usize, factor: f32) {
    // SAFETY: x holds n values.
    unsafe {
        let s = S::splat(factor);
        let whole = n - n % S::LANES;
        let mut i = 0;
        while i < whole {
            S::store(x.add(i), S::mul(s, S::load(x.add(i))));
            i += S::LANES;
        }
        for i in whole..n {
            *x.add(i) *= factor;
        }
    }
}

#[inline(always)]
unsafe fn store_first<S: Simd>(p: *mut f32, v: S::V, count: usize) {
    // SAFETY: p has room for count values.
    unsafe {
        if count == S::LANES {
            S::store(p, v);
        } else {
            let mut all = [0f32; 16];
            S::store(all.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, count);
        }
    }
}
