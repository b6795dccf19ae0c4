//! Reused memory that begins with a cache line: tiles and vectors that straddle two lines take twice as long.

use std::marker::PhantomData;

/// Bytes of a cache line, and of a row of a tile.
const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Values of a plain number type, all zero at first.
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

/// A type of which all bit patterns are values.
pub trait Number: Copy {}
impl Number for u16 {}
impl Number for f32 {}

impl<T: Number> Aligned<T> {
    pub const fn new() -> Self {
        Self { lines: Vec::new(), len: 0, of: PhantomData }
    }

    /// Room for `len` values; those that were there stay, new ones are 0.
    pub fn resize(&mut self, len: usize) {
        self.lines.resize((len * size_of::<T>()).div_ceil(LINE), Line([0; LINE]));
        self.len = len;
    }
}

impl<T: Number> Default for Aligned<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Number> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold len values of a type that any bytes are one of, and are aligned for it.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_a_line_and_keeps_what_it_holds() {
        let mut x = Aligned::<f32>::new();
        assert!(x.is_empty());
        for len in [1, 17, 3, 1000] {
            x.resize(len);
            assert_eq!((x.len(), x.as_ptr().addr() % LINE), (len, 0));
            assert!(x[1..].iter().all(|x| *x == 0.0));
            assert_eq!(x[0], if len == 1 { 0.0 } else { 7.0 });
            x[0] = 7.0;
        }
    }
}
