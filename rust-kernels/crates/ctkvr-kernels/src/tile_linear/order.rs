//! The order of work of a product: which weights are widened when, and which tiles they meet.

use std::ops::Range;

use super::{BLOCK, ROW_BLOCK, STRIP_ROWS, Sums, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights};
use crate::amx::{DEPTH, ROW_BYTES, ROWS, Tiles};

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
    scratch.sums.resize(STRIPS_AT_ONCE.div_ceil(2), Sums::ZERO);
    let mut tiles = T::new();
    let strips_each = strips.len().div_ceil(strips.len().div_ceil(STRIPS_AT_ONCE).max(1)).next_multiple_of(2);
    for first_strip in strips.clone().step_by(strips_each.max(2)) {
        let strips = first_strip..strips.end.min(first_strip + strips_each);
        for first_block in (0..blocks).step_by(BLOCKS_WIDENED) {
            let span = Span { product, strips: strips.clone(), blocks: first_block..blocks.min(first_block + BLOCKS_WIDENED) };
            // SAFETY: the caller's product; the scratch has room for a span.
            unsafe {
                span.widen(kernels, scratch);
                span.multiply(&mut tiles, &scratch.tiles, &mut scratch.sums);
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
    unsafe fn multiply<T: Tiles>(&self, tiles: &mut T, weights: &[Tile], sums: &mut [Sums]) {
        let blocks = self.blocks.len();
        let blocks_each = blocks.div_ceil(blocks.div_ceil(BLOCKS_AT_ONCE));
        for row in (0..self.product.rows).step_by(2 * TILE_ROWS) {
            for first in (0..blocks).step_by(blocks_each) {
                let part = first..blocks.min(first + blocks_each);
                for (index, sums) in (0..self.strips.len()).step_by(2).zip(&mut *sums) {
                    // SAFETY: the caller's.
                    unsafe { self.square(tiles, row, part.clone(), index, &weights[index * blocks..], sums) };
                }
            }
        }
    }

    /// The share that the pair of strips of this index has in asking for the activations which come after those of blocks `part`: the next
    /// blocks of these rows, or the first ones of the next rows. As many blocks, so that their lines are dealt out evenly.
    fn ahead(&self, row: usize, part: &Range<usize>, index: usize) -> Ahead {
        let (pairs, row_blocks) = (self.strips.len().div_ceil(2), self.product.k / BLOCK);
        let (row, block) = if part.end == self.blocks.len() { (row + 2 * TILE_ROWS, 0) } else { (row, part.end) };
        let lines = (2 * ROWS).div_ceil(pairs);
        let line = index / 2 * part.len() * lines;
        let (below, line) = (line / (part.len() * ROWS), line % (part.len() * ROWS));
        let tile = (row / TILE_ROWS + below) * row_blocks + self.blocks.start + block;
        Ahead { start: self.product.activations.wrapping_add(tile).cast::<u8>().wrapping_add(line * ROW_BYTES), lines }
    }

    /// Adds what blocks `part` of the strip of this index, and the one after it, make of up to 32 rows. Between the parts of a span, sums are
    /// kept near: C itself is far, and its lines are fetched before they are written.
    #[inline(always)]
    unsafe fn square<T: Tiles>(
        &self,
        tiles: &mut T,
        row: usize,
        part: Range<usize>,
        index: usize,
        weights: &[Tile],
        sums: &mut Sums,
    ) {
        let TileProduct { activations, c, ldc, rows, n, k, .. } = *self.product;
        let (first_column, num_strips) = ((self.strips.start + index) * STRIP_ROWS, (self.strips.len() - index).min(2));
        let (height, width) = ((rows - row).min(2 * TILE_ROWS), (n - first_column).min(num_strips * STRIP_ROWS));
        let is_whole = height.is_multiple_of(TILE_ROWS) && width == num_strips * STRIP_ROWS;
        let (is_first, is_last) = (part.start == 0, part.end == self.blocks.len());
        let (sums, sums_stride) = (sums.0.as_mut_ptr(), 2 * ROWS);
        // SAFETY: the caller's rows and columns; the strips' tiles.
        unsafe {
            let c = c.add(row * ldc + first_column);
            let start = match self.product.start {
                _ if self.blocks.start > 0 => Some((c.cast_const(), ldc)),
                TileStart::Zero => None,
                TileStart::Bias(bias) => Some((bias.add(first_column), 0)),
                TileStart::C => Some((c.cast_const(), ldc)),
            };
            let start = match start {
                _ if !is_first => Some((sums.cast_const(), sums_stride)),
                Some((from, stride)) if !is_whole => {
                    copy(from, stride, sums, sums_stride, height, width);
                    Some((sums.cast_const(), sums_stride))
                }
                whole => whole,
            };
            let (to, stride) = if is_last && is_whole { (c, ldc) } else { (sums, sums_stride) };
            let a = activations.add(row / TILE_ROWS * (k / BLOCK) + self.blocks.start + part.start);
            let b = weights.as_ptr().add(part.start);
            let square = Square {
                a,
                below: a.wrapping_add(k / BLOCK),
                b,
                right: b.wrapping_add(self.blocks.len()),
                blocks: part.len(),
                ahead: self.ahead(row, &part, index),
                start: start.map(|(from, stride)| (from.cast(), stride * size_of::<f32>())),
                to: to.cast(),
                stride: stride * size_of::<f32>(),
            };
            square.multiply(tiles, height > TILE_ROWS, num_strips > 1);
            if is_last && !is_whole {
                copy(sums, sums_stride, c, ldc, height, width);
            }
        }
    }
}

/// What is asked for while a square is made: some lines a block.
#[derive(Clone, Copy)]
struct Ahead {
    start: *const u8,
    lines: usize,
}

/// Up to two by two tiles of sums.
struct Square {
    a: *const Tile,
    /// The 16 rows after those of `a`.
    below: *const Tile,
    b: *const Tile,
    /// The strip after that of `b`.
    right: *const Tile,
    blocks: usize,
    ahead: Ahead,
    /// What they begin with, f32, and bytes from row to row; `None`: zeros.
    start: Option<(*const u8, usize)>,
    /// Where they are put.
    to: *mut u8,
    /// Bytes from row to row there.
    stride: usize,
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

    /// Sums in tiles 0 to 3, activations in 4 and 5, weights in 6 and 7.
    #[inline(always)]
    unsafe fn run<T: Tiles, const BELOW: bool, const RIGHT: bool>(&self, tiles: &mut T) {
        let Self { a, below, b, right, to, stride, .. } = *self;
        // SAFETY: the caller's tiles.
        unsafe {
            if let Some((from, stride)) = self.start {
                tiles.load::<0>(from, stride);
                if RIGHT {
                    tiles.load::<1>(from.add(ROW_BYTES), stride);
                }
                if BELOW {
                    tiles.load::<2>(from.add(ROWS * stride), stride);
                }
                if BELOW && RIGHT {
                    tiles.load::<3>(from.add(ROWS * stride + ROW_BYTES), stride);
                }
            } else {
                tiles.zero::<0>();
                tiles.zero::<1>();
                tiles.zero::<2>();
                tiles.zero::<3>();
            }
            for t in 0..self.blocks {
                let Ahead { start, lines } = self.ahead;
                (0..lines).for_each(|i| tiles.ask(start.wrapping_add((t * lines + i) * ROW_BYTES)));
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
            tiles.store::<0>(to, stride);
            if RIGHT {
                tiles.store::<1>(to.add(ROW_BYTES), stride);
            }
            if BELOW {
                tiles.store::<2>(to.add(ROWS * stride), stride);
            }
            if BELOW && RIGHT {
                tiles.store::<3>(to.add(ROWS * stride + ROW_BYTES), stride);
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
