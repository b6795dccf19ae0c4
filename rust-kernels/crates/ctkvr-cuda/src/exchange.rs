//! What a layer's decodes send from the device to the host and back, in pinned memory.

use crate::launch::merge::host_len;
use crate::launch::search_state::SlotSearch;
use crate::{Device, DeviceBuffer, Event, PinnedBuffer, Result, Span};

/// What a lane's layers in host memory need, used again in each.
pub struct Exchange {
    slots: usize,
    /// f32 `[slots, group, head_dim]`, after rotary embedding.
    queries: PinnedBuffer<f32>,
    /// `[slots]`: what the device has searched.
    searches: PinnedBuffer<SlotSearch>,
    /// f32 `[slots, host_len]`: what the host gives, and on the device.
    given: PinnedBuffer<f32>,
    taken: DeviceBuffer<f32>,
    /// Recorded behind what is sent.
    sent: Event,
}

impl Exchange {
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn new(device: &Device, slots: usize, group: usize, head_dim: usize) -> Result<Self> {
        let len = slots * host_len(group, head_dim);
        Ok(Self {
            slots,
            queries: PinnedBuffer::new(device, slots * group * head_dim)?,
            searches: PinnedBuffer::new(device, slots)?,
            given: PinnedBuffer::new(device, len)?,
            taken: DeviceBuffer::new(device, len)?,
            sent: device.event()?,
        })
    }

    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Sends queries and searches (empty where nothing is searched) behind what the stream was given.
    ///
    /// # Errors
    /// As copies.
    pub fn send(&self, device: &Device, queries: Span<f32>, searches: Span<SlotSearch>) -> Result<()> {
        let stream = device.compute();
        // SAFETY: the host reads behind `receive` alone, the next layer's copies are ordered behind this one's, and the buffers live as long as
        // the lane, which waits for the device when a step fails.
        unsafe {
            stream.copy_out_pinned(self.queries.span().part(0..queries.len()), queries)?;
            stream.copy_out_pinned(self.searches.span().part(0..searches.len()), searches)?;
        }
        stream.record(&self.sent)
    }

    /// Waits for what was sent.
    ///
    /// # Errors
    /// `DeviceLost`.
    pub fn receive(&self) -> Result<Received<'_>> {
        self.sent.wait()?;
        Ok(Received {
            queries: self.queries.as_slice(),
            searches: self.searches.as_slice(),
            given: self.given.span().address() as *mut f32,
        })
    }

    /// Brings what the host has given of the first `slots` to the device, where this returns it.
    ///
    /// # Errors
    /// As copies.
    pub fn give(&self, device: &Device, len: usize) -> Result<Span<f32>> {
        let taken = self.taken.span().part(0..len);
        // SAFETY: the host writes it behind the next `receive` alone, which waits for a copy behind this one.
        unsafe { device.compute().copy_in_pinned(taken, self.given.span().part(0..len))? };
        Ok(taken)
    }
}

/// What the host works with.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    pub queries: &'a [f32],
    pub searches: &'a [SlotSearch],
    /// f32 `[slots, host_len]`, for whoever works on a slot.
    pub given: *mut f32,
}

// SAFETY: each slot of `given` is written by one thread.
unsafe impl Send for Received<'_> {}
// SAFETY: as above.
unsafe impl Sync for Received<'_> {}
