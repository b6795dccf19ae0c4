//! Linear layers of many rows in bf16 on tiles (AMX): weights are widened to tiles, two strips at a time, and meet all rows while they lie
//! in a core's own caches.
//!
//! Activations come as tiles of [`TILE_ROWS`] rows by [`BLOCK`] values, bf16 `[rows / 16, k / 32, 16, 32]`: one kilobyte each, since rows
//! that lie a multiple of 4 KiB apart would share a set of the first-level cache. A strip of weights becomes tiles of its 16 columns, bf16
//! `[k / 32, 16, 16, 2]`: the two weights that meet a pair of a row's values lie side by side.
//!
//! A row's results are the same bits whatever other rows there are and whoever has which columns: each is one sum, in the order of k.

#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod order;
mod plain;
mod widen;

use std::ops::Range;

use super::packed::{BLOCK, PackedFormat, STRIP_ROWS};

/// Rows of activations in a tile.
pub const TILE_ROWS: usize = 16;

/// One tile of bf16.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Tile(pub [u16; TILE_ROWS * BLOCK]);

impl Tile {
    pub const ZERO: Self = Self([0; TILE_ROWS * BLOCK]);
}

/// Tiles of so many rows of k activations.
pub const fn activation_tiles(rows: usize, k: usize) -> usize {
    rows.div_ceil(TILE_ROWS) * (k / BLOCK)
}

/// Makes f32 of k weights as a file stores them.
pub type ToF32 = unsafe extern "C" fn(from: *const std::ffi::c_void, to: *mut f32, k: i64);

/// A matrix of weights, `[n, k]`.
#[derive(Debug, Clone, Copy)]
pub enum TileWeights {
    /// u8 `[n.div_ceil(STRIP_ROWS), strip_bytes(k)]`.
    Packed { format: PackedFormat, strips: *const u8 },
    /// Rows `row_bytes` apart, in blocks of at most [`ROW_BLOCK`] weights.
    Rows { rows: *const u8, row_bytes: usize, to_f32: ToF32 },
}

/// Weights that a file's format may keep in one block: those of a K-quant.
pub const ROW_BLOCK: usize = 256;

/// What a product is added to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TileStart {
    Zero,
    /// f32 `[n]`: each row's.
    Bias(*const f32),
    /// What C holds.
    C,
}

/// C f32 `[rows, n]` = start plus activations times weights.
pub struct TileProduct {
    pub weights: TileWeights,
    pub start: TileStart,
    /// [`activation_tiles`] of them. What is in rows beyond the last does not matter.
    pub activations: *const Tile,
    pub c: *mut f32,
    /// Values from one row of C to the next.
    pub ldc: usize,
    pub rows: usize,
    pub n: usize,
    /// A multiple of `BLOCK`, and of what the weights' format asks for.
    pub k: usize,
}

/// Sums of two by two tiles, f32 `[32, 32]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([f32; 4 * TILE_ROWS * STRIP_ROWS]);

#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
impl Sums {
    const ZERO: Self = Self([0.0; 4 * TILE_ROWS * STRIP_ROWS]);
}

/// Memory of one thread, reused.
#[derive(Default)]
#[cfg_attr(
    not(any(test, all(target_arch = "x86_64", target_os = "linux"))),
    allow(dead_code, reason = "only what multiplies on tiles looks into it")
)]
pub struct TileScratch {
    /// Widened strips.
    tiles: Vec<Tile>,
    /// Those of each pair of strips with some rows.
    sums: Vec<Sums>,
    /// Parts of a strip's rows, f32.
    rows: Vec<f32>,
}

/// The kernels of one instruction set; `Kernels::tile_linear` names those of this CPU. Every function is unsafe for the same reason:
/// pointers must be live for the sizes its comment gives.
pub struct TileLinear {
    /// `scalar` or `amx`.
    pub name: &'static str,
    /// Rounds blocks `from..to` of a row of k activations to bf16 (nearest even) and puts them into row `row` of its tiles: `x` f32 `[k]`,
    /// `tiles` `[k / BLOCK]`.
    pub narrow_row: unsafe fn(x: *const f32, from: usize, to: usize, row: usize, tiles: *mut Tile),
    /// Blocks `from..to` of a strip as tiles.
    pub widen_strip: unsafe fn(format: PackedFormat, strip: *const u8, from: usize, to: usize, tiles: *mut Tile),
    /// `blocks` blocks of 16 rows as tiles: `rows` f32, `ld` values apart.
    pub widen_rows: unsafe fn(rows: *const f32, ld: usize, blocks: usize, tiles: *mut Tile),
    /// The columns of C that some strips of weights make. Ranges that begin and end at even strips are the fastest.
    pub multiply_strips: unsafe fn(product: &TileProduct, strips: Range<usize>, scratch: &mut TileScratch),
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) static AMX: TileLinear = TileLinear {
    name: "amx",
    narrow_row: widen::avx512::narrow_row,
    widen_strip: widen::avx512::widen_strip,
    widen_rows: widen::avx512::widen_rows,
    multiply_strips: multiply_strips_on_registers,
};

/// A function with a name: a test looks for instructions on tiles that are not ours (scripts/native-binary.test.mjs).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
unsafe fn multiply_strips_on_registers(product: &TileProduct, strips: Range<usize>, scratch: &mut TileScratch) {
    // SAFETY: the contract is the caller's.
    unsafe { order::multiply_strips::<super::amx::Registers>(&AMX, product, strips, scratch) }
}

pub(super) static SCALAR: TileLinear = TileLinear {
    name: "scalar",
    narrow_row: widen::scalar::narrow_row,
    widen_strip: widen::scalar::widen_strip,
    widen_rows: widen::scalar::widen_rows,
    multiply_strips: plain::multiply_strips,
};

/// The order of work on tiles, with tiles in plain Rust.
#[cfg(test)]
static SOFTWARE_TILES: TileLinear = TileLinear {
    name: "amx in software",
    multiply_strips: |product, strips, scratch| {
        // SAFETY: the contract is the caller's.
        unsafe { order::multiply_strips::<super::amx::software::Plain>(&SCALAR, product, strips, scratch) }
    },
    ..SCALAR
};

#[cfg(test)]
mod tests;
