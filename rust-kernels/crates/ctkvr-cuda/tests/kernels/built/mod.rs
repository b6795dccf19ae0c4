//! A head's pages, for what builds from them: on the device, or in host memory.

use ctkvr_cuda::{Device, DeviceBuffer, PinnedBuffer, Result, Span};

use crate::retrieval::head::Head;

/// Pages and their table.
pub struct Pages {
    bytes: Bytes,
    table: DeviceBuffer<u64>,
}

enum Bytes {
    Device(DeviceBuffer<u8>),
    Pinned(PinnedBuffer<u8>),
}

impl Bytes {
    fn span(&self) -> Span<u8> {
        match self {
            Self::Device(bytes) => bytes.span(),
            Self::Pinned(bytes) => bytes.span(),
        }
    }
}

impl Pages {
    /// A head's, with those of the heads beside it.
    pub fn of(device: &Device, head: &Head) -> Result<Self> {
        let bytes = DeviceBuffer::from_slice(device, &head.page_bytes())?;
        Self::with_table(device, head, Bytes::Device(bytes))
    }

    /// The same in host memory.
    pub fn on_host(device: &Device, head: &Head) -> Result<Self> {
        let from = head.page_bytes();
        let mut bytes = PinnedBuffer::new(device, from.len())?;
        bytes.as_mut_slice().copy_from_slice(&from);
        Self::with_table(device, head, Bytes::Pinned(bytes))
    }

    fn with_table(device: &Device, head: &Head, bytes: Bytes) -> Result<Self> {
        let page = head.shape().page_bytes(head.case.format) as u64;
        let addresses: Vec<u64> = (0..head.table.pages().len() as u64).map(|i| bytes.span().address() + i * page).collect();
        Ok(Self { table: DeviceBuffer::from_slice(device, &addresses)?, bytes })
    }

    /// Device address of the table.
    pub fn address(&self) -> u64 {
        self.table.span().address()
    }

    /// All pages, one behind the other.
    #[allow(dead_code, reason = "for the ledger")]
    pub fn bytes(&self) -> Span<u8> {
        self.bytes.span()
    }

    #[allow(dead_code, reason = "for the ledger")]
    pub fn table(&self) -> Span<u64> {
        self.table.span()
    }

    pub fn is_on_host(&self) -> bool {
        matches!(self.bytes, Bytes::Pinned(_))
    }

    /// Writes over a part of a page, when the device is done.
    pub fn overwrite(&self, device: &Device, at: usize, with: &[u8]) -> Result<()> {
        let part = self.bytes.span().part(at..at + with.len());
        if !self.is_on_host() {
            return device.compute().copy_in(part, with);
        }
        device.compute().wait()?;
        // SAFETY: a part of the pinned memory; nobody reads it meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(with.as_ptr(), part.address() as *mut u8, with.len()) };
        Ok(())
    }
}
