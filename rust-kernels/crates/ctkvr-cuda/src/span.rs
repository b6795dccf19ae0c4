//! Views of device memory, and what may lie there.

use std::marker::PhantomData;
use std::ops::Range;

use crate::error::{Error, Result};

/// A type of which all bytes are a value, laid out alike on both sides.
///
/// # Safety
/// Any bytes are a value, there is no padding, and a C++ type of the kernels has the same layout.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
macro_rules! plain {
    ($($t:ty)*) => {$(
        // SAFETY: a number.
        unsafe impl Plain for $t {}
    )*};
}
plain! { u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 half::f16 }

/// A view of device memory: address and length in elements. It is a number to the host, which cannot read through it; whoever launches
/// with it sees to it that the buffer lives.
pub struct Span<T> {
    pub(crate) address: u64,
    pub(crate) len: usize,
    pub(crate) of: PhantomData<fn() -> T>,
}

impl<T> Clone for Span<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Span<T> {}

impl<T> std::fmt::Debug for Span<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Span({:#x}, {})", self.address, self.len)
    }
}

impl<T: Plain> Default for Span<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T: Plain> Span<T> {
    /// Of nothing, at address 0: what an optional argument of a kernel is when it is absent.
    pub const EMPTY: Self = Self { address: 0, len: 0, of: PhantomData };

    /// Of memory whose address is known: what it points to is the caller's to know.
    pub(crate) fn at(address: u64, len: usize) -> Self {
        Self { address, len, of: PhantomData }
    }

    /// So many elements without memory, for formulas. Nobody may launch with it.
    pub const fn unbacked(len: usize) -> Self {
        Self { address: 0, len, of: PhantomData }
    }

    /// Where it begins, in the device's memory.
    pub fn address(self) -> u64 {
        self.address
    }

    /// Elements.
    pub fn len(self) -> usize {
        self.len
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) fn bytes(self) -> usize {
        self.len * size_of::<T>()
    }

    /// Some of it.
    ///
    /// # Panics
    /// When the range is not inside, as slices do.
    pub fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of a span of {}", self.len);
        Self { address: self.address + (range.start * size_of::<T>()) as u64, len: range.end - range.start, of: PhantomData }
    }

    /// The same bytes as elements of another type.
    ///
    /// # Panics
    /// When they do not fit: address or length are no multiple of the type's.
    pub fn cast<U: Plain>(self) -> Span<U> {
        let fits = self.address.is_multiple_of(align_of::<U>() as u64) && self.bytes().is_multiple_of(size_of::<U>());
        assert!(fits, "{self:?} of {} bytes each cast to elements of {}", size_of::<T>(), size_of::<U>());
        Span { address: self.address, len: self.bytes() / size_of::<U>(), of: PhantomData }
    }

    /// # Errors
    /// `Length` when it has not exactly `expected` elements.
    pub fn check(self, what: &'static str, expected: usize) -> Result<Self> {
        if self.len == expected { Ok(self) } else { Err(Error::Length { what, expected, actual: self.len }) }
    }

    /// # Errors
    /// `Length` when it has fewer than `expected` elements.
    pub fn check_at_least(self, what: &'static str, expected: usize) -> Result<Self> {
        if self.len >= expected { Ok(self) } else { Err(Error::Length { what, expected, actual: self.len }) }
    }
}
