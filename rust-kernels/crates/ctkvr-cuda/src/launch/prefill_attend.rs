//! Causal attention of a prompt's rows: see `kernels/prefill_attend.cu`.

use std::ops::Range;

use ctkvr_kernels::{KvFormat, PageLayout};

use crate::launch::attend::MAX_GROUP;
use crate::launch::slot::RowPlace;
use crate::launch::traffic::Traffic;
use crate::{Device, Error, Family, Grid, Plain, Result, Span, Stream, kernel};

/// (row, query head) pairs that a block does for one KV head.
const PAIRS_PER_TILE: usize = 128;

/// Consecutive rows of a batch, of one sequence and at consecutive positions: what one block does for each KV head.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTile {
    pub first_row: u32,
    /// Times group at most 128.
    pub num_rows: u32,
}
// SAFETY: two u32, as `RowTile` of kernels/prefill_attend.cu.
unsafe impl Plain for RowTile {}

/// Adds the tiles of one sequence's rows, those with the most keys first: they take longest.
pub fn push_tiles(tiles: &mut Vec<RowTile>, rows: Range<usize>, group: usize) {
    let most = (PAIRS_PER_TILE / group).max(1);
    for first in rows.clone().step_by(most).rev() {
        // Rows of a batch are counted in u32.
        tiles.push(RowTile { first_row: first as u32, num_rows: most.min(rows.end - first) as u32 });
    }
}

/// Attention of each row to positions `0..=` its own of its own sequence, all stored already. A row's bits do not depend on the tile or the
/// piece of a prompt that it comes in.
#[derive(Debug, Clone, Copy)]
pub struct PrefillAttend {
    /// f32 `[rows, num_kv_heads * group, head_dim]`, after rotary embedding; aligned to 16 bytes.
    pub queries: Span<f32>,
    /// `[rows]`.
    pub places: Span<RowPlace>,
    /// [`push_tiles`].
    pub tiles: Span<RowTile>,
    /// f32 as `queries`, which it may not be; aligned to 16 bytes. Rows of no tile are left alone.
    pub out: Span<f32>,
    /// head_dim: 64, 96, 128 or 256.
    pub layout: PageLayout,
    /// The layer's first head in a page: layer * num_kv_heads.
    pub first_head: usize,
    pub num_kv_heads: usize,
    /// Query heads of a KV head, 1 to 16.
    pub group: usize,
}

/// As in `kernels/prefill_attend.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PrefillAttendArgs {
    queries: u64,
    places: u64,
    tiles: u64,
    out: u64,
    head_offset: u64,
    head_bytes: u64,
    scale: f32,
    group: u32,
}
const _: () = assert!(size_of::<PrefillAttendArgs>() == 56);
// SAFETY: numbers without padding, as `PrefillAttendArgs` of kernels/prefill_attend.cu.
unsafe impl Plain for PrefillAttendArgs {}

kernel! {
    fn prefill_attend_f16_d64(args: PrefillAttendArgs) needs { loads_16: 4, products: 32 };
    fn prefill_attend_f16_d96(args: PrefillAttendArgs) needs { loads_16: 4, products: 32 };
    fn prefill_attend_f16_d128(args: PrefillAttendArgs) needs { loads_16: 4, products: 32 };
    fn prefill_attend_f16_d256(args: PrefillAttendArgs) needs { loads_16: 4, products: 32 };
    fn prefill_attend_q8_d64(args: PrefillAttendArgs) needs { products: 32 };
    fn prefill_attend_q8_d96(args: PrefillAttendArgs) needs { products: 32 };
    fn prefill_attend_q8_d128(args: PrefillAttendArgs) needs { products: 32 };
    fn prefill_attend_q8_d256(args: PrefillAttendArgs) needs { products: 32 };
}

pub const FAMILY: Family = Family {
    file: "prefill_attend",
    kernels: &[
        prefill_attend_f16_d64::DECLARATION,
        prefill_attend_f16_d96::DECLARATION,
        prefill_attend_f16_d128::DECLARATION,
        prefill_attend_f16_d256::DECLARATION,
        prefill_attend_q8_d64::DECLARATION,
        prefill_attend_q8_d96::DECLARATION,
        prefill_attend_q8_d128::DECLARATION,
        prefill_attend_q8_d256::DECLARATION,
    ],
};

const THREADS: usize = 256;

impl PrefillAttend {
    /// # Errors
    /// `Length` when a span has another, `BadKernel` for heads or groups that have no kernel; `LaunchFailed`, `DeviceLost`.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let (d, group) = (self.layout.head_dim, self.group);
        if !(1..=MAX_GROUP).contains(&group) {
            return Err(Error::BadKernel { kernel: format!("prefill_attend for groups of {group}"), code: 0 });
        }
        let len = self.places.len() * self.num_kv_heads * group * d;
        self.queries.check("prefill_attend: queries", len)?;
        self.out.check("prefill_attend: out", len)?;
        if self.tiles.is_empty() {
            return Ok(());
        }
        let head_bytes = self.layout.bytes();
        let args = PrefillAttendArgs {
            queries: self.queries.address(),
            places: self.places.address(),
            tiles: self.tiles.address(),
            out: self.out.address(),
            head_offset: (self.first_head * head_bytes) as u64,
            head_bytes: head_bytes as u64,
            scale: 1.0 / (d as f32).sqrt(),
            group: group as u32,
        };
        let grid = Grid::of([self.num_kv_heads, self.tiles.len(), 1], THREADS);
        // SAFETY: the lengths are checked; what the tiles and places name is the caller's.
        unsafe {
            match (self.layout.format, d) {
                (KvFormat::F16, 64) => prefill_attend_f16_d64::launch(device, stream, grid, args),
                (KvFormat::F16, 96) => prefill_attend_f16_d96::launch(device, stream, grid, args),
                (KvFormat::F16, 128) => prefill_attend_f16_d128::launch(device, stream, grid, args),
                (KvFormat::F16, 256) => prefill_attend_f16_d256::launch(device, stream, grid, args),
                (KvFormat::Q8, 64) => prefill_attend_q8_d64::launch(device, stream, grid, args),
                (KvFormat::Q8, 96) => prefill_attend_q8_d96::launch(device, stream, grid, args),
                (KvFormat::Q8, 128) => prefill_attend_q8_d128::launch(device, stream, grid, args),
                (KvFormat::Q8, 256) => prefill_attend_q8_d256::launch(device, stream, grid, args),
                _ => Err(Error::BadKernel { kernel: format!("prefill_attend for heads of {d}"), code: 0 }),
            }
        }
    }
}

impl PrefillAttend {
    /// `ends`: of each sequence one more than its last row's position. Every row is in a tile.
    pub fn traffic(&self, ends: &[usize]) -> Traffic {
        let rows = self.row_bytes();
        Traffic { stored: self.key_value_bytes(ends), passed: rows, written: rows }
    }

    /// Read by all blocks of threads together, each byte once a block. `ends`: of each tile.
    pub fn by_blocks(&self, ends: &[usize]) -> usize {
        self.key_value_bytes(ends) + self.row_bytes()
    }

    /// Bytes of all rows' queries.
    fn row_bytes(&self) -> usize {
        self.places.len() * self.num_kv_heads * self.group * self.layout.head_dim * size_of::<f32>()
    }

    fn key_value_bytes(&self, ends: &[usize]) -> usize {
        let row = self.num_kv_heads * 2 * self.layout.format.row_bytes(self.layout.head_dim);
        ends.iter().map(|end| end * row).sum()
    }
}
