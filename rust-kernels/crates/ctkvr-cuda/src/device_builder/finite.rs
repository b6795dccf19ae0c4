//! Names a key that is not finite: the kernels only say that there is one.

use ctkvr_core::Error;
use ctkvr_kernels::{KvFormat, KvSide, PAGE_SIZE};
use half::f16;

use super::room::read;
use super::{DeviceBuilder, HeadBuild};
use crate::{Result, Span};

impl DeviceBuilder<'_> {
    /// The first of the head's region, by copies of its pages. Counted as the CPU's builds do.
    ///
    /// # Errors
    /// Those of the driver.
    pub(super) fn key_that_is_not_finite(&self, head: &HeadBuild) -> Result<Error> {
        let (region, d) = (&head.plan.region, self.layout.head_dim);
        let table = read(self.device, Span::<u64>::at(self.pages, region.end.div_ceil(PAGE_SIZE)))?;
        let mut index = 0;
        'all: for (number, page) in table.iter().enumerate() {
            let bytes = self.bytes_of(page.wrapping_add(self.head_offset(head)))?;
            let first = number * PAGE_SIZE;
            for position in first.max(region.start)..(first + PAGE_SIZE).min(region.end) {
                for i in 0..d {
                    if !self.key(&bytes, position - first, i).is_finite() {
                        index = (position - region.start) * d + i;
                        break 'all;
                    }
                }
            }
        }
        Ok(Error::NonFinite { op: "buildIndex", what: "keys", index })
    }

    /// A head's part of a page.
    fn bytes_of(&self, address: u64) -> Result<Vec<u8>> {
        if !self.on_host {
            return read(self.device, Span::<u8>::at(address, self.layout.bytes()));
        }
        // SAFETY: a head's part of a page of the sequence, in this process's memory; what the device was given is done, and nobody writes it.
        Ok(unsafe { std::slice::from_raw_parts(address as *const u8, self.layout.bytes()) }.to_vec())
    }

    /// Value i of a key of a page, as the kernels take it.
    fn key(&self, page: &[u8], slot: usize, i: usize) -> f16 {
        let (row, scales) = self.layout.offsets(KvSide::Keys, slot);
        match self.layout.format {
            KvFormat::F16 => f16::from_le_bytes([page[row + 2 * i], page[row + 2 * i + 1]]),
            KvFormat::Q8 => {
                let at = scales + i / 32 * 4;
                let scale = f32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
                f16::from_f32(f32::from(page[row + i] as i8) * scale)
            }
        }
    }
}
