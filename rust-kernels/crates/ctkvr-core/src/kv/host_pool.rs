//! A pool in host memory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ctkvr_kernels::{KvFormat, PAGE_SIZE};

use crate::error::{Error, Result};
use crate::kv::page_memory::Block;
use crate::kv::pool::{KvPool, PageId, PageRef, PageShape, PoolUsage};

/// What errors call a pool.
const WHAT: &str = "the KV store";

/// Pages in huge pages of host memory. A freed page goes back at once: to a slab that others have pages in, else to the system, where
/// another model or program may need it. Taking it again costs what its first use did, little beside computing what it will hold.
pub struct HostKvPool {
    shape: PageShape,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By id; `None`: free.
    pages: Vec<Option<Page>>,
    free: Vec<PageId>,
    usage: PoolUsage,
}

struct Page {
    memory: Block,
    format: KvFormat,
    num_holders: usize,
}

impl State {
    /// A page of one reference.
    fn add(&mut self, memory: Block, format: KvFormat) -> PageRef {
        let id = self.free.pop().unwrap_or_else(|| {
            self.pages.push(None);
            PageId(u32::try_from(self.pages.len() - 1).expect("fewer than 2^32 pages fit in memory"))
        });
        let address = memory.start() as usize;
        self.usage.pages += 1;
        self.usage.bytes += memory.num_bytes();
        self.pages[id.0 as usize] = Some(Page { memory, format, num_holders: 1 });
        // SAFETY: the page counts it, and its memory stays until nobody holds it.
        unsafe { PageRef::new(id, address) }
    }

    /// The page of a reference, which is of this pool.
    fn page(&mut self, page: &PageRef) -> &mut Page {
        let held = self.pages.get_mut(page.id().0 as usize).and_then(Option::as_mut);
        held.filter(|held| held.memory.start() as usize == page.address()).expect("a page of this pool")
    }
}

impl HostKvPool {
    /// An empty pool of at most `budget_bytes`; `None`: as much as the machine has.
    pub fn new(shape: PageShape, budget_bytes: Option<usize>) -> Self {
        let usage = PoolUsage { budget_bytes, ..PoolUsage::default() };
        Self { shape, state: Mutex::new(State { usage, ..State::default() }) }
    }

    /// Changes the budget. Below what is held, nothing is freed and nothing more is reserved.
    pub fn set_budget(&self, budget_bytes: Option<usize>) {
        self.lock().usage.budget_bytes = budget_bytes;
    }

    /// For tests: whether each page counts as many references as `held` has, all that there are, and the usage is what the pages say.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_integrity<'a>(&self, held: impl IntoIterator<Item = &'a PageRef>) -> std::result::Result<(), String> {
        let mut num_holders = HashMap::<PageId, usize>::new();
        held.into_iter().for_each(|page| *num_holders.entry(page.id()).or_default() += 1);
        let state = self.lock();
        let mut usage = PoolUsage { budget_bytes: state.usage.budget_bytes, ..PoolUsage::default() };
        for (i, page) in state.pages.iter().enumerate() {
            let held = num_holders.remove(&PageId(i as u32)).unwrap_or(0);
            let counted = page.as_ref().map_or(0, |page| page.num_holders);
            if counted != held {
                return Err(format!("page {i} counts {counted} references, {held} are held"));
            }
            if page.is_some() == state.free.contains(&PageId(i as u32)) {
                return Err(format!("page {i} is both free and held, or neither"));
            }
            usage.pages += usize::from(page.is_some());
            usage.bytes += page.as_ref().map_or(0, |page| page.memory.num_bytes());
            usage.shared_pages += usize::from(counted > 1);
        }
        if let Some(id) = num_holders.keys().next() {
            return Err(format!("page {} is held and unknown", id.0));
        }
        if usage != state.usage {
            return Err(format!("the pages say {usage:?}, the usage is {:?}", state.usage));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let needed = bytes.saturating_mul(count);
        let refused = |available: usize| Error::OutOfMemory { what: WHAT, needed: needed as u64, available: available as u64 };
        let mut state = self.lock();
        let available = state.usage.budget_bytes.map_or(usize::MAX, |budget| budget.saturating_sub(state.usage.bytes));
        if needed > available {
            return Err(refused(available));
        }
        let blocks: Option<Vec<Block>> = (0..count).map(|_| Block::new(bytes)).collect();
        let blocks = blocks.ok_or_else(|| refused(0))?;
        Ok(blocks.into_iter().map(|memory| state.add(memory, format)).collect())
    }

    fn share(&self, page: &PageRef) -> PageRef {
        let mut state = self.lock();
        let held = state.page(page);
        held.num_holders += 1;
        if held.num_holders == 2 {
            state.usage.shared_pages += 1;
        }
        // SAFETY: counted above.
        unsafe { PageRef::new(page.id(), page.address()) }
    }

    fn release(&self, page: PageRef) {
        let mut state = self.lock();
        let held = state.page(&page);
        held.num_holders -= 1;
        match held.num_holders {
            0 => {
                let freed = state.pages[page.id().0 as usize].take();
                state.free.push(page.id());
                state.usage.pages -= 1;
                state.usage.bytes -= freed.as_ref().map_or(0, |freed| freed.memory.num_bytes());
                // The system takes its time to unmap: nobody waits for it.
                drop(state);
                drop(freed);
            }
            1 => state.usage.shared_pages -= 1,
            _ => {}
        }
    }

    fn num_holders(&self, page: &PageRef) -> usize {
        self.lock().page(page).num_holders
    }

    fn copy(&self, from: &PageRef, to: &mut PageRef) {
        let bytes = self.bytes_of(from);
        assert!(bytes == self.bytes_of(to) && self.num_holders(to) == 1, "a page of the same size that nobody shares");
        // SAFETY: two pages of this size, which their references keep; nobody else has `to`.
        unsafe { std::ptr::copy_nonoverlapping(from.address() as *const u8, to.address() as *mut u8, bytes) };
    }

    unsafe fn export(&self, page: &PageRef, len: usize, out: &mut Vec<u8>) {
        assert!(len <= PAGE_SIZE);
        let format = self.lock().page(page).format;
        out.reserve(self.shape.exported_bytes(format, len));
        for piece in self.shape.pieces(format, len) {
            // SAFETY: the piece is in the page, which the reference keeps; the caller vouches for its content.
            out.extend_from_slice(unsafe {
                std::slice::from_raw_parts((page.address() as *const u8).add(piece.start), piece.len())
            });
        }
    }

    fn import(&self, format: KvFormat, len: usize, bytes: &[u8]) -> Result<PageRef> {
        let expected = self.shape.exported_bytes(format, len);
        if len > PAGE_SIZE || bytes.len() != expected {
            return Err(Error::ShapeMismatch { op: "import", what: "a KV page", expected, actual: bytes.len() });
        }
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
        self.lock().usage
    }
}
