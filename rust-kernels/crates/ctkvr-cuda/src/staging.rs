//! How a prompt's rows attend to keys and values in host memory: a layer's pages come to the device ahead of it, and what the rows wrote goes
//! back behind it. There is room for two layers, so that copies run beside the layer before.

use ctkvr_core::Phase;
use ctkvr_engine::Result;
use ctkvr_kernels::PAGE_SIZE;

use crate::batch_part::BatchPart;
use crate::kv_pool::DeviceKvPool;
use crate::launch::slot::RowPlace;
use crate::{Device, DeviceBuffer, Event, Span};

/// A lane's room for two layers of a part's prompts; kept from step to step.
pub(crate) struct Staging {
    layers: [Room; 2],
    /// Recorded behind a layer's attention.
    attended: Event,
}

/// Room for one layer.
struct Room {
    memory: DeviceBuffer<u8>,
    tables: DeviceBuffer<u64>,
    /// `[rows]`; those of decodes mean nothing.
    places: DeviceBuffer<RowPlace>,
    /// Recorded behind the copies of a layer that come here.
    fetched: Event,
}

/// One page of a prompt's sequence, of every layer.
struct StagedPage {
    /// The host's part, all layers.
    host: Span<u8>,
    /// Bytes of one layer of it.
    layer_bytes: usize,
    /// Of the room, before this page.
    offset: usize,
    /// Whether rows of before this step lie in it, and whether rows of this step do.
    was_written: bool,
    is_written: bool,
}

/// The prompts of a part.
pub(crate) struct Staged {
    pages: Vec<StagedPage>,
}

impl Room {
    fn new(device: &Device, bytes: usize, pages: usize, rows: usize) -> crate::Result<Self> {
        Ok(Self {
            memory: DeviceBuffer::new(device, bytes)?,
            tables: DeviceBuffer::new(device, pages)?,
            places: DeviceBuffer::new(device, rows)?,
            fetched: device.event()?,
        })
    }
}

impl Staged {
    /// Says where pages of a part's prompts go, and makes room for them; `None` where there is nothing to bring.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn prepare(device: &Device, pool: &DeviceKvPool, room: &mut Option<Staging>, part: &BatchPart) -> Result<Option<Self>> {
        let prompts = part.sequences().iter().filter(|of| of.append.phase == Phase::Prefill);
        if !pool.placement().has_hybrid_layers() || prompts.clone().next().is_none() {
            return Ok(None);
        }
        let (mut pages, mut bytes) = (Vec::new(), 0);
        for of in prompts.clone() {
            let layer_bytes = pool.placement().num_kv_heads() * pool.head_layout(of.sequence.kv.format()).bytes();
            let hosts = pool.with_pages(of.sequence.kv.pages(), |page| page.host());
            for (i, host) in hosts.into_iter().enumerate() {
                let (was_written, is_written) = (i * PAGE_SIZE < of.sequence.len, (i + 1) * PAGE_SIZE > of.sequence.len);
                pages.push(StagedPage { host, layer_bytes, offset: bytes, was_written, is_written });
                bytes += layer_bytes;
            }
        }
        let rows = part.num_rows();
        let fits = |room: &Room| room.memory.len() >= bytes && room.tables.len() >= pages.len() && room.places.len() >= rows;
        if !room.as_ref().is_some_and(|room| room.layers.iter().all(fits)) {
            *room = None;
            // A prompt comes in pieces: each has more pages than the last.
            let (bytes, count) = (bytes + bytes / 4, pages.len() + pages.len() / 4);
            let layers = [Room::new(device, bytes, count, rows)?, Room::new(device, bytes, count, rows)?];
            *room = Some(Staging { layers, attended: device.event()? });
        }
        let staged = Self { pages };
        for room in room.iter().flat_map(|room| &room.layers) {
            staged.upload(device, room, part.num_decodes(), prompts.clone())?;
        }
        Ok(Some(staged))
    }

    /// Tables and places of one room.
    fn upload<'b, 'a: 'b>(
        &self,
        device: &Device,
        room: &Room,
        decodes: usize,
        prompts: impl Iterator<Item = &'b ctkvr_engine::BatchRows<'a>>,
    ) -> crate::Result<()> {
        let first = room.memory.span().address();
        let table: Vec<u64> = self.pages.iter().map(|page| first + page.offset as u64).collect();
        // Rows of decodes, the first ones, are stored elsewhere.
        let (mut begin, mut places) = (room.tables.span().address(), vec![RowPlace::default(); decodes]);
        for of in prompts {
            let position = |i| (of.sequence.len + i) as u32;
            places.extend((0..of.append.num_rows).map(|i| RowPlace { pages: begin, position: position(i), reserved: 0 }));
            begin += (of.sequence.kv.pages().len() * size_of::<u64>()) as u64;
        }
        device.compute().copy_in(room.tables.span().part(0..table.len()), &table)?;
        device.compute().copy_in(room.places.span().part(0..places.len()), &places)
    }

    /// Brings a layer's pages, beside what the compute stream does. `layer`: counted among the host's.
    ///
    /// # Errors
    /// As copies.
    pub fn fetch(&self, device: &Device, staging: &Staging, layer: usize) -> crate::Result<()> {
        let room = &staging.layers[layer % 2];
        for page in self.pages.iter().filter(|page| page.was_written) {
            // SAFETY: pinned memory of pages that the batch holds; rows of before this step stay, and the room's last layer has gone back in
            // this stream's order.
            unsafe { device.copy().copy_in_pinned(page.in_room(room), page.of_layer(layer))? };
        }
        device.copy().record(&room.fetched)
    }

    /// Where rows of prompts write and read in a layer that was fetched, for what the compute stream is given from now on.
    ///
    /// # Errors
    /// As waits.
    pub fn places(&self, device: &Device, staging: &Staging, layer: usize, rows: usize) -> crate::Result<Span<RowPlace>> {
        let room = &staging.layers[layer % 2];
        device.compute().wait_for(&room.fetched)?;
        Ok(room.places.span().part(0..rows))
    }

    /// Takes a layer's written pages back, behind what the compute stream was given.
    ///
    /// # Errors
    /// As copies.
    pub fn give_back(&self, device: &Device, staging: &Staging, layer: usize) -> crate::Result<()> {
        let room = &staging.layers[layer % 2];
        device.compute().record(&staging.attended)?;
        device.copy().wait_for(&staging.attended)?;
        for page in self.pages.iter().filter(|page| page.is_written) {
            // SAFETY: pages that the batch's sequence has alone; nobody reads them until the step has waited for this stream.
            unsafe { device.copy().copy_out_pinned(page.of_layer(layer), page.in_room(room))? };
        }
        Ok(())
    }
}

impl StagedPage {
    fn in_room(&self, room: &Room) -> Span<u8> {
        room.memory.span().part(self.offset..self.offset + self.layer_bytes)
    }

    fn of_layer(&self, layer: usize) -> Span<u8> {
        self.host.part(layer * self.layer_bytes..(layer + 1) * self.layer_bytes)
    }
}
