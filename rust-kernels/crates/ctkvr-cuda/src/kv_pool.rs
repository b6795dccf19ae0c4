//! Pages of keys and values in the device's memory, and in pinned memory of the host's where layers are placed there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctkvr_core::kv::held_pages::{HeldPages, NoPage, WantedPages};
use ctkvr_core::kv::pool::{KvPool, PageRef, PageShape, PoolUsage};
use ctkvr_kernels::{KvFormat, PAGE_SIZE, PageLayout};

use crate::placed_page::{Copies, PageBytes, PlacedPage};
use crate::placement::Placement;
use crate::{Device, Error, Result, Span};

/// What a pool is for.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    pub shape: PageShape,
    pub placement: Placement,
    /// The most bytes of the device that pages may take; `None` = as many as it has. Copies of pages in host memory are not counted.
    pub device_budget_bytes: Option<usize>,
}

/// One allocation for a page and side. `PageRef::address` names a page; kernels are given [`DeviceKvPool::memory`] and its kin.
///
/// Copies go through the device's compute stream: behind the steps that it was given, and beside none.
pub struct DeviceKvPool {
    options: PoolOptions,
    device: Arc<Device>,
    pages: Mutex<HeldPages<PlacedPage>>,
}

impl DeviceKvPool {
    pub fn new(device: Arc<Device>, options: PoolOptions) -> Self {
        let PoolOptions { shape, placement, device_budget_bytes } = options;
        // The budget is for the device's part: whole pages are as much more.
        let on_device = placement.device_heads();
        let scaled = |bytes: usize| (bytes as u128 * shape.num_heads as u128).checked_div(on_device as u128);
        let budget = device_budget_bytes.and_then(scaled).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Self { options, device, pages: Mutex::new(HeldPages::new(budget)) }
    }

    pub(crate) fn placement(&self) -> Placement {
        self.options.placement
    }

    fn lock(&self) -> MutexGuard<'_, HeldPages<PlacedPage>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self, format: KvFormat) -> PageBytes {
        let head = self.options.shape.head_layout(format).bytes();
        let device = self.placement().device_heads() * head;
        PageBytes { device, host: self.placement().host_heads().len() * head, head }
    }

    /// The bytes of a page that are on the device.
    pub(crate) fn memory(&self, page: &PageRef) -> Span<u8> {
        self.lock().page(page).memory.device()
    }

    /// Looks at some pages.
    pub(crate) fn with_pages<T>(&self, pages: &[PageRef], look: impl Fn(&PlacedPage) -> T) -> Vec<T> {
        let mut seen = Vec::with_capacity(pages.len());
        self.extend(&mut seen, pages, look);
        seen
    }

    /// Adds what is seen of some pages.
    pub(crate) fn extend<T>(&self, seen: &mut Vec<T>, pages: &[PageRef], look: impl Fn(&PlacedPage) -> T) {
        let held = self.lock();
        seen.extend(pages.iter().map(|page| look(&held.page(page).memory)));
    }

    /// Where the host's parts of pages begin.
    pub(crate) fn host_pages(&self, pages: &[PageRef]) -> Vec<*const u8> {
        self.with_pages(pages, |page| page.host().address() as *const u8)
    }

    pub(crate) fn head_layout(&self, format: KvFormat) -> PageLayout {
        self.options.shape.head_layout(format)
    }

    /// Sees to it that copies of a page are on the device.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub(crate) fn add_copies(&self, page: &PageRef, wanted: Copies) -> Result<()> {
        self.lock().page_mut(page).memory.add_copies(&self.device, wanted)
    }

    /// Changes a page's copies.
    pub(crate) fn change(&self, page: &PageRef, change: impl FnOnce(&mut PlacedPage)) {
        change(&mut self.lock().page_mut(page).memory);
    }

    fn format_of(&self, page: &PageRef) -> KvFormat {
        self.lock().page(page).format
    }

    /// All bytes of a page, when everything that the device was given is done.
    fn read(&self, page: &PageRef) -> Result<Vec<u8>> {
        let (memory, host) = {
            let held = self.lock();
            let page = &held.page(page).memory;
            (page.device(), page.host())
        };
        let mut whole = vec![0; memory.len() + host.len()];
        self.device.compute().copy_out(&mut whole[..memory.len()], memory)?;
        // SAFETY: the pool's pinned memory, which the reference keeps; the device writes nothing more to it.
        unsafe { std::ptr::copy_nonoverlapping(host.address() as *const u8, whole[memory.len()..].as_mut_ptr(), host.len()) };
        Ok(whole)
    }

    /// Overwrites all bytes of a page that nobody shares and nothing in flight uses.
    fn write(&self, page: &PageRef, whole: &[u8]) -> Result<()> {
        let (memory, host) = {
            let mut held = self.lock();
            let page = &mut held.page_mut(page).memory;
            page.drop_copies();
            (page.device(), page.host())
        };
        self.device.compute().copy_in(memory, &whole[..memory.len()])?;
        // SAFETY: as above; nobody else has the page.
        unsafe { std::ptr::copy_nonoverlapping(whole[memory.len()..].as_ptr(), host.address() as *mut u8, host.len()) };
        Ok(())
    }
}

/// A copy's error. Lengths are those of pages of one format: another is a broken invariant.
fn lost(error: Error) -> ctkvr_core::Error {
    assert!(!matches!(error, Error::Length { .. }), "{error}");
    ctkvr_core::Error::DeviceLost { reason: error.to_string() }
}

impl KvPool for DeviceKvPool {
    fn shape(&self) -> PageShape {
        self.options.shape
    }

    fn reserve(&self, format: KvFormat, count: usize) -> ctkvr_core::Result<Vec<PageRef>> {
        let parts = self.bytes(format);
        let bytes = parts.device + parts.host;
        let new = || {
            PlacedPage::new(&self.device, parts).map_err(|error| match error {
                Error::OutOfMemory { available, .. } => NoPage::OutOfMemory { available },
                error => NoPage::Failed(lost(error)),
            })
        };
        self.lock().reserve(WantedPages { count, bytes, format }, new)
    }

    fn share(&self, page: &PageRef) -> PageRef {
        self.lock().share(page)
    }

    fn release(&self, page: PageRef) {
        // Freed when the lock is: freeing waits for the device.
        let _freed = self.lock().release(&page);
    }

    fn num_holders(&self, page: &PageRef) -> usize {
        self.lock().num_holders(page)
    }

    fn copy(&self, from: &PageRef, to: &mut PageRef) -> ctkvr_core::Result<()> {
        if self.placement().has_hybrid_layers() {
            return self.read(from).and_then(|whole| self.write(to, &whole)).map_err(lost);
        }
        let (from, to) = (self.memory(from), self.memory(to));
        self.device.compute().copy(to, from).map_err(lost)
    }

    unsafe fn export(&self, page: &PageRef, len: usize, out: &mut Vec<u8>) -> ctkvr_core::Result<()> {
        assert!(len <= PAGE_SIZE);
        let format = self.format_of(page);
        let whole = self.read(page).map_err(lost)?;
        out.reserve(self.options.shape.exported_bytes(format, len));
        self.options.shape.pieces(format, len).for_each(|piece| out.extend_from_slice(&whole[piece]));
        Ok(())
    }

    fn import(&self, format: KvFormat, len: usize, bytes: &[u8]) -> ctkvr_core::Result<PageRef> {
        self.options.shape.check_exported(format, len, bytes)?;
        let mut whole = vec![0; self.options.shape.page_bytes(format)];
        let mut rest = bytes;
        for piece in self.options.shape.pieces(format, len) {
            let (source, others) = rest.split_at(piece.len());
            rest = others;
            whole[piece].copy_from_slice(source);
        }
        let page = self.reserve(format, 1)?.remove(0);
        match self.write(&page, &whole) {
            Ok(()) => Ok(page),
            Err(error) => {
                self.release(page);
                Err(lost(error))
            }
        }
    }

    fn usage(&self) -> PoolUsage {
        self.lock().usage()
    }
}
