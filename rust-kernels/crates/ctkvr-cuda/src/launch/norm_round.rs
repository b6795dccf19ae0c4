//! The residual, the RMS norm, rounding: see `kernels/norm_round.cu`.

use crate::launch::outputs::Outputs;
use crate::launch::traffic::Traffic;
use crate::{Device, Family, Grid, Plain, Result, Span, Stream, kernel};

/// hidden += block_scale * block; x = hidden; normed = x / sqrt(mean of x^2 + epsilon) * weight * factor; normed is written. Without a block
/// hidden stays as it is, without a weight x itself is written: plain rounding.
#[derive(Debug, Clone, Copy)]
pub struct NormRound {
    /// f32 `[.., width]`, rows `hidden_stride` values apart, at multiples of 16 bytes; written where there is a block.
    pub hidden: Span<f32>,
    pub hidden_stride: usize,
    /// u32 `[rows]`: which of hidden's (and the block's) rows each row is; all of them there, and different ones where there is a block.
    /// Empty: row i is row i.
    pub row_of: Span<u32>,
    /// f32 `[.., width]`, rows `block_stride` values apart. Empty: none.
    pub block: Span<f32>,
    pub block_stride: usize,
    pub block_scale: f32,
    /// f32 `[width]`. Empty: no norm.
    pub weight: Span<f32>,
    pub epsilon: f32,
    /// Of normed values: 1, or what a model scales its last norm by.
    pub factor: f32,
    pub out: Outputs,
    pub rows: usize,
    /// A multiple of 4, at most [`MAX_WIDTH`].
    pub width: usize,
}

/// RMS norms of spans of rows: of heads (QK norms), or of whole rows. The weight is the same for all.
#[derive(Debug, Clone, Copy)]
pub struct NormRows {
    /// f32 `[rows, spans, span]`, rows `stride` values apart, at multiples of 16 bytes.
    pub x: Span<f32>,
    pub stride: usize,
    /// The same, or another buffer.
    pub out: Span<f32>,
    pub out_stride: usize,
    /// f32 `[span]`.
    pub weight: Span<f32>,
    pub epsilon: f32,
    pub rows: usize,
    pub spans: usize,
    /// A multiple of 4, at most [`MAX_WIDTH`].
    pub span: usize,
}

/// Values that 1,024 threads have in registers.
pub const MAX_WIDTH: usize = 32 << 10;

/// As in `kernels/norm_round.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NormRoundArgs {
    hidden: u64,
    block: u64,
    weight: u64,
    row_of: u64,
    out: [u64; 3],
    width: u32,
    hidden_stride: u32,
    block_stride: u32,
    block_scale: f32,
    epsilon: f32,
    factor: f32,
}
const _: () = assert!(size_of::<NormRoundArgs>() == 80);
// SAFETY: numbers without padding, as `NormRound` of kernels/norm_round.cu.
unsafe impl Plain for NormRoundArgs {}

/// As in `kernels/norm_round.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NormRowsArgs {
    x: u64,
    out: u64,
    weight: u64,
    span: u32,
    stride: u32,
    out_stride: u32,
    epsilon: f32,
}
const _: () = assert!(size_of::<NormRowsArgs>() == 40);
// SAFETY: numbers without padding, as `NormRows` of kernels/norm_round.cu.
unsafe impl Plain for NormRowsArgs {}

kernel! {
    fn norm_round(args: NormRoundArgs) needs { loads_16: 2 };
    fn norm_rows(args: NormRowsArgs) needs { loads_16: 2 };
}

pub const FAMILY: Family = Family { file: "norm_round", kernels: &[norm_round::DECLARATION, norm_rows::DECLARATION] };

/// Four values each, whole warps; the same whatever the number of rows.
fn threads(width: usize) -> usize {
    assert!(width > 0 && width.is_multiple_of(4) && width <= MAX_WIDTH, "rows of {width} values are not normed");
    (width / 4).next_multiple_of(32).min(1024)
}

/// Whether four values at a time are aligned.
fn is_aligned(span: Span<f32>, stride: usize) -> bool {
    span.address().is_multiple_of(16) && stride.is_multiple_of(4)
}

/// Values from the first of the first row to the last of the last one.
pub(super) fn reach(rows: usize, stride: usize, width: usize) -> usize {
    rows.checked_sub(1).map_or(0, |before| before * stride + width)
}

impl NormRound {
    /// # Errors
    /// `Length` when a span has another, or ends before the last row; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// For a width that is not normed, or not rounded, and for addresses and strides that are not aligned.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { rows, width, .. } = *self;
        let (threads, has_block) = (threads(width), !self.block.is_empty());
        assert!(is_aligned(self.hidden, self.hidden_stride), "norm_round: hidden is not aligned");
        assert!(!has_block || is_aligned(self.block, self.block_stride), "norm_round: the block is not aligned");
        // Of listed rows nobody here knows which they are.
        let reached = if self.row_of.is_empty() { rows } else { 1.min(rows) };
        self.hidden.check_at_least("norm_round: hidden", reach(reached, self.hidden_stride, width))?;
        if has_block {
            self.block.check_at_least("norm_round: block", reach(reached, self.block_stride, width))?;
        }
        if !self.row_of.is_empty() {
            self.row_of.check("norm_round: row_of", rows)?;
        }
        if !self.weight.is_empty() {
            self.weight.check("norm_round: weight", width)?;
            assert!(is_aligned(self.weight, 0), "norm_round: the weight is not aligned");
        }
        let out = self.out.checked(rows, width)?;
        if rows == 0 {
            return Ok(());
        }
        let args = NormRoundArgs {
            hidden: self.hidden.address(),
            block: self.block.address(),
            weight: self.weight.address(),
            row_of: self.row_of.address(),
            out,
            width: width as u32,
            hidden_stride: self.hidden_stride as u32,
            block_stride: self.block_stride as u32,
            block_scale: self.block_scale,
            epsilon: self.epsilon,
            factor: self.factor,
        };
        // SAFETY: the lengths are checked; listed rows are the caller's.
        unsafe { norm_round::launch(device, stream, Grid::new(rows, threads), args) }
    }
}

impl NormRows {
    /// # Errors
    /// `Length` when a span has another, or ends before the last row; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// For a span that is not normed, and for addresses and strides that are not aligned.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { rows, spans, span, .. } = *self;
        let threads = threads(span);
        assert!(is_aligned(self.x, self.stride) && is_aligned(self.out, self.out_stride), "norm_rows: rows are not aligned");
        assert!(is_aligned(self.weight, 0), "norm_rows: the weight is not aligned");
        self.x.check_at_least("norm_rows: x", reach(rows, self.stride, spans * span))?;
        self.out.check_at_least("norm_rows: out", reach(rows, self.out_stride, spans * span))?;
        self.weight.check("norm_rows: weight", span)?;
        if rows == 0 || spans == 0 {
            return Ok(());
        }
        let args = NormRowsArgs {
            x: self.x.address(),
            out: self.out.address(),
            weight: self.weight.address(),
            span: span as u32,
            stride: self.stride as u32,
            out_stride: self.out_stride as u32,
            epsilon: self.epsilon,
        };
        // SAFETY: the lengths are checked.
        unsafe { norm_rows::launch(device, stream, Grid::of([spans, rows, 1], threads), args) }
    }
}

impl NormRound {
    pub fn traffic(&self) -> Traffic {
        let Self { rows, width, .. } = *self;
        let row = rows * width * size_of::<f32>();
        let block = if self.block.is_empty() { 0 } else { row };
        Traffic {
            stored: self.weight.bytes(),
            passed: row + block + self.row_of.bytes(),
            written: block + rows * self.out.row_bytes(width),
        }
    }
}

impl NormRows {
    pub fn traffic(&self) -> Traffic {
        let rows = self.rows * self.spans * self.span * size_of::<f32>();
        Traffic { stored: self.weight.bytes(), passed: rows, written: rows }
    }
}
