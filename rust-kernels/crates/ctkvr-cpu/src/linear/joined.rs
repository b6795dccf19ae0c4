//! Layers of the same activations, multiplied as one.

use std::ops::Range;

use ctkvr_kernels::{STRIP_ROWS, Tile, TileLinear, TileScratch, activation_bytes};

use crate::linear::encoding::Encoding;
use crate::linear::layer::{Linear, Target};

/// Bytes of activations that meet one strip after another: they stay in a core's own cache.
const ROWS_BYTES: usize = 256 << 10;
/// Products that a thread takes at once at most: some tens of microseconds.
const PRODUCTS_AT_ONCE: usize = 4 << 20;
/// Bytes of weights that it does.
const BYTES_AT_ONCE: usize = 128 << 10;
/// Bytes of the next layers' weights that a thread asks for before they can be multiplied: what memory answers with while it waits.
const BYTES_AHEAD: usize = 8 << 10;

/// Strips that are multiplied on tiles together, and how many of these a thread takes at once.
const STRIPS_OF_TILES: usize = 2;
const TILES_AT_ONCE: usize = 8;

/// The rows of a product, those of decodes first, and where they are.
pub(crate) struct Rows<'a> {
    pub num_decodes: usize,
    pub num_prompts: usize,
    /// Rounded rows, for each encoding: of decodes, or all where prompts are not multiplied on tiles.
    pub rounded: &'a [*const u8],
    /// Those of prompts, where they are.
    pub tiles: *const Tile,
    /// One for each layer.
    pub targets: &'a [Target],
}

/// One thread's memory.
#[derive(Default)]
pub(crate) struct LinearScratch {
    /// 16 values for each row that meets a strip at once.
    pub sums: Vec<f32>,
    pub tiles: TileScratch,
}

/// Layers of the same activations.
pub(crate) struct Joined {
    pub layers: Vec<Linear>,
    /// Different ones of the layers.
    pub encodings: Vec<Encoding>,
    /// Which of them each layer takes.
    encoding_of: Vec<usize>,
    pub k: usize,
    num_strips: usize,
    /// For rows of prompts, where all layers have them.
    pub tiles: Option<&'static TileLinear>,
}

impl Joined {
    /// Of at least one layer.
    pub fn new(layers: Vec<Linear>) -> Self {
        let mut encodings: Vec<Encoding> = Vec::new();
        let mut encoding_of = Vec::new();
        for layer in &layers {
            let place = encodings.iter().position(|encoding| encoding.is(&layer.encoding));
            encoding_of.push(place.unwrap_or(encodings.len()));
            if place.is_none() {
                encodings.push(layer.encoding);
            }
        }
        let (k, num_strips) = (layers[0].k, layers.iter().map(Linear::num_strips).sum());
        let tiles = layers[0].tiles.map(|(kernels, _)| kernels).filter(|_| layers.iter().all(|layer| layer.tiles.is_some()));
        Self { layers, encodings, encoding_of, k, num_strips, tiles }
    }

    /// All rows as decodes are.
    pub fn without_tiles(self) -> Self {
        Self { tiles: None, ..self }
    }

    /// Rows that meet a strip at once.
    pub fn rows_at_once(&self) -> usize {
        (ROWS_BYTES / activation_bytes(self.k)).next_multiple_of(8)
    }

    /// Units of a product, and how many a thread takes at once. With prompts on tiles: pairs of strips, for all rows; otherwise strips, those of
    /// all layers in turn, for one block of rows after another.
    pub fn units(&self, num_decodes: usize, num_prompts: usize) -> (usize, usize) {
        if num_prompts > 0 && self.tiles.is_some() {
            return (self.layers.iter().map(|layer| layer.num_strips().div_ceil(STRIPS_OF_TILES)).sum(), TILES_AT_ONCE);
        }
        let num_rows = num_decodes + num_prompts;
        let products = num_rows.min(self.rows_at_once()) * STRIP_ROWS * self.k;
        let most = (PRODUCTS_AT_ONCE / products.max(1)).min(BYTES_AT_ONCE / self.layers[0].strip_bytes().max(1)).max(1);
        (num_rows.div_ceil(self.rows_at_once()) * self.num_strips, most)
    }

    /// Does some of those units.
    ///
    /// # Safety
    /// `rows` are all there, rounded; nobody else has these units.
    pub unsafe fn multiply(&self, rows: &Rows, units: Range<usize>, scratch: &mut LinearScratch) {
        if rows.num_prompts > 0 && self.tiles.is_some() {
            // SAFETY: the caller's.
            return unsafe { self.multiply_on_tiles(rows, units, scratch) };
        }
        let num_rows = rows.num_decodes + rows.num_prompts;
        for unit in units {
            let first_row = unit / self.num_strips * self.rows_at_once();
            let (layer, strip) = self.strip(unit % self.num_strips);
            // SAFETY: the caller's.
            unsafe { self.multiply_strip(rows, first_row..num_rows, layer, strip, &mut scratch.sums) };
        }
    }

    /// One strip times as many of these rows as meet it at once. Returns how many.
    unsafe fn multiply_strip(&self, rows: &Rows, of: Range<usize>, layer: usize, strip: usize, sums: &mut [f32]) -> usize {
        let block = of.start..of.end.min(of.start + self.rows_at_once());
        let num_rows = block.len();
        let (activations, target) = (rows.rounded[self.encoding_of[layer]], rows.targets[layer]);
        // SAFETY: the caller's.
        unsafe { self.layers[layer].multiply(activations, block, strip, target, sums.as_mut_ptr()) };
        num_rows
    }

    /// # Safety
    /// As [`Joined::multiply`].
    unsafe fn multiply_on_tiles(&self, rows: &Rows, units: Range<usize>, scratch: &mut LinearScratch) {
        let mut first_unit = 0;
        for (i, layer) in self.layers.iter().enumerate() {
            let own = units.start.max(first_unit)..units.end.min(first_unit + layer.num_strips().div_ceil(STRIPS_OF_TILES));
            if !own.is_empty() {
                let [first, end] = [own.start, own.end].map(|unit| (unit - first_unit) * STRIPS_OF_TILES);
                let strips = first..end.min(layer.num_strips());
                // SAFETY: the caller's; rows of prompts are behind those of decodes.
                unsafe {
                    let target = Target { c: rows.targets[i].c.add(rows.num_decodes * layer.n), ..rows.targets[i] };
                    layer.multiply_on_tiles(rows.tiles, rows.num_prompts, strips.clone(), target, &mut scratch.tiles);
                    for strip in strips {
                        let mut done = 0;
                        while done < rows.num_decodes {
                            done += self.multiply_strip(rows, done..rows.num_decodes, i, strip, &mut scratch.sums);
                        }
                    }
                }
            }
            first_unit += layer.num_strips().div_ceil(STRIPS_OF_TILES);
        }
    }

    /// Which layer's strip is the i-th of all.
    fn strip(&self, mut i: usize) -> (usize, usize) {
        let mut layer = 0;
        while i >= self.layers[layer].num_strips() {
            i -= self.layers[layer].num_strips();
            layer += 1;
        }
        (layer, i)
    }

    /// The first of a thread's own weights of a product over few rows.
    pub fn first_of(&self, thread: usize, num_threads: usize) -> (*const u8, usize) {
        let (layer, strip) = self.strip((self.num_strips * thread / num_threads).min(self.num_strips - 1));
        let layer = &self.layers[layer];
        let bytes = BYTES_AHEAD.min((layer.num_strips() - strip) * layer.strip_bytes());
        // SAFETY: the strip is the weight's.
        (unsafe { layer.weights.add(strip * layer.strip_bytes()) }, bytes)
    }
}
