//! Where keys and values live: fixed-size pages per (layer, KV head), shared between sequences and copied when one of them writes.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kv::page_memory::Block;
use ctkvr_kernels::{Kernels, KvFormat, KvSide, PAGE_SIZE, PageLayout, Rows};

/// `PAGE_SIZE` positions of one KV head. Writers hold the only reference (`HeadKv::reserve`).
struct Page(Block);

impl Page {
    fn new(layout: PageLayout) -> Result<Self> {
        let bytes = layout.bytes();
        Block::new(bytes).map(Self).ok_or(Error::OutOfMemory { what: "a KV page", needed: bytes as u64, available: 0 })
    }

    fn start(&self) -> *mut u8 {
        self.0.start()
    }

    fn copy(&self, layout: PageLayout) -> Result<Self> {
        let page = Self::new(layout)?;
        // SAFETY: both pages have the same size.
        unsafe { std::ptr::copy_nonoverlapping(self.start(), page.start(), layout.bytes()) };
        Ok(page)
    }
}

/// Keys and values of one KV head of one sequence.
pub struct HeadKv {
    layout: PageLayout,
    pages: Vec<Arc<Page>>,
    /// Where each of `pages` begins: what the kernels read.
    pointers: Vec<*const u8>,
}

// SAFETY: the pointers point into `pages`, which are Send and Sync.
unsafe impl Send for HeadKv {}
// SAFETY: as above.
unsafe impl Sync for HeadKv {}

impl HeadKv {
    /// `format` fits `head_dim` ([`KvFormat::check`]).
    pub fn new(head_dim: usize, format: KvFormat) -> Self {
        Self { layout: PageLayout { head_dim, format }, pages: Vec::new(), pointers: Vec::new() }
    }

    /// Shares all pages.
    pub fn fork(&self) -> Self {
        Self { layout: self.layout, pages: self.pages.clone(), pointers: self.pointers.clone() }
    }

    /// Makes positions `from..to` writable: pages exist and belong to this sequence alone.
    pub fn reserve(&mut self, from: usize, to: usize) -> Result<()> {
        if let Some(last) = self.pages.get_mut(from / PAGE_SIZE) {
            // A page beyond the one `from` lies in cannot exist: truncate drops those.
            if Arc::get_mut(last).is_none() {
                *last = Arc::new(last.copy(self.layout)?);
                self.pointers[from / PAGE_SIZE] = last.start();
            }
        }
        while self.pages.len() * PAGE_SIZE < to {
            let page = Page::new(self.layout)?;
            self.pointers.push(page.start());
            self.pages.push(Arc::new(page));
        }
        Ok(())
    }

    /// Drops the pages that hold nothing below `len`.
    pub fn truncate(&mut self, len: usize) {
        let keep = len.div_ceil(PAGE_SIZE);
        self.pages.truncate(keep);
        self.pointers.truncate(keep);
    }

    pub fn bytes(&self) -> usize {
        self.pages.len() * self.layout.bytes()
    }

    /// Bytes of one key or value.
    pub fn row_bytes(&self) -> usize {
        self.layout.format.row_bytes(self.layout.head_dim)
    }

    /// Writes key and value of a position, f32 `[head_dim]`.
    ///
    /// # Safety
    /// `position` was reserved, and nobody reads or writes it meanwhile; both hold `head_dim` values, a multiple of the lanes.
    pub unsafe fn store(&self, kernels: &Kernels, position: usize, key: *const f32, value: *const f32) {
        // SAFETY: the page is this store's own, of this layout; the rest is the caller's.
        unsafe { self.layout.store(kernels, self.pages[position / PAGE_SIZE].start(), position % PAGE_SIZE, key, value) };
    }

    pub fn keys(&self, start: usize, len: usize) -> Rows<'_> {
        Rows::run(&self.pointers, self.layout, KvSide::Keys, start, len)
    }

    pub fn values(&self, start: usize, len: usize) -> Rows<'_> {
        Rows::run(&self.pointers, self.layout, KvSide::Values, start, len)
    }

    pub fn keys_at<'a>(&'a self, positions: &'a [u32]) -> Rows<'a> {
        Rows::list(&self.pointers, self.layout, KvSide::Keys, positions)
    }

    pub fn values_at<'a>(&'a self, positions: &'a [u32]) -> Rows<'a> {
        Rows::list(&self.pointers, self.layout, KvSide::Values, positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::panels::widen_rows;
    use crate::test_rows::tables;

    const D: usize = 32;

    /// Writes what both formats hold exactly: the codes' own range.
    fn write(kv: &HeadKv, position: usize, value: f32) {
        let row = |x: f32| [[127.0, x], [-127.0, x]].concat().repeat(D / 4);
        // SAFETY: the tests reserve first and are single-threaded; rows of D values.
        unsafe { kv.store(tables(D)[0], position, row(value).as_ptr(), row(-value).as_ptr()) };
    }

    fn read(kv: &HeadKv, position: usize) -> f32 {
        let (mut key, mut value) = ([0.0; D], [0.0; D]);
        widen_rows(tables(D)[0], &kv.keys(position, 1), 0, 1, &mut key);
        widen_rows(tables(D)[0], &kv.values_at(&[position as u32]), 0, 1, &mut value);
        assert_eq!((key[0], key[D - 2], value[D - 1]), (127.0, -127.0, -key[1]), "position {position}");
        key[1]
    }

    #[test]
    fn a_fork_shares_pages_until_one_side_writes() -> Result<()> {
        for format in [KvFormat::F16, KvFormat::Q8] {
            let mut a = HeadKv::new(D, format);
            let n = PAGE_SIZE + 10;
            a.reserve(0, n)?;
            (0..n).for_each(|p| write(&a, p, (p % 100) as f32));
            let mut b = a.fork();
            assert_eq!(a.pointers, b.pointers);
            b.reserve(n, n + 1)?;
            write(&b, n, 7.0);
            assert_eq!(a.pointers[0], b.pointers[0], "a full page stays shared");
            assert_ne!(a.pointers[1], b.pointers[1], "the page written to is copied");
            a.reserve(n, n + 1)?;
            write(&a, n, 9.0);
            assert_eq!((read(&a, n), read(&b, n)), (9.0, 7.0));
            assert!((0..n).all(|p| (read(&a, p), read(&b, p)) == ((p % 100) as f32, (p % 100) as f32)));
        }
        Ok(())
    }

    #[test]
    fn truncate_frees_whole_pages_and_the_rest_can_be_rewritten() -> Result<()> {
        // A key and a value each: 32 f16, or 32 codes and a scale.
        for (format, row_bytes) in [(KvFormat::F16, 64), (KvFormat::Q8, 36)] {
            let mut kv = HeadKv::new(D, format);
            kv.reserve(0, 3 * PAGE_SIZE)?;
            assert_eq!((kv.bytes(), kv.row_bytes()), (3 * PAGE_SIZE * 2 * row_bytes, row_bytes));
            kv.truncate(PAGE_SIZE + 1);
            assert_eq!(kv.bytes(), 2 * PAGE_SIZE * 2 * row_bytes);
            kv.reserve(PAGE_SIZE + 1, PAGE_SIZE + 2)?;
            write(&kv, PAGE_SIZE + 1, 3.0);
            assert_eq!(read(&kv, PAGE_SIZE + 1), 3.0);
        }
        Ok(())
    }
}
