//! Memory that is owned: [`DeviceBuffer`] is some of the device's, [`PinnedBuffer`] is host memory that copies take directly.

use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::result;

use crate::context::Context;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::span::{Plain, Span};
use crate::stream::Stream;

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
        let buffer = Self { context, address, len, of: PhantomData };
        #[cfg(feature = "stand-in")]
        crate::stand_in::poison(device, buffer.span())?;
        Ok(buffer)
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

    /// As the device sees it, over the bus: memory that the driver has pinned has one address on both sides.
    pub fn span(&self) -> Span<T> {
        Span { address: self.pointer as u64, len: self.len, of: PhantomData }
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

impl Stream {
    /// Copies pinned memory, later. `from`: of a [`PinnedBuffer::span`].
    ///
    /// # Safety
    /// Nobody writes `from` until the copy has ended but work before it in this stream, and the buffer lives until then.
    ///
    /// # Errors
    /// As [`Self::copy_in`].
    pub unsafe fn copy_in_pinned<T: Plain>(&self, to: Span<T>, from: Span<T>) -> Result<()> {
        to.check("a copy to the device", from.len())?;
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: the memory is there and as long; the rest is the caller's promise.
        self.context().call("cuMemcpyHtoDAsync", || unsafe {
            let from = std::slice::from_raw_parts(from.address() as *const T, from.len());
            result::memcpy_htod_async(to.address(), from, self.raw())
        })
    }

    /// Copies to pinned memory, later. `to`: of a [`PinnedBuffer::span`].
    ///
    /// # Safety
    /// Nobody reads or writes `to` until the copy has ended but work of this stream, and the buffer lives until then.
    ///
    /// # Errors
    /// As [`Self::copy_in`].
    pub unsafe fn copy_out_pinned<T: Plain>(&self, to: Span<T>, from: Span<T>) -> Result<()> {
        from.check("a copy from the device", to.len())?;
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: the memory is there and as long; the rest is the caller's promise.
        self.context().call("cuMemcpyDtoHAsync", || unsafe {
            let to = std::slice::from_raw_parts_mut(to.address() as *mut T, to.len());
            result::memcpy_dtoh_async(to, from.address(), self.raw())
        })
    }
}
