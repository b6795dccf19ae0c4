//! Memory of KV pages, taken from slabs of one huge page each: a decode step reads rows scattered over the whole store, and with
//! pages of 4 KiB it would wait for address translation more than for the rows.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::kv::huge_pages::prefer_huge_pages;

/// Size and alignment of a slab: one huge page of x86-64, and of arm64 with 4 KiB pages.
const SLAB_BYTES: usize = 2 << 20;

/// A slab, freed when its last block is dropped.
struct Slab {
    base: NonNull<u8>,
    layout: Layout,
    /// Offsets that nobody holds.
    free: Mutex<Vec<usize>>,
}

// SAFETY: a slab is plain memory; each block of it has one owner.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// A block of memory inside a slab, uninitialised, aligned to 64 bytes; goes back to its slab when dropped.
pub struct Block {
    slab: Arc<Slab>,
    offset: usize,
    bytes: usize,
}

/// Slabs with room, by block size. Slabs whose blocks are all gone fall out by themselves.
static SLABS: Mutex<BTreeMap<usize, Vec<Weak<Slab>>>> = Mutex::new(BTreeMap::new());

impl Block {
    /// A block of `bytes`, a multiple of 64; `None` when the system has no memory.
    pub fn new(bytes: usize) -> Option<Self> {
        let mut slabs = SLABS.lock().unwrap_or_else(PoisonError::into_inner);
        let partial = slabs.entry(bytes).or_default();
        while let Some(last) = partial.last() {
            if let Some(slab) = last.upgrade() {
                let offset = slab.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if let Some(offset) = offset {
                    return Some(Self { slab, offset, bytes });
                }
            }
            partial.pop();
        }
        let layout = Layout::from_size_align(bytes.next_multiple_of(SLAB_BYTES), SLAB_BYTES).ok()?;
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { alloc(layout) })?;
        // SAFETY: fresh memory, ours.
        unsafe { prefer_huge_pages(base.as_ptr(), layout.size()) };
        // The last offset is taken first: blocks ascend in memory.
        let free = (1..layout.size() / bytes).rev().map(|i| i * bytes).collect();
        let slab = Arc::new(Slab { base, layout, free: Mutex::new(free) });
        partial.push(Arc::downgrade(&slab));
        Some(Self { slab, offset: 0, bytes })
    }

    pub fn start(&self) -> *mut u8 {
        // SAFETY: the offset is inside the slab.
        unsafe { self.slab.base.as_ptr().add(self.offset) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = self.slab.free.lock().unwrap_or_else(PoisonError::into_inner);
        let was_full = free.is_empty();
        free.push(self.offset);
        drop(free);
        if was_full {
            let mut slabs = SLABS.lock().unwrap_or_else(PoisonError::into_inner);
            slabs.entry(self.bytes).or_default().push(Arc::downgrade(&self.slab));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        const BYTES: usize = 192 << 10;
        let blocks: Vec<Block> = (0..25).map(|_| Block::new(BYTES).expect("memory")).collect();
        let mut starts: Vec<usize> = blocks.iter().map(|b| b.start() as usize).collect();
        starts.sort_unstable();
        assert!(starts.windows(2).all(|w| w[1] - w[0] >= BYTES) && starts.iter().all(|s| s % 64 == 0));
        for (i, block) in blocks.iter().enumerate() {
            // SAFETY: the block holds BYTES bytes.
            unsafe { std::ptr::write_bytes(block.start(), i as u8, BYTES) };
        }
        for (i, block) in blocks.iter().enumerate() {
            // SAFETY: written above.
            assert_eq!(unsafe { (*block.start(), *block.start().add(BYTES - 1)) }, (i as u8, i as u8));
        }
        let freed = blocks[3].start();
        let rest: Vec<Block> = blocks.into_iter().enumerate().filter(|(i, _)| *i != 3).map(|(_, b)| b).collect();
        let again: Vec<Block> = (0..20).map(|_| Block::new(BYTES).expect("memory")).collect();
        assert!(again.iter().any(|b| b.start() == freed), "a freed block is used again");
        assert!(rest.iter().all(|b| again.iter().all(|a| a.start() != b.start())));
    }
}
