//! Memory on both sides: some of the device's, and as much pinned memory of the host's. Its parts lie one behind the other, each at the same
//! place on both sides, so that all of them go over or come back in one copy that nobody stages.

use crate::{Device, DeviceBuffer, PinnedBuffer, Plain, Result, Span, Stream};

/// Where parts begin: as allocations do on the device.
const ALIGNMENT: u64 = 256;

/// Cuts memory into parts.
pub(crate) struct Cut {
    first: u64,
    next: u64,
}

impl Cut {
    /// Of memory that begins at an address of the device, 0 to see how much is needed.
    pub fn at(address: u64) -> Self {
        Self { first: address, next: address }
    }

    /// The next part.
    pub fn part<T: Plain>(&mut self, len: usize) -> Span<T> {
        let part = Span::at(self.next.next_multiple_of(ALIGNMENT), len);
        self.next = part.address() + part.bytes() as u64;
        part
    }

    /// All parts so far.
    pub fn whole(&self) -> Span<u8> {
        Span::at(self.first, (self.next - self.first) as usize)
    }
}

/// Parts are spans of the device's side, cut at [`Mirror::address`].
pub(crate) struct Mirror {
    device: DeviceBuffer<u8>,
    host: PinnedBuffer<u8>,
}

impl Mirror {
    /// # Errors
    /// `OutOfMemory` of either side, `DeviceLost`.
    pub fn new(device: &Device, bytes: usize) -> Result<Self> {
        Ok(Self { device: DeviceBuffer::new(device, bytes)?, host: PinnedBuffer::new(device, bytes)? })
    }

    /// Where it begins on the device.
    pub fn address(&self) -> u64 {
        self.device.span().address()
    }

    /// A part's bytes on the host's side.
    fn bytes_of<T: Plain>(&self, part: Span<T>) -> Span<u8> {
        let first = (part.address() - self.address()) as usize;
        self.host.span().part(first..first + part.bytes())
    }

    /// The host's side of a part. Copies have ended, as [`PinnedBuffer::as_slice`] asks.
    ///
    /// # Panics
    /// When it is no part of this.
    pub fn host<T: Plain>(&self, part: Span<T>) -> &[T] {
        let bytes = self.bytes_of(part).cast::<T>();
        // SAFETY: inside of the pinned memory and aligned, which `part` and `cast` saw to; any bytes are a value.
        unsafe { std::slice::from_raw_parts(bytes.address() as *const T, bytes.len()) }
    }

    /// As [`Self::host`].
    pub fn host_mut<T: Plain>(&mut self, part: Span<T>) -> &mut [T] {
        let bytes = self.bytes_of(part).cast::<T>();
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(bytes.address() as *mut T, bytes.len()) }
    }

    /// Brings some of it to the device, later.
    ///
    /// # Safety
    /// As [`Stream::copy_in_pinned`].
    ///
    /// # Errors
    /// Those of the driver.
    pub unsafe fn send(&self, stream: &Stream, part: Span<u8>) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { stream.copy_in_pinned(part, self.bytes_of(part)) }
    }

    /// Brings some of it back from the device, later.
    ///
    /// # Safety
    /// As [`Stream::copy_out_pinned`].
    ///
    /// # Errors
    /// Those of the driver.
    pub unsafe fn fetch(&self, stream: &Stream, part: Span<u8>) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { stream.copy_out_pinned(self.bytes_of(part), part) }
    }
}
