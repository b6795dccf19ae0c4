//! A prompt's tokens through all layers, in pieces: each reads everything before it.

use ctkvr_cuda::launch::prefill_attend::{PrefillAttend, push_tiles};
use ctkvr_cuda::launch::slot::RowPlace;
use ctkvr_cuda::{Device, DeviceBuffer};
use ctkvr_kernels::PAGE_SIZE;

use crate::Result;
use crate::line::Line;
use crate::model::{Model, page_layout};
use crate::rows::Rows;
use crate::shape::Shape;
use crate::timing::Timer;

pub fn run(shape: &'static Shape) -> Result<()> {
    let device = crate::open()?;
    let model = Model::new(&device, shape, 2)?;
    let store = Store::new(&device, shape)?;
    for chunk in shape.chunks {
        let ms = ms_of_prompt(&model, &store, *chunk)?;
        Line::of("prefill")
            .count("tokens", shape.prompt)
            .count("piece", *chunk)
            .number("ms", ms)
            .number("tokens_s", shape.prompt as f64 * 1e3 / ms)
            .print()?;
    }
    Ok(())
}

/// Pages of one sequence.
struct Store {
    _pages: DeviceBuffer<u8>,
    table: DeviceBuffer<u64>,
}

impl Store {
    fn new(device: &Device, shape: &Shape) -> Result<Self> {
        let (page_bytes, num_pages) = (shape.heads() * page_layout(shape).bytes(), shape.prompt.div_ceil(PAGE_SIZE));
        let pages = DeviceBuffer::zeroed(device, num_pages * page_bytes)?;
        let table: Vec<u64> = (0..num_pages).map(|i| pages.span().address() + (i * page_bytes) as u64).collect();
        Ok(Self { _pages: pages, table: DeviceBuffer::from_slice(device, &table)? })
    }

    fn places(&self, first: usize, count: usize) -> Vec<RowPlace> {
        let pages = self.table.span().address();
        (first..first + count).map(|position| RowPlace { pages, position: position as u32, reserved: 0 }).collect()
    }
}

/// All pieces of a prompt, one behind the other.
fn ms_of_prompt(model: &Model, store: &Store, chunk: usize) -> Result<f64> {
    let (device, shape) = (model.device, model.shape);
    assert!(shape.prompt.is_multiple_of(chunk), "a prompt of whole pieces");
    let rows = Rows::new(device, shape, &store.places(0, chunk), 1)?;
    let mut tiles = Vec::new();
    push_tiles(&mut tiles, 0..chunk, shape.group);
    let tiles = DeviceBuffer::from_slice(device, &tiles)?;
    let attend = |layer: usize| {
        let attend = PrefillAttend {
            queries: rows.queries.span(),
            places: rows.places.span(),
            tiles: tiles.span(),
            out: rows.attended.span(),
            layout: page_layout(shape),
            first_head: layer * shape.kv_heads,
            num_kv_heads: shape.kv_heads,
            group: shape.group,
        };
        attend.launch(device, device.compute())
    };
    let piece = |first: usize| {
        device.compute().copy_in(rows.places.span(), &store.places(first, chunk))?;
        model.forward(&rows, attend)
    };
    let timer = Timer::new(device)?;
    // Warms up.
    timer.ms(|| piece(0))?;
    let mut total = 0.0;
    for first in (0..shape.prompt).step_by(chunk) {
        total += timer.ms(|| piece(first))?;
    }
    Ok(total)
}
