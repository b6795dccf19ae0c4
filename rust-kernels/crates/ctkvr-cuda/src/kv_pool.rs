//! Pages of keys and values in the device's memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctkvr_core::kv::held_pages::{HeldPages, NoPage, PageMemory, WantedPages};
use ctkvr_core::kv::pool::{KvPool, PageRef, PageShape, PoolUsage};
use ctkvr_kernels::{KvFormat, PAGE_SIZE};

use crate::{Device, DeviceBuffer, Error, Span};

/// A pool of one device. Every call waits for the copies that it makes; a page that is released is free for what the device is given next.
pub struct DeviceKvPool {
    device: Arc<Device>,
    shape: PageShape,
    pages: Mutex<HeldPages<DeviceBuffer<u8>>>,
}

impl PageMemory for DeviceBuffer<u8> {
    /// The device's; the host cannot read there.
    fn address(&self) -> usize {
        self.span().address() as usize
    }

    fn num_bytes(&self) -> usize {
        self.len()
    }
}

impl DeviceKvPool {
    /// An empty pool of at most `budget_bytes`; `None`: as much as the device has.
    pub fn new(device: Arc<Device>, shape: PageShape, budget_bytes: Option<usize>) -> Self {
        Self { device, shape, pages: Mutex::new(HeldPages::new(budget_bytes)) }
    }

    /// A page's memory, which is there as long as the reference.
    pub fn memory(&self, page: &PageRef) -> Span<u8> {
        self.lock().page(page).memory.span()
    }

    fn lock(&self) -> MutexGuard<'_, HeldPages<DeviceBuffer<u8>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn format_of(&self, page: &PageRef) -> KvFormat {
        self.lock().page(page).format
    }
}

/// A copy's error. Lengths are those of pages of one format: another is a broken invariant.
fn lost(error: Error) -> ctkvr_core::Error {
    assert!(!matches!(error, Error::Length { .. }), "{error}");
    ctkvr_core::Error::DeviceLost { reason: error.to_string() }
}

impl KvPool for DeviceKvPool {
    fn shape(&self) -> PageShape {
        self.shape
    }

    fn reserve(&self, format: KvFormat, count: usize) -> ctkvr_core::Result<Vec<PageRef>> {
        let bytes = self.shape.page_bytes(format);
        let new = || {
            DeviceBuffer::new(&self.device, bytes).map_err(|error| match error {
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
        let freed = self.lock().release(&page);
        drop(freed);
    }

    fn num_holders(&self, page: &PageRef) -> usize {
        self.lock().num_holders(page)
    }

    fn copy(&self, from: &PageRef, to: &mut PageRef) -> ctkvr_core::Result<()> {
        let (from, to) = (self.memory(from), self.memory(to));
        self.device.compute().copy(to, from).map_err(lost)
    }

    unsafe fn export(&self, page: &PageRef, len: usize, out: &mut Vec<u8>) -> ctkvr_core::Result<()> {
        assert!(len <= PAGE_SIZE);
        let (memory, format) = (self.memory(page), self.format_of(page));
        let mut whole = vec![0; memory.len()];
        self.device.compute().copy_out(&mut whole, memory).map_err(lost)?;
        out.reserve(self.shape.exported_bytes(format, len));
        self.shape.pieces(format, len).for_each(|piece| out.extend_from_slice(&whole[piece]));
        Ok(())
    }

    fn import(&self, format: KvFormat, len: usize, bytes: &[u8]) -> ctkvr_core::Result<PageRef> {
        self.shape.check_exported(format, len, bytes)?;
        let mut whole = vec![0; self.shape.page_bytes(format)];
        let mut rest = bytes;
        for piece in self.shape.pieces(format, len) {
            let (source, others) = rest.split_at(piece.len());
            rest = others;
            whole[piece].copy_from_slice(source);
        }
        let page = self.reserve(format, 1)?.remove(0);
        match self.device.compute().copy_in(self.memory(&page), &whole) {
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
