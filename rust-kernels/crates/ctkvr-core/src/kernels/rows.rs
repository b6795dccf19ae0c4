//! Which rows of a paged key or value store a kernel reads, in order.

/// Positions per KV page. A power of two: position to page is a shift.
pub const PAGE_SIZE: usize = 256;
const PAGE_SHIFT: u32 = PAGE_SIZE.trailing_zeros();

/// Rows of one KV head's keys or values, f16 `[head_dim]` each. Kernels read through its pointers: who calls one sees to it that the
/// pages are live and the positions inside them.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// First row of each page; pages hold `PAGE_SIZE` rows, contiguous.
    pages: &'a [*const u16],
    head_dim: usize,
    /// Values between a page pointer and its first row: keys 0, values behind them.
    offset: usize,
    which: Which<'a>,
}

#[derive(Clone, Copy)]
enum Which<'a> {
    Run { start: usize, len: usize },
    List(&'a [u32]),
}

impl<'a> Rows<'a> {
    /// Positions `start..start + len`. `pages` point at `PAGE_SIZE` rows of keys and behind them as many values; `offset`: 0 for keys,
    /// `PAGE_SIZE * head_dim` for values.
    pub fn run(pages: &'a [*const u16], head_dim: usize, offset: usize, start: usize, len: usize) -> Self {
        debug_assert!(start + len <= pages.len() * PAGE_SIZE);
        Self { pages, head_dim, offset, which: Which::Run { start, len } }
    }

    /// The given positions; the rest as for [`Rows::run`].
    pub fn list(pages: &'a [*const u16], head_dim: usize, offset: usize, positions: &'a [u32]) -> Self {
        debug_assert!(positions.iter().all(|&p| (p as usize) < pages.len() * PAGE_SIZE));
        Self { pages, head_dim, offset, which: Which::List(positions) }
    }

    /// `len` of these rows from the `first` on.
    pub(crate) fn part(&self, first: usize, len: usize) -> Self {
        debug_assert!(first + len <= self.len());
        let which = match self.which {
            Which::Run { start, .. } => Which::Run { start: start + first, len },
            Which::List(positions) => Which::List(&positions[first..first + len]),
        };
        Self { which, ..*self }
    }

    pub(crate) fn len(&self) -> usize {
        match self.which {
            Which::Run { len, .. } => len,
            Which::List(positions) => positions.len(),
        }
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The i-th row.
    ///
    /// # Safety
    /// `i < len()`, and the pages are live.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, i: usize) -> *const u16 {
        // SAFETY: i is in range, so the position is in a page of the table.
        unsafe {
            let position = match self.which {
                Which::Run { start, .. } => start + i,
                Which::List(positions) => *positions.get_unchecked(i) as usize,
            };
            let page = *self.pages.get_unchecked(position >> PAGE_SHIFT);
            page.add(self.offset + (position & (PAGE_SIZE - 1)) * self.head_dim)
        }
    }
}
