//! Linear layers over f16 rows: see `kernels/rows_f16.cu`.

use half::f16;

use crate::launch::linear::{FEW, LinearArgs};
use crate::launch::traffic::Traffic;
use crate::{Device, Family, Grid, Result, Span, Stream, kernel};

/// As [`super::linear::Linear`], of weights that have no strips. A row's bits do not depend on its company here either.
#[derive(Debug, Clone, Copy)]
pub struct LinearF16 {
    /// f16 `[n, k]`, at a multiple of 16 bytes.
    pub weights: Span<f16>,
    /// f32 `[n]`. Empty: none.
    pub bias: Span<f32>,
    /// f16 `[rows, k]`, at a multiple of 16 bytes.
    pub activations: Span<f16>,
    /// f32 `[rows, n]`, rows `out_stride` values apart. Values between rows are left alone.
    pub out: Span<f32>,
    pub out_stride: usize,
    pub rows: usize,
    /// A multiple of 32.
    pub k: usize,
    pub n: usize,
}

kernel! {
    fn few_rows_f16(args: LinearArgs) needs { loads_16: 16, products: 2 };
    fn many_rows_f16(args: LinearArgs) needs { loads_16: 4, products: 16 };
}

pub const FAMILY: Family = Family { file: "rows_f16", kernels: &[few_rows_f16::DECLARATION, many_rows_f16::DECLARATION] };

/// As in `kernels/rows_f16.cu`.
const THREADS: usize = 128;
const OUTPUTS: usize = 16;
const RUN: usize = 32;
const MANY_TILE: usize = 64;

impl LinearF16 {
    /// # Errors
    /// `Length` when a span has another, or does not reach the last output; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// When k is no multiple of 32, and for addresses that are not aligned.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { rows, k, n, .. } = *self;
        assert!(k > 0 && k.is_multiple_of(RUN), "f16 rows of {k} weights");
        assert!(self.weights.address().is_multiple_of(16) && self.activations.address().is_multiple_of(16), "linear: not aligned");
        self.weights.check("linear: weights", n * k)?;
        self.activations.check("linear: activations", rows * k)?;
        if !self.bias.is_empty() {
            self.bias.check("linear: bias", n)?;
        }
        if rows == 0 || n == 0 {
            return Ok(());
        }
        assert!(self.out_stride >= n, "linear: rows of {n} outputs, {} apart", self.out_stride);
        self.out.check_at_least("linear: out", (rows - 1) * self.out_stride + n)?;
        let args = LinearArgs {
            weights: self.weights.address(),
            activations: self.activations.address(),
            bias: self.bias.address(),
            out: self.out.address(),
            k: k as u32,
            n: n as u32,
            rows: rows as u32,
            out_stride: self.out_stride as u32,
        };
        let strips = n.div_ceil(OUTPUTS);
        // SAFETY: the lengths are checked.
        unsafe {
            if rows <= FEW {
                few_rows_f16::launch(device, stream, Grid::new(strips, THREADS), args)
            } else {
                many_rows_f16::launch(device, stream, Grid::of([strips, rows.div_ceil(MANY_TILE), 1], THREADS), args)
            }
        }
    }
}

impl LinearF16 {
    pub fn traffic(&self) -> Traffic {
        let Self { rows, k, n, .. } = *self;
        Traffic {
            stored: n * k * size_of::<f16>() + self.bias.bytes(),
            passed: rows * k * size_of::<f16>(),
            written: rows * n * size_of::<f32>(),
        }
    }

    /// Read by all blocks of threads together, each byte once a block.
    pub fn by_blocks(&self) -> usize {
        let Traffic { stored, passed, .. } = self.traffic();
        let row_tiles = if self.rows <= FEW { 1 } else { self.rows.div_ceil(MANY_TILE) };
        row_tiles * stored + self.n.div_ceil(OUTPUTS) * passed
    }
}
