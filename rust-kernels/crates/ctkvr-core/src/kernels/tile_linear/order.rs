//! The order of work of a product: which weights are widened when, and which tiles they meet.

use std::ops::Range;

use super::{BLOCK, ROW_BLOCK, STRIP_ROWS, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights};
use crate::kernels::amx::{DEPTH, ROW_BYTES, ROWS, Tiles};

/// Strips that are widened before any is multiplied, and blocks of k of each: at most 1 MB of tiles, half of a core's second-level cache.
const STRIPS_AT_ONCE: usize = 16;
const BLOCKS_WIDENED: usize = 64;
/// Blocks of k that are multiplied at once: two rows of tiles of the activations, 36 KB, stay in the first-level cache (of 48 KB) while
/// weights go by.
const BLOCKS_AT_ONCE: usize = 18;

const _: () = assert!(TILE_ROWS == ROWS && STRIP_ROWS == ROWS && BLOCK == DEPTH && size_of::<Tile>() == ROWS * ROW_BYTES);
const _: () = assert!((BLOCKS_WIDENED * BLOCK).is_multiple_of(ROW_BLOCK));

/// As [`TileLinear::multiply_strips`].
#[inline(always)]
pub(super) unsafe fn multiply_strips<T: Tiles>(
    kernels: &TileLinear,
    product: &TileProduct,
    strips: Range<usize>,
    scratch: &mut TileScratch,
) {
    let blocks = product.k / BLOCK;
    scratch.tiles.resize(scratch.tiles.len().max(STRIPS_AT_ONCE * BLOCKS_WIDENED.min(blocks)), Tile::ZERO);
    let mut tiles = T::new();
    for first_strip in strips.clone().step_by(STRIPS_AT_ONCE) {
        let strips = first_strip..strips.end.min(first_strip + STRIPS_AT_ONCE);
        for first_block in (0..blocks).step_by(BLOCKS_WIDENED) {
            let span = Span { product, strips: strips.clone(), blocks: first_block..blocks.min(first_block + BLOCKS_WIDENED) };
            // SAFETY: the caller's product; the scratch has room for a span.
            unsafe {
                span.widen(kernels, scratch);
                span.multiply(&mut tiles, &scratch.tiles);
            }
        }
    }
}

/// Weights that are widened before they are multiplied.
struct Span<'a> {
    product: &'a TileProduct,
    strips: Range<usize>,
    blocks: Range<usize>,
}

impl Span<'_> {
    /// Makes tiles `[strips, blocks]`.
    unsafe fn widen(&self, kernels: &TileLinear, scratch: &mut TileScratch) {
        let TileProduct { weights, n, k, .. } = self.product;
        let Range { start, end } = self.blocks;
        for (strip, tiles) in self.strips.clone().zip(scratch.tiles.chunks_exact_mut(end - start)) {
            // SAFETY: the caller's weights.
            unsafe {
                match *weights {
                    TileWeights::Packed { format, strips } => {
                        let strip = strips.add(strip * format.strip_bytes(*k));
                        (kernels.widen_strip)(format, strip, start, end, tiles.as_mut_ptr());
                    }
                    TileWeights::Rows { rows, row_bytes, to_f32 } => {
                        let len = (end - start) * BLOCK;
                        // Rows beyond n stay what they were: nobody reads their columns.
                        scratch.rows.resize(scratch.rows.len().max(STRIP_ROWS * len), 0.0);
                        let first = strip * STRIP_ROWS;
                        for (row, out) in (first..*n).zip(scratch.rows.chunks_exact_mut(len).take(STRIP_ROWS)) {
                            let from = rows.add(row * row_bytes + start * BLOCK * row_bytes / k);
                            to_f32(from.cast(), out.as_mut_ptr(), len as i64);
                        }
                        (kernels.widen_rows)(scratch.rows.as_ptr(), len, end - start, tiles.as_mut_ptr());
                    }
                }
            }
        }
    }

    /// Adds what the widened strips make of all rows.
    #[inline(always)]
    unsafe fn multiply<T: Tiles>(&self, tiles: &mut T, weights: &[Tile]) {
        let blocks = self.blocks.len();
        let blocks_each = blocks.div_ceil(blocks.div_ceil(BLOCKS_AT_ONCE));
        for row in (0..self.product.rows).step_by(2 * TILE_ROWS) {
            for first in (0..blocks).step_by(blocks_each) {
                let part = first..blocks.min(first + blocks_each);
                for index in (0..self.strips.len()).step_by(2) {
                    // SAFETY: the caller's.
                    unsafe { self.square(tiles, row, part.clone(), index, &weights[index * blocks..]) };
                }
            }
        }
    }

    /// Adds what blocks `part` of the strip of this index, and the one after it, make of up to 32 rows.
    #[inline(always)]
    unsafe fn square<T: Tiles>(&self, tiles: &mut T, row: usize, part: Range<usize>, index: usize, weights: &[Tile]) {
        let TileProduct { activations, c, ldc, rows, n, k, .. } = *self.product;
        let (first_column, num_strips) = ((self.strips.start + index) * STRIP_ROWS, (self.strips.len() - index).min(2));
        let (height, width) = ((rows - row).min(2 * TILE_ROWS), (n - first_column).min(num_strips * STRIP_ROWS));
        let is_whole = height.is_multiple_of(TILE_ROWS) && width == num_strips * STRIP_ROWS;
        let first_block = self.blocks.start + part.start;
        // SAFETY: the caller's rows and columns; the strips' tiles.
        unsafe {
            let a = activations.add(row / TILE_ROWS * (k / BLOCK) + first_block);
            let b = weights.as_ptr().add(part.start);
            let c = c.add(row * ldc + first_column);
            let start = match self.product.start {
                _ if first_block > 0 => Start::C,
                TileStart::Zero => Start::Zero,
                TileStart::Bias(bias) => Start::Row(bias.add(first_column)),
                TileStart::C => Start::C,
            };
            let square = |start: Start, c: *mut f32, ldc: usize| Square {
                a,
                below: a.wrapping_add(k / BLOCK),
                b,
                right: b.wrapping_add(self.blocks.len()),
                blocks: part.len(),
                c: c.cast(),
                stride: ldc * size_of::<f32>(),
                start,
            };
            if is_whole {
                square(start, c, ldc).multiply(tiles, height > TILE_ROWS, num_strips > 1);
            } else {
                let mut edge = Edge([0.0; 4 * ROWS * ROWS]);
                let (edge, stride) = (edge.0.as_mut_ptr(), 2 * ROWS);
                match start {
                    Start::Zero => {}
                    Start::C => copy(c, ldc, edge, stride, height, width),
                    Start::Row(row) => copy(row, 0, edge, stride, height, width),
                }
                square(Start::C, edge, stride).multiply(tiles, height > TILE_ROWS, num_strips > 1);
                copy(edge, stride, c, ldc, height, width);
            }
        }
    }
}

/// Where a square is made that is larger than what is left of C.
#[repr(align(64))]
struct Edge([f32; 4 * ROWS * ROWS]);

/// What a square is added to.
#[derive(Clone, Copy)]
enum Start {
    Zero,
    C,
    /// The same 32 values f32 (or 16) for each of its rows.
    Row(*const f32),
}

/// Up to two by two tiles of C.
struct Square {
    a: *const Tile,
    /// The 16 rows after those of `a`.
    below: *const Tile,
    b: *const Tile,
    /// The strip after that of `b`.
    right: *const Tile,
    blocks: usize,
    c: *mut u8,
    /// Bytes from a row of C to the next.
    stride: usize,
    start: Start,
}

impl Square {
    /// With the rows below, and with the strip to the right, or without.
    #[inline(always)]
    unsafe fn multiply<T: Tiles>(&self, tiles: &mut T, below: bool, right: bool) {
        // SAFETY: the contract is the caller's.
        unsafe {
            match (below, right) {
                (true, true) => self.run::<T, true, true>(tiles),
                (true, false) => self.run::<T, true, false>(tiles),
                (false, true) => self.run::<T, false, true>(tiles),
                (false, false) => self.run::<T, false, false>(tiles),
            }
        }
    }

    /// C in tiles 0 to 3, activations in 4 and 5, weights in 6 and 7.
    #[inline(always)]
    unsafe fn run<T: Tiles, const BELOW: bool, const RIGHT: bool>(&self, tiles: &mut T) {
        let Self { a, below, b, right, c, stride, .. } = *self;
        // SAFETY: the caller's tiles.
        unsafe {
            let (c1, c2) = (c.add(ROW_BYTES), c.add(ROWS * stride));
            let (from, from_stride) = match self.start {
                Start::Zero => (std::ptr::null(), 0),
                Start::C => (c.cast_const(), stride),
                Start::Row(row) => (row.cast(), 0),
            };
            if from.is_null() {
                tiles.zero::<0>();
                tiles.zero::<1>();
                tiles.zero::<2>();
                tiles.zero::<3>();
            } else {
                let from_below = from.add(ROWS * from_stride);
                tiles.load::<0>(from, from_stride);
                if RIGHT {
                    tiles.load::<1>(from.add(ROW_BYTES), from_stride);
                }
                if BELOW {
                    tiles.load::<2>(from_below, from_stride);
                }
                if BELOW && RIGHT {
                    tiles.load::<3>(from_below.add(ROW_BYTES), from_stride);
                }
            }
            for t in 0..self.blocks {
                tiles.load_once::<6>(b.add(t).cast(), ROW_BYTES);
                tiles.load::<4>(a.add(t).cast(), ROW_BYTES);
                tiles.multiply::<0, 4, 6>();
                if RIGHT {
                    tiles.load_once::<7>(right.add(t).cast(), ROW_BYTES);
                    tiles.multiply::<1, 4, 7>();
                }
                if BELOW {
                    tiles.load::<5>(below.add(t).cast(), ROW_BYTES);
                    tiles.multiply::<2, 5, 6>();
                    if RIGHT {
                        tiles.multiply::<3, 5, 7>();
                    }
                }
            }
            tiles.store::<0>(c, stride);
            if RIGHT {
                tiles.store::<1>(c1, stride);
            }
            if BELOW {
                tiles.store::<2>(c2, stride);
            }
            if BELOW && RIGHT {
                tiles.store::<3>(c2.add(ROW_BYTES), stride);
            }
        }
    }
}

/// Copies rows of f32.
unsafe fn copy(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, columns: usize) {
    for i in 0..rows {
        // SAFETY: the caller's rows.
        unsafe { std::ptr::copy_nonoverlapping(from.add(i * from_stride), to.add(i * to_stride), columns) };
    }
}
