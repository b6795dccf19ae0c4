//! Which rows of a paged key or value store a kernel reads, in order, and how a row is read.

use super::kv_format::{KvFormat, KvSide, PageLayout, Q8_BLOCK};
use super::simd::Simd;

/// Positions per KV page. A power of two: position to page is a shift.
pub const PAGE_SIZE: usize = 256;
const PAGE_SHIFT: u32 = PAGE_SIZE.trailing_zeros();

/// Rows of one KV head's keys or values, `[head_dim]` each. Kernels read through its pointers: who calls one sees to it that the pages are
/// live and the positions inside them.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pages: &'a [*const u8],
    layout: PageLayout,
    /// Bytes between a page pointer and its first row, and its first scale.
    rows_offset: usize,
    scales_offset: usize,
    /// The rows, and those after the last one that will be read next: worth asking for.
    which: Which<'a>,
    beyond: usize,
}

#[derive(Clone, Copy)]
enum Which<'a> {
    Run { start: usize, len: usize },
    List(&'a [u32]),
}

impl<'a> Rows<'a> {
    /// Positions `start..start + len` of a side of these pages.
    pub fn run(pages: &'a [*const u8], layout: PageLayout, side: KvSide, start: usize, len: usize) -> Self {
        debug_assert!(start + len <= pages.len() * PAGE_SIZE);
        Self::new(pages, layout, side, Which::Run { start, len })
    }

    /// The given positions of a side of these pages.
    pub fn list(pages: &'a [*const u8], layout: PageLayout, side: KvSide, positions: &'a [u32]) -> Self {
        debug_assert!(positions.iter().all(|&p| (p as usize) < pages.len() * PAGE_SIZE));
        Self::new(pages, layout, side, Which::List(positions))
    }

    fn new(pages: &'a [*const u8], layout: PageLayout, side: KvSide, which: Which<'a>) -> Self {
        let (rows_offset, scales_offset) = layout.offsets(side, 0);
        Self { pages, layout, rows_offset, scales_offset, which, beyond: 0 }
    }

    /// `len` of these rows from the `first` on; the others after them are taken to be read next.
    pub fn part(&self, first: usize, len: usize) -> Self {
        debug_assert!(first + len <= self.len());
        let which = match self.which {
            Which::Run { start, len } => Which::Run { start: start + first, len: len - first },
            Which::List(positions) => Which::List(&positions[first..]),
        };
        Self { which, beyond: self.reach() - first - len, ..*self }
    }

    /// Rows from the first one on that may be asked for ahead of their use.
    #[inline(always)]
    pub(super) fn reach(&self) -> usize {
        match self.which {
            Which::Run { len, .. } => len,
            Which::List(positions) => positions.len(),
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.reach() - self.beyond
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn head_dim(&self) -> usize {
        self.layout.head_dim
    }

    pub fn format(&self) -> KvFormat {
        self.layout.format
    }

    /// The i-th row's page, and its place there.
    ///
    /// # Safety
    /// `i < reach()`.
    #[inline(always)]
    unsafe fn place(&self, i: usize) -> (*const u8, usize) {
        // SAFETY: i is in range, so the position is in a page of the table.
        unsafe {
            let position = match self.which {
                Which::Run { start, .. } => start + i,
                Which::List(positions) => *positions.get_unchecked(i) as usize,
            };
            (*self.pages.get_unchecked(position >> PAGE_SHIFT), position & (PAGE_SIZE - 1))
        }
    }
}

/// How a row is read. A kernel that reads rows is compiled for each format, and chooses once a call.
pub(super) trait RowFormat {
    const FORMAT: KvFormat;
    /// Where a row lies.
    type Row: Copy;

    /// The i-th row.
    ///
    /// # Safety
    /// `i < rows.reach()`, and the pages are live, of this format.
    unsafe fn row(rows: &Rows, i: usize) -> Self::Row;

    /// `LANES` values from column c on.
    ///
    /// # Safety
    /// The row holds them; c is a multiple of `LANES`.
    unsafe fn load<S: Simd>(row: Self::Row, c: usize) -> S::V;

    /// Calls `visit` with the beginning and the bytes of each piece that a row of `head_dim` values lies in.
    fn for_pieces(row: Self::Row, head_dim: usize, visit: impl FnMut(*const u8, usize));
}

/// [`KvFormat::F16`].
pub(super) struct F16;

impl RowFormat for F16 {
    const FORMAT: KvFormat = KvFormat::F16;
    type Row = *const u16;

    #[inline(always)]
    unsafe fn row(rows: &Rows, i: usize) -> *const u16 {
        // SAFETY: the row is in its page.
        unsafe {
            let (page, slot) = rows.place(i);
            page.add(rows.rows_offset).cast::<u16>().add(slot * rows.layout.head_dim)
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(row: *const u16, c: usize) -> S::V {
        // SAFETY: the caller's bounds.
        unsafe { S::load_f16(row.add(c)) }
    }

    #[inline(always)]
    fn for_pieces(row: *const u16, head_dim: usize, mut visit: impl FnMut(*const u8, usize)) {
        visit(row.cast(), head_dim * size_of::<u16>());
    }
}

/// [`KvFormat::Q8`].
pub(super) struct Q8;

impl RowFormat for Q8 {
    const FORMAT: KvFormat = KvFormat::Q8;
    /// Codes, and scales.
    type Row = (*const i8, *const f32);

    #[inline(always)]
    unsafe fn row(rows: &Rows, i: usize) -> Self::Row {
        // SAFETY: the row and its scales are in its page.
        unsafe {
            let (page, slot) = rows.place(i);
            let codes = page.add(rows.rows_offset + slot * rows.layout.head_dim).cast();
            (codes, page.add(rows.scales_offset).cast::<f32>().add(slot * (rows.layout.head_dim / Q8_BLOCK)))
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>((codes, scales): Self::Row, c: usize) -> S::V {
        // SAFETY: the caller's bounds; a vector lies in one block.
        unsafe { S::mul(S::load_i8(codes.add(c)), S::splat(*scales.add(c / Q8_BLOCK))) }
    }

    #[inline(always)]
    fn for_pieces((codes, scales): Self::Row, head_dim: usize, mut visit: impl FnMut(*const u8, usize)) {
        visit(codes.cast(), head_dim);
        visit(scales.cast(), head_dim / Q8_BLOCK * size_of::<f32>());
    }
}
