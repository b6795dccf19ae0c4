//! Linear layers over packed strips: see `kernels/strips.cuh`, `few_rows.cu`, `many_rows.cu`.

use ctkvr_kernels::{BLOCK, BlockNumbers, LevelBits, PackedFormat, STRIP_ROWS, activation_bytes};

use crate::launch::traffic::Traffic;
use crate::{Device, Family, Grid, Plain, Result, Span, Stream, StripFormat, kernel};

/// A matrix of quantised weights, `[n, k]`, as its format says.
#[derive(Debug, Clone, Copy)]
pub struct Strips {
    /// u8 `[ceil(n / 16), format.strip_bytes(k)]`, at a multiple of 16 bytes. Rows beyond n of the last strip are there, and are not used.
    pub bytes: Span<u8>,
    /// One of those that [`Strips::has_kernels`] knows.
    pub format: StripFormat,
    /// Weights of a row: a multiple of the format's `run_len`.
    pub k: usize,
    /// Rows, so outputs.
    pub n: usize,
}

impl Strips {
    /// Whether a format can be multiplied: all that files store.
    pub fn has_kernels(format: StripFormat) -> bool {
        kernels_of(format).is_some()
    }
}

/// `out[i, r]` = sum over k of weight `[r, k]` times activation `[i, k]`, plus `bias[r]`. Sums of a block of 32 are exact integers; those of
/// blocks b with the same b % 4 are added in f32 in their order, then the four, then the bias: a row's bits do not depend on its company.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    pub weights: Strips,
    /// f32 `[n]`. Empty: none.
    pub bias: Span<f32>,
    /// u8 `[rows, activation_bytes(k)]`, at a multiple of 8 bytes: what [`super::norm_round::NormRound`] writes.
    pub activations: Span<u8>,
    /// f32 `[rows, n]`, rows `out_stride` values apart. Values between rows are left alone.
    pub out: Span<f32>,
    pub out_stride: usize,
    pub rows: usize,
}

/// As in `kernels/strips.cuh`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LinearArgs {
    pub(super) weights: u64,
    pub(super) activations: u64,
    pub(super) bias: u64,
    pub(super) out: u64,
    pub(super) k: u32,
    pub(super) n: u32,
    pub(super) rows: u32,
    pub(super) out_stride: u32,
}
const _: () = assert!(size_of::<LinearArgs>() == 48);
// SAFETY: numbers without padding, as `Linear` of kernels/strips.cuh and `LinearF16` of kernels/rows_f16.cu.
unsafe impl Plain for LinearArgs {}

type Launch = unsafe fn(&Device, &Stream, Grid, LinearArgs) -> Result<()>;

/// The kernels of a format: for one row, up to 8, and more.
type OfFormat = [Launch; 3];

macro_rules! kernels {
    ($($one:ident $few:ident $many:ident;)*) => {
        kernel! {$(
            fn $one(args: LinearArgs) needs { loads_16: 2, products: 2 };
            fn $few(args: LinearArgs) needs { loads_16: 2, products: 2 };
            fn $many(args: LinearArgs) needs { loads_16: 2, products: 8 };
        )*}

        pub const FEW_ROWS: Family = Family { file: "few_rows", kernels: &[$($one::DECLARATION, $few::DECLARATION),*] };
        pub const MANY_ROWS: Family = Family { file: "many_rows", kernels: &[$($many::DECLARATION),*] };

        const KERNELS: [OfFormat; 8] = [$([$one::launch, $few::launch, $many::launch]),*];
    };
}
kernels! {
    one_row_4_scale few_rows_4_scale many_rows_4_scale;
    one_row_4_min few_rows_4_min many_rows_4_min;
    one_row_4_shared few_rows_4_shared many_rows_4_shared;
    one_row_5_scale few_rows_5_scale many_rows_5_scale;
    one_row_5_min few_rows_5_min many_rows_5_min;
    one_row_5_shared few_rows_5_shared many_rows_5_shared;
    one_row_6_halves few_rows_6_halves many_rows_6_halves;
    one_row_8_scale few_rows_8_scale many_rows_8_scale;
}

/// `None` for a format that no file stores: kernels know the mins of those that follow from the scale.
fn kernels_of(format: StripFormat) -> Option<OfFormat> {
    use BlockNumbers::{Scale, ScaleAndMin, Shared};
    use LevelBits::{Eight, Five, Four};
    let place = match format {
        StripFormat::Packed(PackedFormat { bits, numbers }) => match (bits, numbers) {
            (Four, Scale { min: -8.0 }) => 0,
            (Four, ScaleAndMin) => 1,
            (Four, Shared) => 2,
            (Five, Scale { min: -16.0 }) => 3,
            (Five, ScaleAndMin) => 4,
            (Five, Shared) => 5,
            (Eight, Scale { min: -128.0 }) => 7,
            _ => return None,
        },
        StripFormat::Q6K => 6,
    };
    Some(KERNELS[place])
}

/// Rows that the kernel for few of them takes.
pub const FEW: usize = 8;
/// As in `kernels/few_rows.cu`.
const FEW_THREADS: usize = 128;
/// As in `kernels/many_rows.cu`.
const MANY_THREADS: usize = 256;
const MANY_STRIPS: usize = 4;
const MANY_TILE: usize = 32;

impl Linear {
    /// # Errors
    /// `Length` when a span has another, or does not reach the last output; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// For a format without kernels, a k that it does not have, and addresses that are not aligned.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Strips { bytes, format, k, n } = self.weights;
        let Some([one, few, many]) = kernels_of(format) else { panic!("{format:?} has no kernels") };
        assert!(k > 0 && k.is_multiple_of(format.run_len()), "{format:?} with rows of {k} weights");
        assert!(bytes.address().is_multiple_of(16) && self.activations.address().is_multiple_of(8), "linear: not aligned");
        let num_strips = n.div_ceil(STRIP_ROWS);
        bytes.check("linear: weights", num_strips * format.strip_bytes(k))?;
        self.activations.check("linear: activations", self.rows * activation_bytes(k))?;
        if !self.bias.is_empty() {
            self.bias.check("linear: bias", n)?;
        }
        if self.rows == 0 || n == 0 {
            return Ok(());
        }
        assert!(self.out_stride >= n, "linear: rows of {n} outputs, {} apart", self.out_stride);
        self.out.check_at_least("linear: out", (self.rows - 1) * self.out_stride + n)?;
        let args = LinearArgs {
            weights: bytes.address(),
            activations: self.activations.address(),
            bias: self.bias.address(),
            out: self.out.address(),
            k: k as u32,
            n: n as u32,
            rows: self.rows as u32,
            out_stride: self.out_stride as u32,
        };
        let (launch, grid) = match self.rows {
            1 => (one, Grid::new(num_strips, FEW_THREADS)),
            ..=FEW => (few, Grid::new(num_strips, FEW_THREADS)),
            rows => (many, Grid::of([num_strips.div_ceil(MANY_STRIPS), rows.div_ceil(MANY_TILE), 1], MANY_THREADS)),
        };
        // SAFETY: the lengths are checked.
        unsafe { launch(device, stream, grid, args) }
    }
}

impl Linear {
    pub fn traffic(&self) -> Traffic {
        let Self { weights, rows, .. } = *self;
        Traffic {
            stored: weights.len() + self.bias.bytes(),
            passed: rows * self.row_bytes(),
            written: rows * weights.n * size_of::<f32>(),
        }
    }

    /// Read by all blocks of threads together, each byte once a block.
    pub fn by_blocks(&self) -> usize {
        let Self { weights, rows, .. } = *self;
        let strips = weights.n.div_ceil(STRIP_ROWS);
        let (row_tiles, strip_tiles) =
            if rows <= FEW { (1, strips) } else { (rows.div_ceil(MANY_TILE), strips.div_ceil(MANY_STRIPS)) };
        row_tiles * (weights.len() + self.bias.bytes()) + strip_tiles * rows * self.row_bytes()
    }

    /// Bytes read of a row of activations: sums of codes only where mins are added.
    fn row_bytes(&self) -> usize {
        let Strips { k, format, .. } = self.weights;
        let unread = if format.has_mins() { 0 } else { k / BLOCK * size_of::<f32>() };
        activation_bytes(k) - unread
    }
}

impl Strips {
    /// Bytes of all strips.
    fn len(&self) -> usize {
        self.n.div_ceil(STRIP_ROWS) * self.format.strip_bytes(self.k)
    }
}
