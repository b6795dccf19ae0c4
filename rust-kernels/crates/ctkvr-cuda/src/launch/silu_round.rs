//! The gate of a feed-forward layer, and rounding: see `kernels/silu_round.cu`.

use crate::launch::norm_round::reach;
use crate::launch::outputs::Outputs;
use crate::launch::traffic::Traffic;
use crate::{Device, Family, Grid, Plain, Result, Span, Stream, kernel};

/// silu(gate) * up, written; silu(x) = x / (1 + e^-x).
#[derive(Debug, Clone, Copy)]
pub struct SiluRound {
    /// f32 `[rows, width]`, rows `stride` values apart, at multiples of 16 bytes.
    pub gate: Span<f32>,
    /// The same. Of joined layers both are parts of one buffer.
    pub up: Span<f32>,
    pub stride: usize,
    pub out: Outputs,
    pub rows: usize,
    /// A multiple of 4.
    pub width: usize,
}

/// As in `kernels/silu_round.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SiluRoundArgs {
    gate: u64,
    up: u64,
    out: [u64; 3],
    width: u32,
    stride: u32,
}
const _: () = assert!(size_of::<SiluRoundArgs>() == 48);
// SAFETY: numbers without padding, as `SiluRound` of kernels/silu_round.cu.
unsafe impl Plain for SiluRoundArgs {}

kernel! {
    fn silu_round(args: SiluRoundArgs) needs { loads_16: 2 };
}

pub const FAMILY: Family = Family { file: "silu_round", kernels: &[silu_round::DECLARATION] };

/// As in `kernels/silu_round.cu`.
const THREADS: usize = 128;
const VALUES_EACH: usize = 4;

impl SiluRound {
    /// # Errors
    /// `Length` when a span ends before the last row, or an output has another length; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// For a width that is no multiple of 4, or not rounded, and for addresses and strides that are not aligned.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { rows, width, stride, .. } = *self;
        let addresses = [self.gate.address(), self.up.address()];
        assert!(width.is_multiple_of(4) && stride.is_multiple_of(4), "silu_round: {width} values, {stride} apart");
        assert!(addresses.iter().all(|at| at.is_multiple_of(16)), "silu_round: rows are not aligned");
        self.gate.check_at_least("silu_round: gate", reach(rows, stride, width))?;
        self.up.check_at_least("silu_round: up", reach(rows, stride, width))?;
        let out = self.out.checked(rows, width)?;
        if rows == 0 || width == 0 {
            return Ok(());
        }
        let args = SiluRoundArgs { gate: addresses[0], up: addresses[1], out, width: width as u32, stride: stride as u32 };
        let grid = Grid::of([width.div_ceil(VALUES_EACH * THREADS), rows, 1], THREADS);
        // SAFETY: the lengths are checked.
        unsafe { silu_round::launch(device, stream, grid, args) }
    }
}

impl SiluRound {
    pub fn traffic(&self) -> Traffic {
        let Self { rows, width, .. } = *self;
        Traffic { stored: 0, passed: 2 * rows * width * size_of::<f32>(), written: rows * self.out.row_bytes(width) }
    }
}
