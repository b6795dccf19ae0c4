//! Linear layers on tiles.

use std::ffi::c_void;

use half::bf16;

use super::super::packed::{BLOCK, BlockNumbers, FORMATS, PackedFormat, STRIP_ROWS};
use super::super::tile_linear::{
    self, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights, activation_tiles,
};
use super::packed::strip;
use super::{DRAWS, Draw, Finding, Numbers, budget, check_fields, near, same};

pub(super) fn check(table: &TileLinear) -> Finding {
    check_fields!(
        table,
        TileLinear,
        no_kernels: [name],
        narrow_row: narrow_row,
        widen_strip: widen_strip,
        widen_rows: widen_rows,
        multiply_strips: multiply_strips,
    )
}

fn narrowed(table: &TileLinear, x: &[f32], k: usize) -> Vec<Tile> {
    let mut tiles = vec![Tile::ZERO; activation_tiles(x.len() / k, k)];
    for (i, x) in x.chunks_exact(k).enumerate() {
        let tiles = &mut tiles[i / TILE_ROWS * (k / BLOCK)..];
        // In two parts, as two threads would.
        for (from, to) in [(0, k / BLOCK / 2), (k / BLOCK / 2, k / BLOCK)] {
            // SAFETY: k values, and the tiles of as many.
            unsafe { (table.narrow_row)(x.as_ptr(), from, to, i % TILE_ROWS, tiles.as_mut_ptr()) };
        }
    }
    tiles
}

fn bits(tiles: &[Tile]) -> Vec<u16> {
    tiles.iter().flat_map(|tile| tile.0).collect()
}

fn narrow_row(table: &TileLinear) -> Finding {
    let (k, x) = (160, Numbers(15).reals(19 * 160));
    same("19 rows", &bits(&narrowed(table, &x, k)), &bits(&narrowed(&tile_linear::SCALAR, &x, k)))
}

/// By how much a widened weight may be off: another rounding to bf16, and that of 256 scales with the min.
fn slack(format: PackedFormat, draw: Draw, weight: f64) -> f64 {
    let most = if format.numbers == BlockNumbers::Shared { 64.0 } else { 1.0 };
    if draw == Draw::Integers { 0.0 } else { weight.abs() * 2f64.powi(-7) + 2f64.powi(-24) * 258.0 * most }
}

fn widen_strip(table: &TileLinear) -> Finding {
    for draw in DRAWS {
        for format in FORMATS {
            let (k, from, to) = (512, 3, 13);
            let (strip, _) = strip(format, k, draw, &mut Numbers(16));
            let by = |table: &TileLinear| -> Vec<f32> {
                let mut tiles = vec![Tile::ZERO; to - from + 1];
                // SAFETY: a strip of k values a row, and tiles for these blocks.
                unsafe { (table.widen_strip)(format, strip.as_ptr(), from, to, tiles.as_mut_ptr()) };
                bits(&tiles).into_iter().map(|x| bf16::from_bits(x).to_f32()).collect()
            };
            near(format!("{draw:?} in {format:?}"), &by(table), &by(&tile_linear::SCALAR), |weight| slack(format, draw, weight))?;
        }
    }
    Ok(())
}

fn widen_rows(table: &TileLinear) -> Finding {
    let (k, rows) = (96, Numbers(17).reals(STRIP_ROWS * 96));
    let by = |table: &TileLinear| {
        let mut tiles = vec![Tile::ZERO; k / BLOCK];
        // SAFETY: 16 rows of k values, and as many tiles as they have blocks.
        unsafe { (table.widen_rows)(rows.as_ptr(), k, k / BLOCK, tiles.as_mut_ptr()) };
        bits(&tiles)
    };
    same("16 rows", &by(table), &by(&tile_linear::SCALAR))
}

/// Rows that are f32 already.
unsafe extern "C" fn to_f32(from: *const c_void, to: *mut f32, k: i64) {
    // SAFETY: the caller's k values.
    unsafe { std::ptr::copy_nonoverlapping(from.cast(), to, k as usize) };
}

fn multiply_strips(table: &TileLinear) -> Finding {
    for draw in DRAWS {
        for (format, k) in FORMATS.into_iter().map(|format| (Some(format), 768)).chain([(None, 2144)]) {
            let mut numbers = Numbers(18);
            let (rows, n, num_strips) = (37, 44, 3);
            let (mut strips, mut largest) = (Vec::new(), 1.0);
            if let Some(format) = format {
                for _ in 0..num_strips {
                    let (bytes, most) = strip(format, k, draw, &mut numbers);
                    strips.extend(bytes);
                    largest = most;
                }
            }
            let plain = numbers.draw(draw, n * k, 1);
            let weights = match format {
                Some(format) => TileWeights::Packed { format, strips: strips.as_ptr() },
                None => TileWeights::Rows { rows: plain.as_ptr().cast(), row_bytes: k * size_of::<f32>(), to_f32 },
            };
            let (x, bias, before) =
                (numbers.draw(draw, rows * k, 7), numbers.draw(draw, n, 7), numbers.draw(draw, rows * (n + 3), 7));
            let activations = narrowed(&tile_linear::SCALAR, &x, k);
            for start in [TileStart::Zero, TileStart::Bias(bias.as_ptr()), TileStart::C] {
                let by = |table: &TileLinear| {
                    let (mut c, mut scratch) = (before.clone(), TileScratch::default());
                    let (activations, ldc) = (activations.as_ptr(), n + 3);
                    let product = TileProduct { weights, start, activations, c: c.as_mut_ptr(), ldc, rows, n, k };
                    // SAFETY: the matrices hold what the product says.
                    unsafe { (table.multiply_strips)(&product, 0..num_strips, &mut scratch) };
                    c
                };
                // Activations are at most 1 where they are no integers.
                let rounded = format.map_or(0.0, |format| k as f64 * slack(format, draw, largest));
                let allowed = budget(draw, k + 2, largest * k as f64 + 7.0) + rounded;
                near(format!("{draw:?} in {format:?} {start:?}"), &by(table), &by(&tile_linear::SCALAR), |_| allowed)?;
            }
        }
    }
    Ok(())
}
