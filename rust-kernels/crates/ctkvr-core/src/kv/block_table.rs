//! The pages of one sequence, shared with its forks and copied when one of them writes.

use std::sync::Arc;

use ctkvr_kernels::{KvFormat, PAGE_SIZE, PageLayout};

use crate::error::Result;
use crate::kv::head_kv::HeadKv;
use crate::kv::pool::{KvPool, PageRef};

/// Keys and values of one sequence: the pages of a pool in order of position.
pub struct BlockTable {
    pool: Arc<dyn KvPool>,
    num_heads: usize,
    /// Of one head.
    layout: PageLayout,
    pages: Vec<PageRef>,
    /// Where each of `pages` begins: what the kernels read.
    addresses: Vec<*const u8>,
}

// SAFETY: the addresses are those of `pages`, which are Send and Sync.
unsafe impl Send for BlockTable {}
// SAFETY: as above.
unsafe impl Sync for BlockTable {}

impl BlockTable {
    /// No pages yet; `format` fits the pool's heads ([`KvFormat::check`]).
    pub fn new(pool: Arc<dyn KvPool>, format: KvFormat) -> Self {
        let shape = pool.shape();
        let layout = shape.head_layout(format);
        Self { pool, num_heads: shape.num_heads, layout, pages: Vec::new(), addresses: Vec::new() }
    }

    /// Shares all pages.
    pub fn fork(&self) -> Self {
        let mut fork = Self::new(Arc::clone(&self.pool), self.format());
        self.pages.iter().for_each(|page| fork.push(self.pool.share(page)));
        fork
    }

    pub fn format(&self) -> KvFormat {
        self.layout.format
    }

    /// Layers times KV heads.
    pub fn num_heads(&self) -> usize {
        self.num_heads
    }

    pub fn pages(&self) -> &[PageRef] {
        &self.pages
    }

    /// Makes positions `from..to` writable: pages exist and belong to this sequence alone. What lies before `from` is kept.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`; then nothing has changed.
    pub fn reserve(&mut self, from: usize, to: usize) -> Result<()> {
        // A page beyond the one `from` lies in cannot exist: truncate drops those.
        debug_assert!(from.div_ceil(PAGE_SIZE) >= self.pages.len());
        let written = from / PAGE_SIZE;
        let copies = from < to && self.pages.get(written).is_some_and(|page| self.pool.num_holders(page) > 1);
        let count = to.div_ceil(PAGE_SIZE).saturating_sub(self.pages.len()) + usize::from(copies);
        if count == 0 {
            return Ok(());
        }
        let mut new = self.pool.reserve(self.format(), count)?.into_iter();
        if copies && let Some(mut copy) = new.next() {
            if let Err(error) = self.pool.copy(&self.pages[written], &mut copy) {
                [copy].into_iter().chain(new).for_each(|page| self.pool.release(page));
                return Err(error);
            }
            self.addresses[written] = copy.address() as *const u8;
            self.pool.release(std::mem::replace(&mut self.pages[written], copy));
        }
        new.for_each(|page| self.push(page));
        Ok(())
    }

    /// Drops the pages that hold nothing below `len`.
    pub fn truncate(&mut self, len: usize) {
        let keep = len.div_ceil(PAGE_SIZE).min(self.pages.len());
        self.addresses.truncate(keep);
        self.pages.drain(keep..).for_each(|page| self.pool.release(page));
    }

    /// Bytes of its pages, those that others share in full.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.page_bytes()
    }

    /// Bytes of the pages that others hold too: what would stay if this table went.
    pub fn shared_bytes(&self) -> usize {
        self.pages.iter().filter(|page| self.pool.num_holders(page) > 1).count() * self.page_bytes()
    }

    /// Keys and values of head i: `layer * num_kv_heads + kv_head`.
    pub fn head(&self, i: usize) -> HeadKv<'_> {
        assert!(i < self.num_heads);
        HeadKv::new(&self.addresses, self.layout, i * self.layout.bytes())
    }

    /// Appends the first `len` positions of page i to `out`: see [`KvPool::export`].
    ///
    /// # Errors
    /// As that.
    ///
    /// # Safety
    /// These positions were stored, and nobody writes them meanwhile.
    pub unsafe fn export_page(&self, i: usize, len: usize, out: &mut Vec<u8>) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.pool.export(&self.pages[i], len, out) }
    }

    /// Adds a page at the end: the bytes that `export_page` wrote of `len` positions.
    ///
    /// # Errors
    /// As [`KvPool::import`]; then nothing has changed.
    pub fn import_page(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        let page = self.pool.import(self.format(), len, bytes)?;
        self.push(page);
        Ok(())
    }

    fn page_bytes(&self) -> usize {
        self.num_heads * self.layout.bytes()
    }

    fn push(&mut self, page: PageRef) {
        self.addresses.push(page.address() as *const u8);
        self.pages.push(page);
    }
}

impl Drop for BlockTable {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::host_pool::HostKvPool;
    use crate::kv::panels::widen_rows;
    use crate::kv::pool::PageShape;
    use crate::test_rows::tables;

    const D: usize = 32;
    const HEADS: usize = 3;

    fn table(format: KvFormat) -> BlockTable {
        BlockTable::new(Arc::new(HostKvPool::new(PageShape { num_heads: HEADS, head_dim: D }, None)), format)
    }

    /// Writes what both formats hold exactly, the codes' own range, to every head.
    fn write(kv: &BlockTable, position: usize, value: f32) {
        let row = |x: f32| [[127.0, x], [-127.0, x]].concat().repeat(D / 4);
        for i in 0..HEADS {
            let (key, value) = (row(value + i as f32), row(-value - i as f32));
            // SAFETY: the tests reserve first and are single-threaded; rows of D values.
            unsafe { kv.head(i).store(tables(D)[0], position, key.as_ptr(), value.as_ptr()) };
        }
    }

    fn read(kv: &BlockTable, position: usize) -> f32 {
        let of_head = |i: usize| {
            let (mut key, mut value) = ([0.0; D], [0.0; D]);
            widen_rows(tables(D)[0], &kv.head(i).keys(position, 1), 0, 1, &mut key);
            let positions = [position as u32];
            // SAFETY: the position was stored.
            let values = unsafe { kv.head(i).values_at(&positions) };
            widen_rows(tables(D)[0], &values, 0, 1, &mut value);
            assert_eq!((key[0], key[D - 2], value[D - 1]), (127.0, -127.0, -key[1]), "position {position}");
            key[1]
        };
        assert!((0..HEADS).all(|i| of_head(i) == of_head(0) + i as f32), "position {position}");
        of_head(0)
    }

    #[test]
    fn a_fork_shares_pages_until_one_side_writes() -> Result<()> {
        for format in [KvFormat::F16, KvFormat::Q8] {
            let mut a = table(format);
            let n = PAGE_SIZE + 10;
            a.reserve(0, n)?;
            (0..n).for_each(|p| write(&a, p, (p % 100) as f32));
            let mut b = a.fork();
            assert_eq!(a.addresses, b.addresses);
            assert_eq!((a.shared_bytes(), b.shared_bytes()), (a.bytes(), a.bytes()));
            b.reserve(n, n + 1)?;
            write(&b, n, 7.0);
            assert_eq!(a.addresses[0], b.addresses[0], "a full page stays shared");
            assert_ne!(a.addresses[1], b.addresses[1], "the page written to is copied");
            assert_eq!((a.shared_bytes(), b.shared_bytes()), (a.bytes() / 2, a.bytes() / 2));
            let before = a.addresses.clone();
            a.reserve(n, n + 1)?;
            assert_eq!(a.addresses, before, "a page of its own is not copied");
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
            let mut kv = table(format);
            kv.reserve(0, 3 * PAGE_SIZE)?;
            assert_eq!((kv.bytes(), kv.head(0).row_bytes()), (HEADS * 3 * PAGE_SIZE * 2 * row_bytes, row_bytes));
            kv.truncate(PAGE_SIZE + 1);
            assert_eq!(kv.bytes(), HEADS * 2 * PAGE_SIZE * 2 * row_bytes);
            kv.reserve(PAGE_SIZE + 1, PAGE_SIZE + 2)?;
            write(&kv, PAGE_SIZE + 1, 3.0);
            assert_eq!(read(&kv, PAGE_SIZE + 1), 3.0);
        }
        Ok(())
    }
}
