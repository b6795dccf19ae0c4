//! What keeps the keys and values of sequences: pages with ids and reference counts, within a budget. An executor brings the pool whose
//! memory its kernels read.

use std::ops::Range;

use ctkvr_kernels::{KvFormat, KvSide, PAGE_SIZE, PageLayout};

use crate::error::{Error, Result};

/// What a page holds: the same `PAGE_SIZE` positions of every layer and KV head, head by head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageShape {
    /// Layers times KV heads; head `layer * num_kv_heads + kv_head`.
    pub num_heads: usize,
    pub head_dim: usize,
}

impl PageShape {
    /// Where rows lie in one head's part of a page. Head i's part begins `i * bytes()` of this layout into the page.
    pub fn head_layout(self, format: KvFormat) -> PageLayout {
        PageLayout { head_dim: self.head_dim, format }
    }

    /// Bytes of a page.
    pub fn page_bytes(self, format: KvFormat) -> usize {
        self.num_heads * self.head_layout(format).bytes()
    }

    /// Bytes that [`KvPool::export`] writes of `len` positions.
    pub fn exported_bytes(self, format: KvFormat, len: usize) -> usize {
        self.num_heads * 2 * len * format.row_bytes(self.head_dim)
    }

    /// # Errors
    /// `ShapeMismatch` when these are not the bytes of `len` positions.
    pub fn check_exported(self, format: KvFormat, len: usize, bytes: &[u8]) -> Result<()> {
        let (expected, actual) = (self.exported_bytes(format, len), bytes.len());
        if len > PAGE_SIZE || actual != expected {
            return Err(Error::ShapeMismatch { op: "import", what: "a KV page", expected, actual });
        }
        Ok(())
    }

    /// Where the first `len` positions of a page lie, in the order of [`KvPool::export`]: of each head the keys, the values, and
    /// ([`KvFormat::Q8`]) the scales of both. Of a whole page that is every byte, in order.
    pub fn pieces(self, format: KvFormat, len: usize) -> impl Iterator<Item = Range<usize>> {
        let layout = self.head_layout(format);
        let first = [KvSide::Keys, KvSide::Values].map(|side| layout.offsets(side, 0));
        let next = layout.offsets(KvSide::Keys, 1);
        // Of f16 there are no scales: pieces of no bytes.
        let (row, scales) = (len * (next.0 - first[0].0), len * (next.1 - first[0].1));
        let of_head = [(first[0].0, row), (first[1].0, row), (first[0].1, scales), (first[1].1, scales)];
        (0..self.num_heads).flat_map(move |head| {
            let base = head * layout.bytes();
            of_head.into_iter().map(move |(offset, bytes)| base + offset..base + offset + bytes)
        })
    }
}

/// Names a page within its pool; used again once the page is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u32);

/// One reference to a page. It counts until it is given to [`KvPool::release`]: a dropped one keeps its page for ever.
#[must_use = "a reference counts until it is released"]
#[derive(Debug, PartialEq, Eq)]
pub struct PageRef {
    id: PageId,
    address: usize,
}

impl PageRef {
    /// # Safety
    /// For pools: the page counts this reference, and until it is released `address` is where the page's bytes begin.
    pub unsafe fn new(id: PageId, address: usize) -> Self {
        Self { id, address }
    }

    pub fn id(&self) -> PageId {
        self.id
    }

    /// Where the page begins for the executor's kernels: in host memory, or in a device's.
    pub fn address(&self) -> usize {
        self.address
    }
}

/// What a pool holds. A page counts once, whoever shares it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolUsage {
    pub pages: usize,
    pub bytes: usize,
    /// Pages that more than one sequence holds.
    pub shared_pages: usize,
    /// `None`: as much as the machine has.
    pub budget_bytes: Option<usize>,
}

/// Pages of one [`PageShape`]. A page that is given to a pool it is not of is a broken invariant: the pool panics.
pub trait KvPool: Send + Sync {
    fn shape(&self) -> PageShape;

    /// `count` pages of one reference each, their bytes uninitialised. `format` fits the shape ([`KvFormat::check`]).
    ///
    /// # Errors
    /// `OutOfMemory` when the budget or the machine has less, `DeviceLost`; then nothing was reserved.
    fn reserve(&self, format: KvFormat, count: usize) -> Result<Vec<PageRef>>;

    /// One more reference to a page.
    fn share(&self, page: &PageRef) -> PageRef;

    /// Gives a reference back; the last one frees the page.
    fn release(&self, page: PageRef);

    /// References to a page. 1 means the caller's own, and stays so: only who holds one can share it.
    fn num_holders(&self, page: &PageRef) -> usize;

    /// Makes `to`, which nobody shares, a copy of `from`, of the same format.
    ///
    /// # Errors
    /// `DeviceLost`.
    fn copy(&self, from: &PageRef, to: &mut PageRef) -> Result<()>;

    /// Appends the first `len` positions of a page to `out`, [`PageShape::exported_bytes`], in the order of [`PageShape::pieces`].
    ///
    /// # Errors
    /// `DeviceLost`; then nothing was appended.
    ///
    /// # Safety
    /// These positions were stored, and nobody writes them meanwhile.
    unsafe fn export(&self, page: &PageRef, len: usize, out: &mut Vec<u8>) -> Result<()>;

    /// A page of one reference whose first `len` positions are what [`KvPool::export`] wrote; the others are uninitialised.
    ///
    /// # Errors
    /// `ShapeMismatch` when these are not the bytes of `len` positions; `OutOfMemory` as `reserve`; `DeviceLost`.
    fn import(&self, format: KvFormat, len: usize, bytes: &[u8]) -> Result<PageRef>;

    fn usage(&self) -> PoolUsage;
}
