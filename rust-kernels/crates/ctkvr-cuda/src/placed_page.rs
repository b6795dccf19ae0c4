//! One page of keys and values where its layers are: on the device, in host memory, and what of the latter is on the device as well.
//!
//! Decoded tokens read some of the host's positions on the device: sinks and window of every head, and all keys of the heads that score all
//! of them. So a page has copies there: of all heads as long as it is outside of a region (`recent`), of single heads afterwards. A decoded
//! row is written to `recent` and to the host's part; a prompt's rows go to the host's part alone, and `recent` is made anew.

use ctkvr_core::kv::held_pages::PageMemory;

use crate::{Device, DeviceBuffer, PinnedBuffer, Result, Span};

/// Bytes of a page's parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageBytes {
    pub device: usize,
    pub host: usize,
    /// Of one head.
    pub head: usize,
}

/// What of a page's host part is to be on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Copies<'a> {
    /// All heads.
    Recent,
    /// These of them, counted among the host's, ascending.
    Heads(&'a [usize]),
}

pub(crate) struct PlacedPage {
    bytes: PageBytes,
    device: DeviceBuffer<u8>,
    host: Option<PinnedBuffer<u8>>,
    recent: Option<DeviceBuffer<u8>>,
    /// By head, counted among the host's, ascending.
    heads: Vec<(usize, DeviceBuffer<u8>)>,
}

impl PageMemory for PlacedPage {
    fn address(&self) -> usize {
        let named = if self.bytes.device > 0 { self.device() } else { self.host() };
        named.address() as usize
    }

    fn num_bytes(&self) -> usize {
        self.bytes.device + self.bytes.host
    }
}

impl PlacedPage {
    /// Uninitialised, without copies.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn new(device: &Device, bytes: PageBytes) -> Result<Self> {
        let host = if bytes.host > 0 { Some(PinnedBuffer::new(device, bytes.host)?) } else { None };
        Ok(Self { bytes, device: DeviceBuffer::new(device, bytes.device)?, host, recent: None, heads: Vec::new() })
    }

    pub fn device(&self) -> Span<u8> {
        self.device.span()
    }

    /// The host's part, which has one address on both sides; empty where every layer is on the device.
    pub fn host(&self) -> Span<u8> {
        self.host.as_ref().map_or(Span::EMPTY, PinnedBuffer::span)
    }

    /// Where the device finds all of the host's heads: the copy, or over the bus.
    pub fn nearest(&self) -> u64 {
        self.recent.as_ref().map_or(self.host(), DeviceBuffer::span).address()
    }

    /// Where the device finds one of the host's heads.
    pub fn nearest_head(&self, head: usize) -> u64 {
        match self.heads.binary_search_by_key(&head, |(head, _)| *head) {
            Ok(i) if self.recent.is_none() => self.heads[i].1.span().address(),
            _ => self.nearest() + (head * self.bytes.head) as u64,
        }
    }

    /// Makes the copies that are asked for and not there, in the compute stream's order. Others stay.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn add_copies(&mut self, device: &Device, wanted: Copies) -> Result<()> {
        let host = self.host();
        match wanted {
            Copies::Recent if self.recent.is_none() => {
                let copy = DeviceBuffer::new(device, self.bytes.host)?;
                // SAFETY: rows are written to it by this stream, or by the host when all of it is done; it lives until the stream was waited for.
                unsafe { device.compute().copy_in_pinned(copy.span(), host)? };
                self.recent = Some(copy);
            }
            Copies::Recent => {}
            // Every page of a region, every token: mostly all are there.
            Copies::Heads(heads) if self.heads.iter().map(|(head, _)| head).eq(heads) => {}
            Copies::Heads(heads) => {
                for head in heads {
                    let Err(place) = self.heads.binary_search_by_key(head, |(head, _)| *head) else { continue };
                    let copy = DeviceBuffer::new(device, self.bytes.head)?;
                    // SAFETY: as above.
                    unsafe {
                        device
                            .compute()
                            .copy_in_pinned(copy.span(), host.part(head * self.bytes.head..(head + 1) * self.bytes.head))?
                    };
                    self.heads.insert(place, (*head, copy));
                }
            }
        }
        Ok(())
    }

    /// Drops the copy of all heads: nobody's sinks or window are here any more.
    pub fn drop_recent(&mut self) {
        self.recent = None;
    }

    /// Drops every copy: the host's part is written to.
    pub fn drop_copies(&mut self) {
        self.recent = None;
        self.heads.clear();
    }
}
