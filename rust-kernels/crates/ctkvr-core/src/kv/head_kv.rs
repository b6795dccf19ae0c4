//! Keys and values of one KV head of one sequence.

use ctkvr_kernels::{Kernels, KvSide, PAGE_SIZE, PageLayout, Rows};

/// One head's part of the pages of a sequence.
#[derive(Clone, Copy)]
pub struct HeadKv<'a> {
    /// Where each page begins.
    pages: &'a [*const u8],
    layout: PageLayout,
    /// Bytes of a page before this head's.
    offset: usize,
}

// SAFETY: the pages are those of a block table, which is Send and Sync and outlives this.
unsafe impl Send for HeadKv<'_> {}
// SAFETY: as above.
unsafe impl Sync for HeadKv<'_> {}

impl<'a> HeadKv<'a> {
    /// The head whose pages, of this layout, begin `offset` bytes into `pages`.
    pub(super) fn new(pages: &'a [*const u8], layout: PageLayout, offset: usize) -> Self {
        Self { pages, layout, offset }
    }

    /// One whose pages are not a block table's: an executor's, or copies.
    ///
    /// # Safety
    /// This head's part, of this layout, begins `offset` bytes into each page, in this process's memory, which lives as long as `pages`.
    pub unsafe fn of_pages(pages: &'a [*const u8], layout: PageLayout, offset: usize) -> Self {
        Self { pages, layout, offset }
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
        let d = self.layout.head_dim;
        // SAFETY: the page was reserved for its sequence alone, and holds this head's part at the offset; the rest is the caller's.
        unsafe {
            let page = self.pages[position / PAGE_SIZE].cast_mut().add(self.offset);
            let (key, value) = (std::slice::from_raw_parts(key, d), std::slice::from_raw_parts(value, d));
            self.layout.store(kernels, page, position % PAGE_SIZE, key, value);
        }
    }

    pub fn keys(&self, start: usize, len: usize) -> Rows<'a> {
        self.run(KvSide::Keys, start, len)
    }

    pub fn values(&self, start: usize, len: usize) -> Rows<'a> {
        self.run(KvSide::Values, start, len)
    }

    /// Keys of the given positions.
    ///
    /// # Safety
    /// Every position was stored.
    pub unsafe fn keys_at<'b>(&self, positions: &'b [u32]) -> Rows<'b>
    where
        'a: 'b,
    {
        // SAFETY: the caller's.
        unsafe { self.list(KvSide::Keys, positions) }
    }

    /// Values of the given positions.
    ///
    /// # Safety
    /// Every position was stored.
    pub unsafe fn values_at<'b>(&self, positions: &'b [u32]) -> Rows<'b>
    where
        'a: 'b,
    {
        // SAFETY: the caller's.
        unsafe { self.list(KvSide::Values, positions) }
    }

    fn run(&self, side: KvSide, start: usize, len: usize) -> Rows<'a> {
        // SAFETY: the pages are the block table's, of this layout from the offset on; writers (`store`) keep away from rows that are read.
        unsafe { Rows::run(self.pages, self.layout, side, start, len).further(self.offset) }
    }

    /// # Safety
    /// Every position was stored.
    unsafe fn list<'b>(&self, side: KvSide, positions: &'b [u32]) -> Rows<'b>
    where
        'a: 'b,
    {
        // SAFETY: as above; the positions are the caller's.
        unsafe { Rows::list(self.pages, self.layout, side, positions).further(self.offset) }
    }
}
