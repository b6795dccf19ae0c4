//! The order of work of a product: which weights are widened when, and which tiles they meet.

use std::ops::Range;

use super::{BLOCK, ROW_BLOCK, STRIP_ROWS, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileWeights};
use crate::kernels::amx::{DEPTH, ROW_BYTES, ROWS, Tiles};

/// Blocks of k that are multiplied at once at most.
const BLOCKS_AT_ONCE: usize = 152;
/// Rows that meet weights before these are widened again at most.
const ROWS_AT_ONCE: usize = 1024;

const _: () = assert!(TILE_ROWS == ROWS && STRIP_ROWS == ROWS && BLOCK == DEPTH && size_of::<Tile>() == ROWS * ROW_BYTES);
const _: () = assert!((BLOCKS_AT_ONCE * BLOCK).is_multiple_of(ROW_BLOCK));

/// As [`TileLinear::multiply_strips`].
#[inline(always)]
pub(super) unsafe fn multiply_strips<T: Tiles>(
    kernels: &TileLinear,
    product: &TileProduct,
    strips: Range<usize>,
    scratch: &mut TileScratch,
) {
    let blocks = product.k / BLOCK;
    scratch.tiles.resize(scratch.tiles.len().max(2 * BLOCKS_AT_ONCE), Tile::ZERO);
    let mut tiles = T::new();
    for first_row in (0..product.rows).step_by(ROWS_AT_ONCE) {
        let rows = first_row..product.rows.min(first_row + ROWS_AT_ONCE);
        // All strips of one part of k before the next part: so much of the activations stays in the second-level cache.
        let blocks_each = blocks.div_ceil(blocks.div_ceil(BLOCKS_AT_ONCE));
        for first in (0..blocks).step_by(blocks_each) {
            let part = Part { product, blocks: first..blocks.min(first + blocks_each) };
            for strip in strips.clone().step_by(2) {
                let count = (strips.end - strip).min(2);
                // SAFETY: the caller's product; strips and rows are its own.
                unsafe {
                    for i in 0..count {
                        part.widen(kernels, strip + i, i, scratch);
                    }
                    part.multiply(&mut tiles, strip, count, rows.clone(), &scratch.tiles);
                }
            }
        }
    }
}

/// Some blocks of k.
struct Part<'a> {
    product: &'a TileProduct,
    blocks: Range<usize>,
}

impl Part<'_> {
    /// Widens a strip as the first or second of the scratch's.
    unsafe fn widen(&self, kernels: &TileLinear, strip: usize, index: usize, scratch: &mut TileScratch) {
        let TileProduct { weights, n, k, .. } = self.product;
        let Range { start, end } = self.blocks;
        let tiles = scratch.tiles[index * BLOCKS_AT_ONCE..].as_mut_ptr();
        // SAFETY: the caller's weights; there is room for the tiles of BLOCKS_AT_ONCE blocks.
        unsafe {
            match *weights {
                TileWeights::Packed { format, strips } => {
                    (kernels.widen_strip)(format, strips.add(strip * format.strip_bytes(*k)), start, end, tiles);
                }
                TileWeights::Rows { rows, row_bytes, to_f32 } => {
                    let len = (end - start) * BLOCK;
                    scratch.rows.clear();
                    scratch.rows.resize(STRIP_ROWS * len, 0.0);
                    let first = strip * STRIP_ROWS;
                    for (row, out) in (first..*n).zip(scratch.rows.chunks_exact_mut(len)) {
                        // A part starts at a block of the format.
                        let from = rows.add(row * row_bytes + start * BLOCK * row_bytes / k);
                        to_f32(from.cast(), out.as_mut_ptr(), len as i64);
                    }
                    (kernels.widen_rows)(scratch.rows.as_ptr(), len, end - start, tiles);
                }
            }
        }
    }

    /// Adds what one or two widened strips make of some rows.
    #[inline(always)]
    unsafe fn multiply<T: Tiles>(&self, tiles: &mut T, strip: usize, count: usize, rows: Range<usize>, weights: &[Tile]) {
        let TileProduct { activations, c, ldc, n, k, .. } = *self.product;
        let columns = (n - strip * STRIP_ROWS).min(count * STRIP_ROWS);
        let mut edge = [0f32; 4 * ROWS * ROWS];
        for first in rows.clone().step_by(2 * TILE_ROWS) {
            let height = (rows.end - first).min(2 * TILE_ROWS);
            // SAFETY: the caller's rows and columns.
            unsafe {
                let own = c.add(first * ldc + strip * STRIP_ROWS);
                let is_whole = height.is_multiple_of(TILE_ROWS) && columns == count * STRIP_ROWS;
                let (to, stride) = if is_whole { (own, ldc) } else { (edge.as_mut_ptr(), 2 * ROWS) };
                if !is_whole && self.blocks.start > 0 {
                    copy(own, ldc, to, stride, height, columns);
                }
                let a = activations.add(first / TILE_ROWS * (k / BLOCK) + self.blocks.start);
                let square = Square {
                    a,
                    below: a.add(k / BLOCK),
                    b: weights.as_ptr(),
                    right: weights.as_ptr().add(BLOCKS_AT_ONCE),
                    blocks: self.blocks.len(),
                    c: to.cast(),
                    stride: stride * size_of::<f32>(),
                    accumulate: self.blocks.start > 0,
                };
                match (height > TILE_ROWS, count > 1) {
                    (true, true) => square.multiply::<T, true, true>(tiles),
                    (true, false) => square.multiply::<T, true, false>(tiles),
                    (false, true) => square.multiply::<T, false, true>(tiles),
                    (false, false) => square.multiply::<T, false, false>(tiles),
                }
                if !is_whole {
                    copy(to, stride, own, ldc, height, columns);
                }
            }
        }
    }
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
    accumulate: bool,
}

impl Square {
    /// C in tiles 0 to 3, activations in 4 and 5, weights in 6 and 7.
    #[inline(always)]
    unsafe fn multiply<T: Tiles, const BELOW: bool, const RIGHT: bool>(&self, tiles: &mut T) {
        let Self { a, below, b, right, c, stride, .. } = *self;
        // SAFETY: the caller's tiles.
        unsafe {
            let (c1, c2) = (c.add(ROW_BYTES), c.add(ROWS * stride));
            if self.accumulate {
                tiles.load::<0>(c, stride);
                if RIGHT {
                    tiles.load::<1>(c1, stride);
                }
                if BELOW {
                    tiles.load::<2>(c2, stride);
                }
                if BELOW && RIGHT {
                    tiles.load::<3>(c2.add(ROW_BYTES), stride);
                }
            } else {
                tiles.zero::<0>();
                tiles.zero::<1>();
                tiles.zero::<2>();
                tiles.zero::<3>();
            }
            for t in 0..self.blocks {
                tiles.load::<6>(b.add(t).cast(), ROW_BYTES);
                tiles.load::<4>(a.add(t).cast(), ROW_BYTES);
                tiles.multiply::<0, 4, 6>();
                if RIGHT {
                    tiles.load::<7>(right.add(t).cast(), ROW_BYTES);
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
