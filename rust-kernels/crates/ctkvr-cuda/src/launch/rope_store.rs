//! Makes a layer's queries, keys and values ready for attention: see `kernels/rope_store.cu`.

use ctkvr_kernels::{KvFormat, PageLayout};
use ctkvr_model::RopePairing;

use crate::launch::norm_round::reach;
use crate::launch::slot::RowPlace;
use crate::launch::traffic::Traffic;
use crate::{Device, Family, Grid, Plain, Result, Span, Stream, kernel};

/// Turns queries, turns keys and stores them with the values in the KV pages. The stored bytes are those that
/// [`PageLayout::store`] writes after `Kernels::rotate_halves` or `rotate_adjacent`, on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct RopeStore {
    /// f32 `[rows, num_q_heads, head_dim]`, rows `stride` values apart.
    pub queries: Span<f32>,
    /// f32 `[rows, num_kv_heads, head_dim]`, rows as far apart: all three may lie side by side.
    pub keys: Span<f32>,
    pub values: Span<f32>,
    pub stride: usize,
    /// f32 `[rows, num_q_heads, head_dim]`, another buffer: gets the queries turned, then times `query_factor`.
    pub turned: Span<f32>,
    /// f32 `[rows, num_pairs]`: of each row's position (`RotaryTable::write`).
    pub cos: Span<f32>,
    pub sin: Span<f32>,
    /// `[rows]`: where each row's key and value go. Nobody else's place.
    pub places: Span<RowPlace>,
    /// f16 `[rows, num_q_heads, head_dim]`: gets the queries as they are attended with. Empty: they are not kept.
    pub recent: Span<u16>,
    /// Of the pages, and of one head in them. head_dim: a multiple of 32, at most 256.
    pub layout: PageLayout,
    /// The layer's first head in a page: layer * num_kv_heads.
    pub first_head: usize,
    pub num_q_heads: usize,
    pub num_kv_heads: usize,
    /// Pairs of a head that are turned; values behind them are not.
    pub num_pairs: usize,
    pub pairing: RopePairing,
    /// `score_scale * sqrt(head_dim)` of models that have a scale of their own; else 1.
    pub query_factor: f32,
}

/// As in `kernels/rope_store.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RopeStoreArgs {
    queries: u64,
    keys: u64,
    values: u64,
    turned: u64,
    cos: u64,
    sin: u64,
    places: u64,
    recent: u64,
    stride: u64,
    head_offset: u64,
    head_bytes: u64,
    query_factor: f32,
    num_q_heads: u32,
    num_kv_heads: u32,
    head_dim: u32,
    num_pairs: u32,
    is_adjacent: u32,
}
const _: () = assert!(size_of::<RopeStoreArgs>() == 112);
// SAFETY: numbers without padding, as `RopeStoreArgs` of kernels/rope_store.cu.
unsafe impl Plain for RopeStoreArgs {}

kernel! {
    fn rope_store_f16(args: RopeStoreArgs);
    fn rope_store_q8(args: RopeStoreArgs);
}

pub const FAMILY: Family = Family { file: "rope_store", kernels: &[rope_store_f16::DECLARATION, rope_store_q8::DECLARATION] };

/// Heads that a block does, a warp to each.
const HEADS_PER_BLOCK: usize = 4;

impl RopeStore {
    /// Rows, from the places.
    fn num_rows(&self) -> usize {
        self.places.len()
    }

    /// # Errors
    /// `Length` when a span has another, or ends before the last row; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// When head_dim is no multiple of 32 up to 256, or has fewer than twice the pairs.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let (rows, d) = (self.num_rows(), self.layout.head_dim);
        assert!(d.is_multiple_of(32) && d <= 256 && 2 * self.num_pairs <= d, "heads of {d} values, {} pairs", self.num_pairs);
        let reached = |heads: usize| if heads == 0 { 0 } else { reach(rows, self.stride, heads * d) };
        self.queries.check_at_least("rope_store: queries", reached(self.num_q_heads))?;
        self.keys.check_at_least("rope_store: keys", reached(self.num_kv_heads))?;
        self.values.check_at_least("rope_store: values", reached(self.num_kv_heads))?;
        self.turned.check("rope_store: turned", rows * self.num_q_heads * d)?;
        self.cos.check("rope_store: cos", rows * self.num_pairs)?;
        self.sin.check("rope_store: sin", rows * self.num_pairs)?;
        if !self.recent.is_empty() {
            self.recent.check("rope_store: recent", rows * self.num_q_heads * d)?;
        }
        if rows == 0 {
            return Ok(());
        }
        let head_bytes = self.layout.bytes();
        let args = RopeStoreArgs {
            queries: self.queries.address(),
            keys: self.keys.address(),
            values: self.values.address(),
            turned: self.turned.address(),
            cos: self.cos.address(),
            sin: self.sin.address(),
            places: self.places.address(),
            recent: self.recent.address(),
            stride: self.stride as u64,
            head_offset: (self.first_head * head_bytes) as u64,
            head_bytes: head_bytes as u64,
            query_factor: self.query_factor,
            num_q_heads: self.num_q_heads as u32,
            num_kv_heads: self.num_kv_heads as u32,
            head_dim: d as u32,
            num_pairs: self.num_pairs as u32,
            is_adjacent: u32::from(self.pairing == RopePairing::Adjacent),
        };
        let heads = self.num_q_heads + self.num_kv_heads;
        let grid = Grid::of([heads.div_ceil(HEADS_PER_BLOCK), rows, 1], 32 * HEADS_PER_BLOCK);
        // SAFETY: the lengths are checked; the places are the caller's.
        unsafe {
            match self.layout.format {
                KvFormat::F16 => rope_store_f16::launch(device, stream, grid, args),
                KvFormat::Q8 => rope_store_q8::launch(device, stream, grid, args),
            }
        }
    }
}

impl RopeStore {
    pub fn traffic(&self) -> Traffic {
        let (rows, d) = (self.num_rows(), self.layout.head_dim);
        let (queries, of_kv) = (rows * self.num_q_heads * d, rows * self.num_kv_heads);
        let angles = 2 * rows * self.num_pairs;
        Traffic {
            stored: 0,
            passed: (queries + 2 * of_kv * d + angles) * size_of::<f32>(),
            written: queries * size_of::<f32>() + self.recent.bytes() + 2 * of_kv * self.layout.format.row_bytes(d),
        }
    }
}
