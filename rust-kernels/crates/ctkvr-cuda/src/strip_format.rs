//! How the strips of a matrix store its weights: those that the CPU engine packs as well, and those that are the device's alone.

use ctkvr_kernels::{BLOCK, BlockNumbers, PackedFormat, STRIP_ROWS};
use ctkvr_model::{Matrix, PackedShape};

use crate::q6k_strips;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StripFormat {
    Packed(PackedFormat),
    /// See [`crate::q6k_strips`].
    Q6K,
}

impl From<PackedFormat> for StripFormat {
    fn from(format: PackedFormat) -> Self {
        Self::Packed(format)
    }
}

impl StripFormat {
    /// Weights of a row that lie behind one header: k is a multiple of it.
    pub const fn run_len(self) -> usize {
        match self {
            Self::Packed(format) => BLOCK * format.blocks_per_run(),
            Self::Q6K => BLOCK * q6k_strips::RUN_BLOCKS,
        }
    }

    /// Bytes of a strip of k weights a row.
    pub const fn strip_bytes(self, k: usize) -> usize {
        match self {
            Self::Packed(format) => format.strip_bytes(k),
            Self::Q6K => k / self.run_len() * q6k_strips::RUN_BYTES,
        }
    }

    /// Whether a weight is more than a scale times a signed level, so that sums of activations are read.
    pub const fn has_mins(self) -> bool {
        match self {
            Self::Packed(format) => !matches!(format.numbers, BlockNumbers::Scale { .. }),
            Self::Q6K => false,
        }
    }

    /// Appends a matrix of this format, `ceil(n / 16)` strips. Rows beyond n of the last one become 0.
    pub(crate) fn pack(self, matrix: &Matrix, out: &mut Vec<u8>) {
        let first = out.len();
        out.resize(first + matrix.num_rows.div_ceil(STRIP_ROWS) * self.strip_bytes(matrix.len), 0);
        let out = &mut out[first..];
        match self {
            Self::Packed(format) => {
                PackedShape { format, k: matrix.len, n: matrix.num_rows }.pack(matrix.info.kind, matrix.bytes, out);
            }
            Self::Q6K => q6k_strips::pack(matrix.len, matrix.bytes, out),
        }
    }
}
