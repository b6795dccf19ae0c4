//! Where keys and values live: fixed-size pages per (layer, KV head), shared between sequences and copied when one of them writes.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernels::{PAGE_SIZE, Rows};
use crate::slab::Block;

/// `PAGE_SIZE` positions of one KV head: keys f16 `[PAGE_SIZE, head_dim]`, then values of the same shape. Writers hold the only
/// reference (`HeadKv::reserve`).
struct Page(Block);

impl Page {
    fn new(head_dim: usize) -> Result<Self> {
        let bytes = page_bytes(head_dim);
        Block::new(bytes).map(Self).ok_or(Error::OutOfMemory { what: "a KV page", needed: bytes as u64, available: 0 })
    }

    fn start(&self) -> *mut u16 {
        self.0.start().cast()
    }

    fn copy(&self, head_dim: usize) -> Result<Self> {
        let page = Self::new(head_dim)?;
        // SAFETY: both pages have the same size.
        unsafe { std::ptr::copy_nonoverlapping(self.0.start(), page.0.start(), page_bytes(head_dim)) };
        Ok(page)
    }
}

/// Bytes of one page.
pub(crate) fn page_bytes(head_dim: usize) -> usize {
    PAGE_SIZE * head_dim * 2 * size_of::<u16>()
}

/// Keys and values of one KV head of one sequence.
pub(crate) struct HeadKv {
    head_dim: usize,
    pages: Vec<Arc<Page>>,
    /// `pages[i]`'s first key: what the kernels read.
    pointers: Vec<*const u16>,
}

// SAFETY: the pointers point into `pages`, which are Send and Sync.
unsafe impl Send for HeadKv {}
// SAFETY: as above.
unsafe impl Sync for HeadKv {}

impl HeadKv {
    pub(crate) fn new(head_dim: usize) -> Self {
        Self { head_dim, pages: Vec::new(), pointers: Vec::new() }
    }

    /// Shares all pages.
    pub(crate) fn fork(&self) -> Self {
        Self { head_dim: self.head_dim, pages: self.pages.clone(), pointers: self.pointers.clone() }
    }

    /// Makes positions `from..to` writable: pages exist and belong to this sequence alone.
    pub(crate) fn reserve(&mut self, from: usize, to: usize) -> Result<()> {
        if let Some(last) = self.pages.get_mut(from / PAGE_SIZE) {
            // A page beyond the one `from` lies in cannot exist: truncate drops those.
            if Arc::get_mut(last).is_none() {
                *last = Arc::new(last.copy(self.head_dim)?);
                self.pointers[from / PAGE_SIZE] = last.start();
            }
        }
        while self.pages.len() * PAGE_SIZE < to {
            let page = Page::new(self.head_dim)?;
            self.pointers.push(page.start());
            self.pages.push(Arc::new(page));
        }
        Ok(())
    }

    /// Drops the pages that hold nothing below `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        let keep = len.div_ceil(PAGE_SIZE);
        self.pages.truncate(keep);
        self.pointers.truncate(keep);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * page_bytes(self.head_dim)
    }

    /// Where key and value of a position are written.
    ///
    /// # Safety
    /// `position` was reserved; nobody reads or writes that row meanwhile.
    pub(crate) unsafe fn slot(&self, position: usize) -> (*mut u16, *mut u16) {
        let page = &self.pages[position / PAGE_SIZE];
        let offset = position % PAGE_SIZE * self.head_dim;
        // SAFETY: both offsets are inside the page.
        unsafe { (page.start().add(offset), page.start().add(self.value_offset() + offset)) }
    }

    fn value_offset(&self) -> usize {
        PAGE_SIZE * self.head_dim
    }

    pub(crate) fn keys(&self, start: usize, len: usize) -> Rows<'_> {
        Rows::run(&self.pointers, self.head_dim, 0, start, len)
    }

    pub(crate) fn values(&self, start: usize, len: usize) -> Rows<'_> {
        Rows::run(&self.pointers, self.head_dim, self.value_offset(), start, len)
    }

    pub(crate) fn keys_at<'a>(&'a self, positions: &'a [u32]) -> Rows<'a> {
        Rows::list(&self.pointers, self.head_dim, 0, positions)
    }

    pub(crate) fn values_at<'a>(&'a self, positions: &'a [u32]) -> Rows<'a> {
        Rows::list(&self.pointers, self.head_dim, self.value_offset(), positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(kv: &HeadKv, position: usize, value: u16) {
        // SAFETY: the tests reserve first and are single-threaded.
        unsafe {
            let (k, v) = kv.slot(position);
            *k = value;
            *v = value + 1;
        }
    }

    fn read(kv: &HeadKv, position: usize) -> (u16, u16) {
        // SAFETY: the position was written.
        unsafe { (*kv.keys(position, 1).row(0), *kv.values_at(&[position as u32]).row(0)) }
    }

    #[test]
    fn a_fork_shares_pages_until_one_side_writes() -> Result<()> {
        let mut a = HeadKv::new(64);
        let n = PAGE_SIZE + 10;
        a.reserve(0, n)?;
        (0..n).for_each(|p| write(&a, p, p as u16));
        let mut b = a.fork();
        assert_eq!(a.pointers, b.pointers);
        b.reserve(n, n + 1)?;
        write(&b, n, 7);
        assert_eq!(a.pointers[0], b.pointers[0], "a full page stays shared");
        assert_ne!(a.pointers[1], b.pointers[1], "the page written to is copied");
        a.reserve(n, n + 1)?;
        write(&a, n, 9);
        assert_eq!((read(&a, n), read(&b, n)), ((9, 10), (7, 8)));
        assert_eq!(read(&b, n - 1), ((n - 1) as u16, n as u16));
        Ok(())
    }

    #[test]
    fn truncate_frees_whole_pages_and_the_rest_can_be_rewritten() -> Result<()> {
        let mut kv = HeadKv::new(16);
        kv.reserve(0, 3 * PAGE_SIZE)?;
        assert_eq!(kv.bytes(), 3 * page_bytes(16));
        kv.truncate(PAGE_SIZE + 1);
        assert_eq!(kv.bytes(), 2 * page_bytes(16));
        kv.reserve(PAGE_SIZE + 1, PAGE_SIZE + 2)?;
        write(&kv, PAGE_SIZE + 1, 3);
        assert_eq!(read(&kv, PAGE_SIZE + 1), (3, 4));
        Ok(())
    }
}
