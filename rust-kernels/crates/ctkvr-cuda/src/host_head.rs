//! Keys and values of one head in this process's memory: where they are, or copied there for what the device has no kernels for.

use ctkvr_core::kv::head_kv::HeadKv;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_kernels::PageLayout;

use crate::kv_pool::DeviceKvPool;
use crate::{Device, Result};

/// One head's part of all pages of a sequence.
pub(crate) struct HostHead {
    layout: PageLayout,
    /// Words, so that rows are aligned; of a copy.
    _memory: Vec<u64>,
    addresses: Vec<*const u8>,
    /// Bytes of a page before the head's.
    offset: usize,
}

// SAFETY: the addresses point into its own memory, or into pages of a sequence that the maker borrows; nobody changes either.
unsafe impl Send for HostHead {}
// SAFETY: as above.
unsafe impl Sync for HostHead {}

impl HostHead {
    /// Head `layer * num_kv_heads + kv_head`, after all that the compute stream was given; it lives no longer than the sequence's pages.
    ///
    /// # Errors
    /// As copies.
    pub fn of(device: &Device, pool: &DeviceKvPool, sequence: &Sequence, head: usize) -> Result<Self> {
        let layout = pool.head_layout(sequence.kv.format());
        let pages = sequence.kv.pages();
        if pool.placement().host_heads().contains(&head) {
            device.compute().wait()?;
            let addresses = pool.host_pages(pages);
            return Ok(Self { layout, _memory: Vec::new(), addresses, offset: pool.placement().of_host(head) * layout.bytes() });
        }
        let words = layout.bytes() / size_of::<u64>();
        let mut memory = vec![0u64; words * pages.len()];
        for (page, words) in pages.iter().zip(memory.chunks_exact_mut(words)) {
            let part = pool.memory(page).part(head * layout.bytes()..(head + 1) * layout.bytes());
            device.compute().copy_out(words, part.cast())?;
        }
        let addresses = memory.chunks_exact(words).map(|page| page.as_ptr().cast()).collect();
        Ok(Self { layout, _memory: memory, addresses, offset: 0 })
    }

    pub fn kv(&self) -> HeadKv<'_> {
        // SAFETY: one head's parts of pages of this layout, in memory that lives as long as the addresses.
        unsafe { HeadKv::of_pages(&self.addresses, self.layout, self.offset) }
    }
}
