//! The product one value at a time: what those on tiles are tested against.

use std::ops::Range;

use half::bf16;

use super::widen::scalar::{place, widen_rows, widen_strip};
use super::{BLOCK, STRIP_ROWS, TILE_ROWS, Tile, TileProduct, TileScratch, TileStart, TileWeights};

/// As [`super::TileLinear::multiply_strips`].
pub(super) unsafe fn multiply_strips(product: &TileProduct, strips: Range<usize>, _: &mut TileScratch) {
    let TileProduct { weights, start, activations, c, ldc, rows, n, k } = *product;
    let blocks = k / BLOCK;
    let mut tiles = vec![Tile::ZERO; blocks];
    for strip in strips {
        let first = strip * STRIP_ROWS;
        let columns = first..n.min(first + STRIP_ROWS);
        // SAFETY: the caller's matrices.
        unsafe {
            match weights {
                TileWeights::Packed { format, strips } => {
                    widen_strip(format, strips.add(strip * format.strip_bytes(k)), 0, blocks, tiles.as_mut_ptr());
                }
                TileWeights::Rows { rows, row_bytes, to_f32 } => {
                    let mut values = vec![0.0; STRIP_ROWS * k];
                    for (row, out) in columns.clone().zip(values.chunks_exact_mut(k)) {
                        to_f32(rows.add(row * row_bytes).cast(), out.as_mut_ptr(), k as i64);
                    }
                    widen_rows(values.as_ptr(), k, blocks, tiles.as_mut_ptr());
                }
            }
            for (i, j) in (0..rows).flat_map(|i| columns.clone().map(move |j| (i, j))) {
                let c = c.add(i * ldc + j);
                let mut sum = match start {
                    TileStart::Zero => 0.0,
                    TileStart::Bias(bias) => *bias.add(j),
                    TileStart::C => *c,
                };
                for (b, weights) in tiles.iter().enumerate() {
                    let activations = &*activations.add(i / TILE_ROWS * blocks + b);
                    for t in 0..BLOCK {
                        let (a, w) = (activations.0[i % TILE_ROWS * BLOCK + t], weights.0[place(j - first, t)]);
                        sum += bf16::from_bits(a).to_f32() * bf16::from_bits(w).to_f32();
                    }
                }
                *c = sum;
            }
        }
    }
}
