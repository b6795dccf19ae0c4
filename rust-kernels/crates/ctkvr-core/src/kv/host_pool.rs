//! A pool in host memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ctkvr_kernels::{KvFormat, PAGE_SIZE};

use crate::error::Result;
use crate::kv::held_pages::{HeldPages, NoPage, PageMemory, WantedPages};
use crate::kv::page_memory::Block;
use crate::kv::pool::{KvPool, PageRef, PageShape, PoolUsage};

/// Pages in huge pages of host memory. A freed page goes back at once: to a slab that others have pages in, else to the system, where
/// another model or program may need it. Taking it again costs what its first use did, little beside computing what it will hold.
pub struct HostKvPool {
    shape: PageShape,
    pages: Mutex<HeldPages<Block>>,
}

impl PageMemory for Block {
    fn address(&self) -> usize {
        self.start() as usize
    }

    fn num_bytes(&self) -> usize {
        Block::num_bytes(self)
    }
}

impl HostKvPool {
    /// An empty pool of at most `budget_bytes`; `None`: as much as the machine has.
    pub fn new(shape: PageShape, budget_bytes: Option<usize>) -> Self {
        Self { shape, pages: Mutex::new(HeldPages::new(budget_bytes)) }
    }

    /// Changes the budget. Below what is held, nothing is freed and nothing more is reserved.
    pub fn set_budget(&self, budget_bytes: Option<usize>) {
        self.lock().set_budget(budget_bytes);
    }

    /// For tests: see [`HeldPages::check_integrity`].
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_integrity<'a>(&self, held: impl IntoIterator<Item = &'a PageRef>) -> std::result::Result<(), String> {
        self.lock().check_integrity(held)
    }

    fn lock(&self) -> MutexGuard<'_, HeldPages<Block>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of `page`, which is of this pool.
    fn bytes_of(&self, page: &PageRef) -> usize {
        self.lock().page(page).memory.num_bytes()
    }
}

impl KvPool for HostKvPool {
    fn shape(&self) -> PageShape {
        self.shape
    }

    fn reserve(&self, format: KvFormat, count: usize) -> Result<Vec<PageRef>> {
        let bytes = self.shape.page_bytes(format);
        self.lock().reserve(WantedPages { count, bytes, format }, || Block::new(bytes).ok_or(NoPage::OutOfMemory { available: 0 }))
    }

    fn share(&self, page: &PageRef) -> PageRef {
        self.lock().share(page)
    }

    fn release(&self, page: PageRef) {
        let freed = self.lock().release(&page);
        // The system takes its time to unmap: nobody waits for it.
        drop(freed);
    }

    fn num_holders(&self, page: &PageRef) -> usize {
        self.lock().num_holders(page)
    }

    fn copy(&self, from: &PageRef, to: &mut PageRef) -> Result<()> {
        let bytes = self.bytes_of(from);
        assert!(bytes == self.bytes_of(to) && self.num_holders(to) == 1, "a page of the same size that nobody shares");
        // SAFETY: two pages of this size, which their references keep; nobody else has `to`.
        unsafe { std::ptr::copy_nonoverlapping(from.address() as *const u8, to.address() as *mut u8, bytes) };
        Ok(())
    }

    unsafe fn export(&self, page: &PageRef, len: usize, out: &mut Vec<u8>) -> Result<()> {
        assert!(len <= PAGE_SIZE);
        let format = self.lock().page(page).format;
        out.reserve(self.shape.exported_bytes(format, len));
        for piece in self.shape.pieces(format, len) {
            // SAFETY: the piece is in the page, which the reference keeps; the caller vouches for its content.
            out.extend_from_slice(unsafe {
                std::slice::from_raw_parts((page.address() as *const u8).add(piece.start), piece.len())
            });
        }
        Ok(())
    }

    fn import(&self, format: KvFormat, len: usize, bytes: &[u8]) -> Result<PageRef> {
        self.shape.check_exported(format, len, bytes)?;
        let page = self.reserve(format, 1)?.remove(0);
        let mut rest = bytes;
        for piece in self.shape.pieces(format, len) {
            let (source, others) = rest.split_at(piece.len());
            rest = others;
            // SAFETY: the piece is in the page, which is new: nobody else has it.
            unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), (page.address() as *mut u8).add(piece.start), source.len()) };
        }
        Ok(page)
    }

    fn usage(&self) -> PoolUsage {
        self.lock().usage()
    }
}
