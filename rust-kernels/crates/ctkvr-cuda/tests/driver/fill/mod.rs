//! A sample: the kernel of stand-in/kernels/fill.cu and its launcher.

use ctkvr_cuda::{Device, Family, Grid, Result, Span, Stream, kernel};

kernel! {
    /// out[i] = value for i < count.
    pub fn fill_u32(out: Span<u32>, count: i32, value: u32);
}

pub const FAMILY: Family = Family { file: "fill", kernels: &[fill_u32::DECLARATION] };

const THREADS: usize = 256;

/// Fills the first `count` elements of `out`.
///
/// # Errors
/// `Length` when `out` is shorter; `LaunchFailed`, `DeviceLost`.
pub fn fill(device: &Device, stream: &Stream, out: Span<u32>, count: usize, value: u32) -> Result<()> {
    out.check_at_least("fill: out", count)?;
    if count == 0 {
        return Ok(());
    }
    let grid = Grid::new(count.div_ceil(THREADS), THREADS);
    // SAFETY: out has count elements.
    unsafe { fill_u32::launch(device, stream, grid, out, count as i32, value) }
}
