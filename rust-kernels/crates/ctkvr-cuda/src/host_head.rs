//! Keys and values of one head, copied to this process's memory: for what the device has no kernels for.

use ctkvr_core::kv::head_kv::HeadKv;
use ctkvr_core::kv::pool::PageShape;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_kernels::PageLayout;

use crate::kv_pool::DeviceKvPool;
use crate::{Device, Result};

/// One head's part of all pages of a sequence.
pub(crate) struct HostHead {
    layout: PageLayout,
    /// Words, so that rows are aligned.
    _memory: Vec<u64>,
    addresses: Vec<*const u8>,
}

// SAFETY: the addresses point into its own memory, which nobody changes.
unsafe impl Send for HostHead {}
// SAFETY: as above.
unsafe impl Sync for HostHead {}

impl HostHead {
    /// Copies head `layer * num_kv_heads + kv_head`, after all that the compute stream was given.
    ///
    /// # Errors
    /// As copies.
    pub fn copy(device: &Device, pool: &DeviceKvPool, shape: PageShape, sequence: &Sequence, head: usize) -> Result<Self> {
        let layout = shape.head_layout(sequence.kv.format());
        let words = layout.bytes() / size_of::<u64>();
        let pages = sequence.kv.pages();
        let mut memory = vec![0u64; words * pages.len()];
        for (page, words) in pages.iter().zip(memory.chunks_exact_mut(words)) {
            let part = pool.memory(page).part(head * layout.bytes()..(head + 1) * layout.bytes());
            device.compute().copy_out(words, part.cast())?;
        }
        let addresses = memory.chunks_exact(words).map(|page| page.as_ptr().cast()).collect();
        Ok(Self { layout, _memory: memory, addresses })
    }

    pub fn kv(&self) -> HeadKv<'_> {
        // SAFETY: one head's parts of pages of this layout, in memory that lives as long as the addresses.
        unsafe { HeadKv::of_copies(&self.addresses, self.layout) }
    }
}
