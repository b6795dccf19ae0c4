//! A head's pages on the device, for what builds from them.

use ctkvr_cuda::{Device, DeviceBuffer, Result};

use crate::retrieval::head::Head;

/// Pages and their table.
pub struct Pages {
    bytes: DeviceBuffer<u8>,
    table: DeviceBuffer<u64>,
}

impl Pages {
    /// A head's, with those of the heads beside it.
    pub fn of(device: &Device, head: &Head) -> Result<Self> {
        let bytes = DeviceBuffer::from_slice(device, &head.page_bytes())?;
        let page = head.shape().page_bytes(head.case.format) as u64;
        let addresses: Vec<u64> = (0..head.table.pages().len() as u64).map(|i| bytes.span().address() + i * page).collect();
        Ok(Self { table: DeviceBuffer::from_slice(device, &addresses)?, bytes })
    }

    /// Device address of the table.
    pub fn address(&self) -> u64 {
        self.table.span().address()
    }

    /// Writes over a part of a page.
    pub fn overwrite(&self, device: &Device, at: usize, with: &[u8]) -> Result<()> {
        device.compute().copy_in(self.bytes.span().part(at..at + with.len()), with)
    }
}
