//! Attention of decoded tokens over what they read: see `kernels/attend.cu`.

use ctkvr_kernels::{KvFormat, PageLayout};

use crate::launch::slot::SlotLayout;
use crate::launch::traffic::{SlotShape, Traffic};
use crate::{Device, Error, Family, Grid, Plain, Result, Span, Stream, kernel};

/// Entries (positions that a slot reads, in their order) that are added up as one. Splits lie at fixed places of a slot's own entries.
pub const SPLIT: usize = 128;

/// Head dimensions that attention has kernels for.
pub const HEAD_DIMS: [usize; 4] = [64, 96, 128, 256];

/// Most query heads of a KV head.
pub const MAX_GROUP: usize = 16;

/// Splits of so many entries.
pub fn splits_of(num_entries: usize) -> usize {
    num_entries.div_ceil(SPLIT)
}

/// f32 values of one split of one slot: values `[group, head_dim]`, then each head's maximum, then its sum.
pub fn partial_len(group: usize, head_dim: usize) -> usize {
    group * (head_dim + 2)
}

/// Softmax over each split of what every slot reads: positions `0..start`, the listed ones, `end..len`. [`super::merge::Merge`] follows.
#[derive(Debug, Clone, Copy)]
pub struct Attend {
    /// f32 `[slots, group, head_dim]`, after rotary embedding; aligned to 16 bytes.
    pub queries: Span<f32>,
    /// `[slots]`.
    pub layouts: Span<SlotLayout>,
    /// u32 `[slots, list_stride]`: positions in each slot's region, in any order. Empty with `counts`.
    pub positions: Span<u32>,
    /// u32 `[slots]`: how many of them, at most `list_stride`. Empty: none are listed.
    pub counts: Span<u32>,
    /// f32 `[slots, max_splits, partial_len(group, head_dim)]`. Splits that a slot does not have are left alone.
    pub partials: Span<f32>,
    /// head_dim: 64, 96, 128 or 256.
    pub layout: PageLayout,
    /// Query heads of a KV head, 1 to 16.
    pub group: usize,
    /// At least [`splits_of`] the entries of any slot.
    pub max_splits: usize,
}

/// As in `kernels/attend.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AttendArgs {
    queries: u64,
    layouts: u64,
    positions: u64,
    counts: u64,
    partials: u64,
    scale: f32,
    group: u32,
    list_stride: u32,
    max_splits: u32,
}
const _: () = assert!(size_of::<AttendArgs>() == 56);
// SAFETY: numbers without padding, as `AttendArgs` of kernels/attend.cu.
unsafe impl Plain for AttendArgs {}

kernel! {
    fn attend_f16_d64_h8(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_f16_d64_h16(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_f16_d96_h8(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_f16_d96_h16(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_f16_d128_h8(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_f16_d128_h16(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_f16_d256_h8(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_f16_d256_h16(args: AttendArgs) needs { loads_16: 4, products: 10 };
    fn attend_q8_d64_h8(args: AttendArgs) needs { products: 10 };
    fn attend_q8_d64_h16(args: AttendArgs) needs { products: 10 };
    fn attend_q8_d96_h8(args: AttendArgs) needs { products: 10 };
    fn attend_q8_d96_h16(args: AttendArgs) needs { products: 10 };
    fn attend_q8_d128_h8(args: AttendArgs) needs { products: 10 };
    fn attend_q8_d128_h16(args: AttendArgs) needs { products: 10 };
    fn attend_q8_d256_h8(args: AttendArgs) needs { products: 10 };
    fn attend_q8_d256_h16(args: AttendArgs) needs { products: 10 };
}

pub const FAMILY: Family = Family {
    file: "attend",
    kernels: &[
        attend_f16_d64_h8::DECLARATION,
        attend_f16_d64_h16::DECLARATION,
        attend_f16_d96_h8::DECLARATION,
        attend_f16_d96_h16::DECLARATION,
        attend_f16_d128_h8::DECLARATION,
        attend_f16_d128_h16::DECLARATION,
        attend_f16_d256_h8::DECLARATION,
        attend_f16_d256_h16::DECLARATION,
        attend_q8_d64_h8::DECLARATION,
        attend_q8_d64_h16::DECLARATION,
        attend_q8_d96_h8::DECLARATION,
        attend_q8_d96_h16::DECLARATION,
        attend_q8_d128_h8::DECLARATION,
        attend_q8_d128_h16::DECLARATION,
        attend_q8_d256_h8::DECLARATION,
        attend_q8_d256_h16::DECLARATION,
    ],
};

const THREADS: usize = SPLIT;

impl Attend {
    /// # Errors
    /// `Length` when a span has another, `BadKernel` for heads or groups that have no kernel; `LaunchFailed`, `DeviceLost`.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let (slots, d, group) = (self.layouts.len(), self.layout.head_dim, self.group);
        self.queries.check("attend: queries", slots * group * d)?;
        self.partials.check("attend: partials", slots * self.max_splits * partial_len(group, d))?;
        let list_stride = if self.counts.is_empty() { 0 } else { self.positions.len() / slots.max(1) };
        self.positions.check("attend: positions", slots * list_stride)?;
        if !self.counts.is_empty() {
            self.counts.check("attend: counts", slots)?;
        }
        if slots == 0 || self.max_splits == 0 {
            return Ok(());
        }
        let args = AttendArgs {
            queries: self.queries.address(),
            layouts: self.layouts.address(),
            positions: self.positions.address(),
            counts: self.counts.address(),
            partials: self.partials.address(),
            scale: 1.0 / (d as f32).sqrt(),
            group: group as u32,
            list_stride: list_stride as u32,
            max_splits: self.max_splits as u32,
        };
        let grid = Grid::of([self.max_splits, slots, 1], THREADS);
        macro_rules! of_heads {
            ($few:ident, $many:ident) => {
                // SAFETY: the lengths are checked; what the layouts and lists name is the caller's.
                unsafe {
                    match group {
                        1..=8 => $few::launch(device, stream, grid, args),
                        9..=MAX_GROUP => $many::launch(device, stream, grid, args),
                        _ => Err(Error::BadKernel { kernel: format!("attend for groups of {group}"), code: 0 }),
                    }
                }
            };
        }
        match (self.layout.format, d) {
            (KvFormat::F16, 64) => of_heads!(attend_f16_d64_h8, attend_f16_d64_h16),
            (KvFormat::F16, 96) => of_heads!(attend_f16_d96_h8, attend_f16_d96_h16),
            (KvFormat::F16, 128) => of_heads!(attend_f16_d128_h8, attend_f16_d128_h16),
            (KvFormat::F16, 256) => of_heads!(attend_f16_d256_h8, attend_f16_d256_h16),
            (KvFormat::Q8, 64) => of_heads!(attend_q8_d64_h8, attend_q8_d64_h16),
            (KvFormat::Q8, 96) => of_heads!(attend_q8_d96_h8, attend_q8_d96_h16),
            (KvFormat::Q8, 128) => of_heads!(attend_q8_d128_h8, attend_q8_d128_h16),
            (KvFormat::Q8, 256) => of_heads!(attend_q8_d256_h8, attend_q8_d256_h16),
            _ => Err(Error::BadKernel { kernel: format!("attend for heads of {d}"), code: 0 }),
        }
    }
}

/// What one slot reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReads {
    /// Positions: sinks, listed ones and window.
    pub entries: usize,
    /// Those of them that are listed.
    pub listed: usize,
}

impl SlotReads {
    /// Of a launch, one slot's part.
    pub fn traffic(&self, shape: &SlotShape) -> Traffic {
        let queries = if self.entries > 0 { shape.query_bytes() } else { 0 };
        Traffic {
            stored: self.stored(shape),
            passed: queries + self.listed * size_of::<u32>(),
            written: splits_of(self.entries) * partial_len(shape.group, shape.layout.head_dim) * size_of::<f32>(),
        }
    }

    /// Read by all its blocks of threads together, each byte once a block: a block does a split.
    pub fn by_blocks(&self, shape: &SlotShape) -> usize {
        self.stored(shape) + self.listed * size_of::<u32>() + splits_of(self.entries) * shape.query_bytes()
    }

    fn stored(&self, shape: &SlotShape) -> usize {
        2 * self.entries * shape.row_bytes()
    }
}
