//! Every table against numbers in f64, its own results of other shapes, and small integers.

use std::ffi::c_void;

use super::super::packed::BlockNumbers;
use super::super::packed::FORMATS;
use super::super::packed::tests::strip;
use super::*;
use crate::Kernels;
use crate::testing::Random;
use half::bf16;

fn all() -> Vec<&'static TileLinear> {
    let mut all = vec![&SCALAR, &SOFTWARE_TILES];
    let tables = Kernels::available();
    all.extend(tables.iter().filter_map(|kernels| kernels.tile_linear));
    if all.len() == 2 {
        println!("only tiles in plain Rust: this CPU or system has no others");
    }
    all
}

/// Weights `[n, k]`, packed or as f32, and as numbers.
struct Weights {
    format: Option<PackedFormat>,
    bytes: Vec<u8>,
    numbers: Vec<f64>,
    n: usize,
    k: usize,
}

impl Weights {
    /// Of small integers, or of what a model might have. `None`: rows of f32.
    fn new(format: Option<PackedFormat>, [n, k]: [usize; 2], integers: bool, random: &mut Random) -> Self {
        let Some(packed) = format else {
            let rows = if integers { random.integers(n * k, 15) } else { random.reals(n * k, 2) };
            let bytes = rows.iter().flat_map(|x| x.to_ne_bytes()).collect();
            return Self { format, bytes, numbers: rows.into_iter().map(f64::from).collect(), n, k };
        };
        let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
        for _ in 0..n.div_ceil(STRIP_ROWS) {
            let (strip, rows) = strip(packed, k, integers, random);
            bytes.extend(strip);
            numbers.extend(rows);
        }
        numbers.truncate(n * k);
        Self { format, bytes, numbers, n, k }
    }

    fn source(&self) -> TileWeights {
        unsafe extern "C" fn to_f32(from: *const c_void, to: *mut f32, k: i64) {
            // SAFETY: rows are f32 already.
            unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), k as usize * size_of::<f32>()) };
        }
        match self.format {
            Some(format) => TileWeights::Packed { format, strips: self.bytes.as_ptr() },
            None => TileWeights::Rows { rows: self.bytes.as_ptr(), row_bytes: self.k * size_of::<f32>(), to_f32 },
        }
    }

    /// What a weight's own rounding may change it by, before it is rounded to bf16: see `widen`.
    fn slack(&self, weight: f64) -> f64 {
        let Some(format) = self.format else { return 0.0 };
        // A strip's scales are at most 1, its mins 3 (of K-quants 63 times as much): 256 scales are rounded with the min, then the result.
        let most = if format.numbers == BlockNumbers::Shared { 63.0 } else { 1.0 };
        2f64.powi(-24) * (256.0 + 3.0) * most + weight.abs() * 2f64.powi(-24)
    }
}

fn tiles(kernels: &TileLinear, x: &[f32], k: usize) -> Vec<Tile> {
    let rows = x.len() / k;
    // Not numbers in rows that nobody gave: they may not matter.
    let mut out = vec![Tile([0x7fc0; TILE_ROWS * BLOCK]); activation_tiles(rows, k)];
    for (i, row) in x.chunks_exact(k).enumerate() {
        let to = &mut out[i / TILE_ROWS * (k / BLOCK)..];
        let middle = k / BLOCK / 2;
        // SAFETY: k values, and the tiles of as many.
        unsafe {
            (kernels.narrow_row)(row.as_ptr(), 0, middle, i % TILE_ROWS, to.as_mut_ptr());
            (kernels.narrow_row)(row.as_ptr(), middle, k / BLOCK, i % TILE_ROWS, to.as_mut_ptr());
        }
    }
    out
}

const GAP: usize = 3;

/// C `[rows, n]`, its strips dealt out in ranges of these lengths.
fn multiply(kernels: &TileLinear, weights: &Weights, x: &[f32], start: TileStart, before: &[f32], ranges: &[usize]) -> Vec<f32> {
    let (n, k) = (weights.n, weights.k);
    let (rows, ldc) = (x.len() / k, n + GAP);
    let mut c = vec![7.5; rows * ldc];
    c.chunks_exact_mut(ldc).zip(before.chunks_exact(n)).for_each(|(c, before)| c[..n].copy_from_slice(before));
    let activations = tiles(kernels, x, k);
    let product =
        TileProduct { weights: weights.source(), start, activations: activations.as_ptr(), c: c.as_mut_ptr(), ldc, rows, n, k };
    let (mut first, mut scratch) = (0, TileScratch::default());
    for len in ranges.iter().copied().cycle() {
        let end = n.div_ceil(STRIP_ROWS).min(first + len);
        // SAFETY: the matrices hold what the product says.
        unsafe { (kernels.multiply_strips)(&product, first..end, &mut scratch) };
        first = end;
        if first * STRIP_ROWS >= n {
            break;
        }
    }
    assert!(c.chunks_exact(ldc).all(|row| row[n..] == [7.5; GAP]), "{} wrote past its columns", kernels.name);
    c.chunks_exact(ldc).flat_map(|row| row[..n].to_vec()).collect()
}

fn formats() -> Vec<Option<PackedFormat>> {
    FORMATS.into_iter().map(Some).chain([None]).collect()
}

fn narrow(x: f64) -> f64 {
    bf16::from_f64(x).to_f64()
}

#[test]
fn products_match_f64() {
    for kernels in all() {
        for format in formats() {
            for (rows, n, k) in [(1, 16, 256), (1, 3, 32), (3, 33, 96), (16, 32, 576), (17, 48, 544), (33, 41, 2336), (50, 290, 64)]
            {
                let k = usize::next_multiple_of(k, BLOCK * format.map_or(1, PackedFormat::blocks_per_run));
                let mut random = Random((rows * n * k) as u64);
                let weights = Weights::new(format, [n, k], false, &mut random);
                let (x, bias) = (random.reals(rows * k, 2), random.reals(n, 2));
                let before = random.reals(rows * n, 2);
                for start in [TileStart::Zero, TileStart::Bias(bias.as_ptr()), TileStart::C] {
                    let c = multiply(kernels, &weights, &x, start, &before, &[2]);
                    for (i, j) in (0..rows).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        let first = f64::from(match start {
                            TileStart::Zero => 0.0,
                            TileStart::Bias(_) => bias[j],
                            TileStart::C => before[i * n + j],
                        });
                        let (mut exact, mut sizes, mut bound) = (first, first.abs(), 0.0);
                        for (x, w) in x[i * k..][..k].iter().zip(&weights.numbers[j * k..]) {
                            let x = f64::from(*x);
                            let slack = weights.slack(*w);
                            exact += x * w;
                            sizes += x.abs() * (w.abs() + slack) * (1.0 + 2f64.powi(-7));
                            // Half a unit of bf16 each; both at once are under the slight excess of the last term.
                            bound += x.abs() * (2f64.powi(-9) * (2.0 * w.abs() + slack) + slack) * (1.0 + 2f64.powi(-8));
                        }
                        // Sums of k terms in f32, in any order (Higham, Accuracy and Stability, 3.1); products of bf16 are exact there.
                        bound += (k + 2) as f64 * f64::from(f32::EPSILON) * sizes;
                        let error = (f64::from(c[i * n + j]) - exact).abs();
                        assert!(
                            error <= bound,
                            "{} {format:?} {rows}x{n}x{k} {start:?} at {i},{j}: {error} > {bound}",
                            kernels.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn products_are_exact_on_small_integers() {
    for kernels in all() {
        for format in formats() {
            let (rows, n, k, mut random) = (35, 52, 512, Random(3));
            let weights = Weights::new(format, [n, k], true, &mut random);
            // Levels of 8 bits times scales of 2 do not fit bf16: those weights are rounded to what is multiplied.
            let x = random.integers(rows * k, 3);
            let c = multiply(kernels, &weights, &x, TileStart::Zero, &[], &[2]);
            for (i, j) in (0..rows).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let terms = x[i * k..][..k].iter().zip(&weights.numbers[j * k..]);
                let exact: f64 = terms.map(|(x, w)| f64::from(*x) * narrow(*w)).sum();
                assert_eq!(f64::from(c[i * n + j]), exact, "{} {format:?} at {i},{j}", kernels.name);
            }
        }
    }
}

#[test]
fn a_rows_bits_do_not_depend_on_other_rows_nor_on_who_has_which_columns() {
    for kernels in all() {
        for format in formats() {
            let (n, k) = (344, usize::next_multiple_of(2144, BLOCK * format.map_or(1, PackedFormat::blocks_per_run)));
            let most = if kernels.name == "amx" { 512 } else { 17 };
            let mut random = Random(11);
            let weights = Weights::new(format, [n, k], false, &mut random);
            let x = random.reals(most * k, 2);
            let whole = multiply(kernels, &weights, &x, TileStart::Zero, &[], &[n]);
            for rows in [1, 3, 16, 17, 33, 512].into_iter().filter(|rows| *rows <= most) {
                for ranges in [&[n][..], &[1], &[3, 2]] {
                    let first = most - rows;
                    let c = multiply(kernels, &weights, &x[first * k..], TileStart::Zero, &[], ranges);
                    let same = c.iter().zip(&whole[first * n..]).all(|(x, y)| x.to_bits() == y.to_bits());
                    assert!(same, "{} {format:?} {rows} rows in ranges {ranges:?}", kernels.name);
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    for kernels in all() {
        let (rows, n, k, mut random) = (20, 32, 64, Random(5));
        let weights = Weights::new(Some(FORMATS[1]), [n, k], false, &mut random);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = random.reals(rows * k, 2);
            x[17 * k + 5] = bad;
            let c = multiply(kernels, &weights, &x, TileStart::Zero, &[], &[2]);
            for (i, row) in c.chunks_exact(n).enumerate() {
                assert!(row.iter().all(|c| c.is_finite() == (i != 17)), "{} {bad}: row {i}", kernels.name);
            }
        }
    }
}

#[test]
fn rounding_and_order_are_the_same_everywhere() {
    let reference = &SCALAR;
    for kernels in all() {
        let (k, mut random) = (160, Random(6));
        let x = random.reals(19 * k, 9);
        let bits = |tiles: Vec<Tile>| tiles.into_iter().flat_map(|tile| tile.0).collect::<Vec<_>>();
        assert_eq!(bits(tiles(kernels, &x, k)), bits(tiles(reference, &x, k)), "{}", kernels.name);
        let widened = |kernels: &TileLinear| {
            let mut out = vec![Tile::ZERO; k / BLOCK];
            // SAFETY: 16 rows of k values, and as many tiles as they have blocks.
            unsafe { (kernels.widen_rows)(x.as_ptr(), k, k / BLOCK, out.as_mut_ptr()) };
            bits(out)
        };
        assert_eq!(widened(kernels), widened(reference), "{}", kernels.name);
    }
}
