//! Memory: [`DeviceBuffer`] owns some of the device's, [`Span`] is a view of it, [`PinnedBuffer`] is host memory that copies take directly.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::result;

use crate::context::Context;
use crate::device::Device;
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
plain! { u8 i8 u16 i16 u32 i32 u64 i64 f32 half::f16 }

/// A view of device memory: address and length in elements. It is a number to the host, which cannot read through it; whoever launches
/// with it sees to it that the buffer lives.
pub struct Span<T> {
    address: u64,
    len: usize,
    of: PhantomData<fn() -> T>,
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

impl<T: Plain> Span<T> {
    /// Of nothing, at address 0: what an optional argument of a kernel is when it is absent.
    pub const EMPTY: Self = Self { address: 0, len: 0, of: PhantomData };

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

/// Owned device memory. Freed when dropped, which waits for the device.
pub struct DeviceBuffer<T> {
    context: Arc<Context>,
    address: u64,
    len: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: Plain> DeviceBuffer<T> {
    /// Memory with whatever is in it, aligned to 256 bytes.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn new(device: &Device, len: usize) -> Result<Self> {
        let context = device.context().clone();
        let bytes = len.checked_mul(size_of::<T>()).ok_or(Error::OutOfMemory { needed: usize::MAX, available: 0 })?;
        if bytes == 0 {
            return Ok(Self { context, address: 0, len, of: PhantomData });
        }
        context.bind()?;
        // SAFETY: the context is current; nothing is assumed of the memory.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(|e| {
            if e.0 as u32 == 2 {
                let available = context.memory().map_or(0, |(free, _)| free);
                return Error::OutOfMemory { needed: bytes, available };
            }
            context.failed("cuMemAlloc", e)
        })?;
        Ok(Self { context, address, len, of: PhantomData })
    }

    /// Zeros, written in the compute stream's order.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn zeroed(device: &Device, len: usize) -> Result<Self> {
        let buffer = Self::new(device, len)?;
        device.compute().fill(buffer.span(), 0)?;
        Ok(buffer)
    }

    /// A copy of `values`, there when this returns or later in the compute stream's order.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_slice(device: &Device, values: &[T]) -> Result<Self> {
        let buffer = Self::new(device, values.len())?;
        device.compute().copy_in(buffer.span(), values)?;
        Ok(buffer)
    }

    pub fn span(&self) -> Span<T> {
        Span { address: self.address, len: self.len, of: PhantomData }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is in it after all that the compute stream was given. Waits. For tests and small things: it allocates.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn to_vec(&self, device: &Device) -> Result<Vec<T>> {
        let mut values = Vec::with_capacity(self.len);
        // SAFETY: any bytes are a value of T, and copy_out writes all of them or fails, after which nobody sees them.
        unsafe {
            std::ptr::write_bytes(values.as_mut_ptr(), 0, self.len);
            values.set_len(self.len);
        }
        device.compute().copy_out(&mut values, self.span())?;
        Ok(values)
    }
}

impl<T> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        if self.address != 0 {
            // SAFETY: allocated in `new`, freed once.
            self.context.release(|| unsafe { result::free_sync(self.address) });
        }
    }
}

/// Host memory that stays where it is, so that copies to and from it run beside the CPU. Cached as any other (no write-combining: the
/// CPU reads it).
pub struct PinnedBuffer<T> {
    context: Arc<Context>,
    pointer: *mut T,
    len: usize,
}

// SAFETY: plain memory of its own; copies in flight are the caller's to order (`Stream::copy_in_pinned`).
unsafe impl<T: Plain> Send for PinnedBuffer<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for PinnedBuffer<T> {}

impl<T: Plain> PinnedBuffer<T> {
    /// Zeros.
    ///
    /// # Errors
    /// `OutOfMemory` (of the host's), `DeviceLost`.
    pub fn new(device: &Device, len: usize) -> Result<Self> {
        let context = device.context().clone();
        let bytes = len.checked_mul(size_of::<T>()).ok_or(Error::OutOfMemory { needed: usize::MAX, available: 0 })?.max(1);
        context.bind()?;
        // SAFETY: the context is current. Flags 0.
        let pointer = unsafe { result::malloc_host(bytes, 0) }.map_err(|e| {
            if e.0 as u32 == 2 { Error::OutOfMemory { needed: bytes, available: 0 } } else { context.failed("cuMemHostAlloc", e) }
        })?;
        // SAFETY: as many bytes as were allocated.
        unsafe { std::ptr::write_bytes(pointer.cast::<u8>(), 0, bytes) };
        Ok(Self { context, pointer: pointer.cast(), len })
    }

    /// What is in it. Copies in flight must have ended ([`crate::Event::wait`], [`crate::Stream::wait`]).
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: allocated with this length and written; any bytes are a value. Whoever starts a copy promises that it has ended.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }

    /// As [`Self::as_slice`].
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }

    pub(crate) fn pointer(&self) -> *mut T {
        self.pointer
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Drop for PinnedBuffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once.
        self.context.release(|| unsafe { result::free_host(self.pointer.cast()) });
    }
}
