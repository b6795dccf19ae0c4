//! The largest logit of each row: see `kernels/argmax.cu`.

use crate::launch::norm_round::reach;
use crate::launch::traffic::Traffic;
use crate::{Device, Family, Grid, Plain, Result, Span, Stream, kernel};

/// Of equal logits the smallest id. Of a row with a NaN or +infinity the first such id and [`NOT_FINITE`].
#[derive(Debug, Clone, Copy)]
pub struct Argmax {
    /// f32 `[rows, vocab]`, rows `stride` values apart.
    pub logits: Span<f32>,
    pub stride: usize,
    /// u64 `[rows, PARTS]`: what is found on the way.
    pub best: Span<u64>,
    /// u32 `[rows]`: the token ids.
    pub ids: Span<u32>,
    pub rows: usize,
    /// At least 1.
    pub vocab: usize,
}

/// The bit that says that a row's logits are not finite.
pub const NOT_FINITE: u32 = 1 << 31;

/// Blocks of threads that share a row.
pub const PARTS: usize = 32;

/// As in `kernels/argmax.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ArgmaxArgs {
    logits: u64,
    best: u64,
    ids: u64,
    vocab: u32,
    stride: u32,
    parts: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<ArgmaxArgs>() == 40);
// SAFETY: numbers without padding, as `Argmax` of kernels/argmax.cu.
unsafe impl Plain for ArgmaxArgs {}

kernel! {
    fn argmax_parts(args: ArgmaxArgs);
    fn argmax_merge(args: ArgmaxArgs);
}

pub const FAMILY: Family = Family { file: "argmax", kernels: &[argmax_parts::DECLARATION, argmax_merge::DECLARATION] };

/// As in `kernels/argmax.cu`.
const THREADS: usize = 256;
const MERGE_THREADS: usize = 32;

impl Argmax {
    /// # Errors
    /// `Length` when a span has another, or ends before the last row; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// Without a vocabulary.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { rows, vocab, .. } = *self;
        assert!(vocab > 0, "the largest of no logits");
        self.logits.check_at_least("argmax: logits", reach(rows, self.stride, vocab))?;
        self.best.check("argmax: best", rows * PARTS)?;
        self.ids.check("argmax: ids", rows)?;
        if rows == 0 {
            return Ok(());
        }
        let args = ArgmaxArgs {
            logits: self.logits.address(),
            best: self.best.address(),
            ids: self.ids.address(),
            vocab: vocab as u32,
            stride: self.stride as u32,
            parts: PARTS as u32,
            reserved: 0,
        };
        // SAFETY: the lengths are checked.
        unsafe {
            argmax_parts::launch(device, stream, Grid::of([PARTS, rows, 1], THREADS), args)?;
            argmax_merge::launch(device, stream, Grid::new(rows, MERGE_THREADS), args)
        }
    }
}

impl Argmax {
    /// Of both launches.
    pub fn traffic(&self) -> Traffic {
        let Self { rows, vocab, .. } = *self;
        let parts = rows * PARTS * size_of::<u64>();
        let (logits, ids) = (rows * vocab * size_of::<f32>(), rows * size_of::<u32>());
        Traffic { stored: 0, passed: logits + parts, written: parts + ids }
    }
}
