//! Which of many values or marks: their positions, ascending.

use crate::Kernels;
use crate::simd::Simd;
use crate::sizes::check_sizes;
use crate::softmax::load_first;

/// Values or marks that are looked at before room for more positions is made: a call of a kernel for each, so many that it costs nothing.
const CHUNK: usize = if cfg!(miri) { 128 } else { 4096 };
/// Positions that a kernel may write beyond those it found.
const SLACK: usize = 64;

impl Kernels {
    /// Appends `start` + i to `out` for every i whose `marks[i]` is 255 (others are 0), ascending. `marks` u8 `[n]`, n a multiple of 64.
    ///
    /// # Panics
    /// When n is no multiple of 64.
    #[inline]
    pub fn marked(&self, marks: &[u8], start: u32, out: &mut Vec<u32>) {
        check_sizes!(marks.len().is_multiple_of(64), "marked", marks = marks.len());
        for (i, marks) in marks.chunks(CHUNK).enumerate() {
            let start = start.wrapping_add((i * CHUNK) as u32);
            // SAFETY: the chunk's own marks, whole words; there is room for all of their positions and the slack.
            append(marks.len(), out, |out| unsafe { (self.marked)(marks.as_ptr(), marks.len(), start, out) });
        }
    }

    /// How many values are at least `threshold`.
    #[inline]
    pub fn count_ge(&self, x: &[f32], threshold: f32) -> usize {
        // SAFETY: the slice's own values.
        unsafe { (self.count_ge)(x.as_ptr(), x.len(), threshold) }
    }

    /// Appends the indexes of the values that are at least `threshold` to `out`, ascending.
    #[inline]
    pub fn select_ge(&self, x: &[f32], threshold: f32, out: &mut Vec<u32>) {
        for (i, x) in x.chunks(CHUNK).enumerate() {
            let start = (i * CHUNK) as u32;
            // SAFETY: the chunk's own values; there is room for all of their indexes and the slack.
            append(x.len(), out, |out| unsafe { (self.select_ge)(x.as_ptr(), x.len(), threshold, start, out) });
        }
    }
}

/// Appends what `write` writes: at most `most` positions, beyond which it may scribble over [`SLACK`] more. It returns how many count.
#[inline]
fn append(most: usize, out: &mut Vec<u32>, write: impl FnOnce(*mut u32) -> usize) {
    let len = out.len();
    out.reserve(most + SLACK);
    let count = write(out.spare_capacity_mut().as_mut_ptr().cast());
    debug_assert!(count <= most);
    // SAFETY: so many were written, in the room that was made.
    unsafe { out.set_len(len + count) };
}

/// See [`super::Kernels::marked`].
#[inline(always)]
pub(super) unsafe fn marked<S: Simd>(marks: *const u8, n: usize, start: u32, out: *mut u32) -> usize {
    let mut len = 0;
    let mut i = 0;
    while i < n {
        // SAFETY: marks hold n bytes; out has room for 64 beyond what was found.
        unsafe { len += S::write_bits(S::high_bits(marks.add(i)), start + i as u32, out.add(len)) };
        i += 64;
    }
    len
}

/// Bit j = whether `x[j] >= threshold`, of `count` values, at most 64.
#[inline(always)]
unsafe fn ge_bits<S: Simd>(x: *const f32, count: usize, threshold: f32) -> u64 {
    let mut bits = 0u64;
    // SAFETY: x holds count values; a last vector that is not whole is loaded with the lanes that exist.
    unsafe {
        let t = S::splat(threshold);
        let whole = count - count % S::LANES;
        let mut j = 0;
        while j < whole {
            bits |= u64::from(S::ge_mask(S::load(x.add(j)), t)) << j;
            j += S::LANES;
        }
        if j < count {
            let rest = S::ge_mask(load_first::<S>(x.add(j), count - j), t);
            bits |= (u64::from(rest) & ((1 << (count - j)) - 1)) << j;
        }
    }
    bits
}

/// See [`super::Kernels::count_ge`].
#[inline(always)]
pub(super) unsafe fn count_ge<S: Simd>(x: *const f32, n: usize, threshold: f32) -> usize {
    let mut count = 0;
    let mut i = 0;
    while i < n {
        // SAFETY: x holds n values.
        count += unsafe { ge_bits::<S>(x.add(i), 64.min(n - i), threshold) }.count_ones() as usize;
        i += 64;
    }
    count
}

/// See [`super::Kernels::select_ge`].
#[inline(always)]
pub(super) unsafe fn select_ge<S: Simd>(x: *const f32, n: usize, threshold: f32, start: u32, out: *mut u32) -> usize {
    let mut len = 0;
    let mut i = 0;
    while i < n {
        // SAFETY: x holds n values; out has room for 64 beyond what was found.
        unsafe { len += S::write_bits(ge_bits::<S>(x.add(i), 64.min(n - i), threshold), start + i as u32, out.add(len)) };
        i += 64;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Lists that are longer than what is looked at between two calls of the kernel.
    #[test]
    fn long_lists_are_selected_whole() {
        let n = 2 * CHUNK + 64;
        let mut random = Random(31);
        let x = random.reals(n, 1);
        let marks: Vec<u8> = x.iter().map(|x| if *x >= 0.5 { 255 } else { 0 }).collect();
        let expected: Vec<u32> = (0..n as u32).filter(|i| x[*i as usize] >= 0.5).collect();
        for kernels in Kernels::available() {
            let (mut selected, mut marked) = (Vec::new(), vec![1]);
            kernels.select_ge(&x, 0.5, &mut selected);
            kernels.marked(&marks, 0, &mut marked);
            assert_eq!((&selected, &marked[1..], kernels.count_ge(&x, 0.5)), (&expected, &expected[..], expected.len()));
        }
    }
}
