//! The bookkeeping of a pool, whatever memory its pages lie in: ids, reference counts, usage.

use std::collections::HashMap;

use ctkvr_kernels::KvFormat;

use crate::error::{Error, Result};
use crate::kv::pool::{PageId, PageRef, PoolUsage};

/// What errors call a pool.
const WHAT: &str = "the KV store";

/// Memory of one page. Dropped, it is free again.
pub trait PageMemory {
    /// Where it begins for the executor's kernels.
    fn address(&self) -> usize;

    fn num_bytes(&self) -> usize;
}

/// A page that somebody holds.
pub struct HeldPage<M> {
    pub memory: M,
    pub format: KvFormat,
    num_holders: usize,
}

/// Pages to reserve: so many of so many bytes each.
#[derive(Debug, Clone, Copy)]
pub struct WantedPages {
    pub count: usize,
    pub bytes: usize,
    pub format: KvFormat,
}

/// All pages of a pool.
pub struct HeldPages<M> {
    /// By id; `None`: free.
    pages: Vec<Option<HeldPage<M>>>,
    free: Vec<PageId>,
    usage: PoolUsage,
}

impl<M: PageMemory> HeldPages<M> {
    /// None yet, of at most `budget_bytes`.
    pub fn new(budget_bytes: Option<usize>) -> Self {
        Self { pages: Vec::new(), free: Vec::new(), usage: PoolUsage { budget_bytes, ..PoolUsage::default() } }
    }

    pub fn usage(&self) -> PoolUsage {
        self.usage
    }

    /// Changes the budget. Below what is held, nothing is freed and nothing more is reserved.
    pub fn set_budget(&mut self, budget_bytes: Option<usize>) {
        self.usage.budget_bytes = budget_bytes;
    }

    /// Adds pages of one reference each, whose memory `new` makes.
    ///
    /// # Errors
    /// `OutOfMemory` when the budget has less, or what `new` says; then nothing was added.
    pub fn reserve(
        &mut self,
        wanted: WantedPages,
        mut new: impl FnMut() -> std::result::Result<M, NoPage>,
    ) -> Result<Vec<PageRef>> {
        let WantedPages { count, bytes, format } = wanted;
        let needed = bytes.saturating_mul(count);
        let refused = |available: usize| Error::OutOfMemory { what: WHAT, needed: needed as u64, available: available as u64 };
        let available = self.usage.budget_bytes.map_or(usize::MAX, |budget| budget.saturating_sub(self.usage.bytes));
        if needed > available {
            return Err(refused(available));
        }
        let memory: std::result::Result<Vec<M>, NoPage> = (0..count).map(|_| new()).collect();
        let memory = memory.map_err(|why| match why {
            NoPage::OutOfMemory { available } => refused(available),
            NoPage::Failed(error) => error,
        })?;
        Ok(memory.into_iter().map(|memory| self.add(memory, format)).collect())
    }

    /// A page of one reference.
    fn add(&mut self, memory: M, format: KvFormat) -> PageRef {
        let id = self.free.pop().unwrap_or_else(|| {
            self.pages.push(None);
            PageId(u32::try_from(self.pages.len() - 1).expect("fewer than 2^32 pages fit in memory"))
        });
        let address = memory.address();
        self.usage.pages += 1;
        self.usage.bytes += memory.num_bytes();
        self.pages[id.0 as usize] = Some(HeldPage { memory, format, num_holders: 1 });
        // SAFETY: the page counts it, and its memory stays until nobody holds it.
        unsafe { PageRef::new(id, address) }
    }

    /// The page of a reference, which is of this pool.
    pub fn page(&self, page: &PageRef) -> &HeldPage<M> {
        let held = self.pages.get(page.id().0 as usize).and_then(Option::as_ref);
        held.filter(|held| held.memory.address() == page.address()).expect("a page of this pool")
    }

    /// As [`HeldPages::page`].
    pub fn page_mut(&mut self, page: &PageRef) -> &mut HeldPage<M> {
        let held = self.pages.get_mut(page.id().0 as usize).and_then(Option::as_mut);
        held.filter(|held| held.memory.address() == page.address()).expect("a page of this pool")
    }

    pub fn num_holders(&self, page: &PageRef) -> usize {
        self.page(page).num_holders
    }

    /// One more reference.
    pub fn share(&mut self, page: &PageRef) -> PageRef {
        self.count(page, |holders| holders + 1);
        if self.num_holders(page) == 2 {
            self.usage.shared_pages += 1;
        }
        // SAFETY: counted above.
        unsafe { PageRef::new(page.id(), page.address()) }
    }

    /// Gives a reference back. The last one's memory is returned, for the caller to drop when nobody waits for it.
    pub fn release(&mut self, page: &PageRef) -> Option<M> {
        self.count(page, |holders| holders - 1);
        match self.num_holders(page) {
            0 => {
                let freed = self.pages[page.id().0 as usize].take()?;
                self.free.push(page.id());
                self.usage.pages -= 1;
                self.usage.bytes -= freed.memory.num_bytes();
                Some(freed.memory)
            }
            1 => {
                self.usage.shared_pages -= 1;
                None
            }
            _ => None,
        }
    }

    fn count(&mut self, page: &PageRef, change: impl FnOnce(usize) -> usize) {
        self.page(page);
        if let Some(held) = &mut self.pages[page.id().0 as usize] {
            held.num_holders = change(held.num_holders);
        }
    }

    /// For tests: whether each page counts as many references as `held` has, all that there are, and the usage is what the pages say.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_integrity<'a>(&self, held: impl IntoIterator<Item = &'a PageRef>) -> std::result::Result<(), String> {
        let mut num_holders = HashMap::<PageId, usize>::new();
        held.into_iter().for_each(|page| *num_holders.entry(page.id()).or_default() += 1);
        let mut usage = PoolUsage { budget_bytes: self.usage.budget_bytes, ..PoolUsage::default() };
        for (i, page) in self.pages.iter().enumerate() {
            let held = num_holders.remove(&PageId(i as u32)).unwrap_or(0);
            let counted = page.as_ref().map_or(0, |page| page.num_holders);
            if counted != held {
                return Err(format!("page {i} counts {counted} references, {held} are held"));
            }
            if page.is_some() == self.free.contains(&PageId(i as u32)) {
                return Err(format!("page {i} is both free and held, or neither"));
            }
            usage.pages += usize::from(page.is_some());
            usage.bytes += page.as_ref().map_or(0, |page| page.memory.num_bytes());
            usage.shared_pages += usize::from(counted > 1);
        }
        if let Some(id) = num_holders.keys().next() {
            return Err(format!("page {} is held and unknown", id.0));
        }
        if usage != self.usage {
            return Err(format!("the pages say {usage:?}, the usage is {:?}", self.usage));
        }
        Ok(())
    }
}

/// Why there is no other page.
pub enum NoPage {
    /// Bytes that there are.
    OutOfMemory {
        available: usize,
    },
    Failed(Error),
}
