//! How rows of activations are written: see `kernels/rounding.cuh`.

use ctkvr_kernels::{BLOCK, activation_bytes};
use half::f16;

use crate::{Result, Span};

/// What is written of each row; an empty span is not. Rows are contiguous.
#[derive(Debug, Clone, Copy)]
pub struct Outputs {
    /// u8 `[rows, activation_bytes(width)]`, at a multiple of 8 bytes: 8 bits, as [`ctkvr_kernels::PackedKernels::round`] rounds them, the same
    /// bits. Width: a multiple of 32.
    pub rounded: Span<u8>,
    /// f32 `[rows, width]`, at a multiple of 16 bytes.
    pub f32: Span<f32>,
    /// f16 `[rows, width]`, at a multiple of 16 bytes: to nearest even.
    pub f16: Span<f16>,
}

impl Outputs {
    pub const NONE: Self = Self { rounded: Span::EMPTY, f32: Span::EMPTY, f16: Span::EMPTY };

    /// Bytes of a row of `width` values in all forms that are written.
    pub(super) fn row_bytes(&self, width: usize) -> usize {
        let rounded = if self.rounded.is_empty() { 0 } else { activation_bytes(width) };
        let f32 = if self.f32.is_empty() { 0 } else { width * size_of::<f32>() };
        let f16 = if self.f16.is_empty() { 0 } else { width * size_of::<f16>() };
        rounded + f32 + f16
    }

    /// Addresses, as `Outputs` of kernels/rounding.cuh.
    pub(super) fn checked(&self, rows: usize, width: usize) -> Result<[u64; 3]> {
        let Self { rounded, f32, f16 } = *self;
        if !rounded.is_empty() {
            assert!(width.is_multiple_of(BLOCK), "rows of {width} values are not rounded: no multiple of {BLOCK}");
            rounded.check("rounded rows", rows * activation_bytes(width))?;
        }
        if !f32.is_empty() {
            f32.check("rows in f32", rows * width)?;
        }
        if !f16.is_empty() {
            f16.check("rows in f16", rows * width)?;
        }
        let addresses = [rounded.address(), f32.address(), f16.address()];
        assert!(addresses.iter().zip([8, 16, 16]).all(|(at, to)| at.is_multiple_of(to)), "rows are not aligned: {self:?}");
        Ok(addresses)
    }
}
