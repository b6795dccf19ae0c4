//! How keys and values are stored, and where in a page.

use super::Kernels;
use super::rows::PAGE_SIZE;
use crate::error::{Error, Result};

/// Values that share a scale in [`KvFormat::Q8`]: a whole number of vectors on every instruction set.
pub const Q8_BLOCK: usize = 32;

/// How a sequence's keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    /// f16, rounded to nearest even.
    #[default]
    F16,
    /// 8-bit codes with one f32 scale for each 32 values of a row: value = code * scale, scale = largest magnitude / 127.
    Q8,
}

impl KvFormat {
    /// # Errors
    /// `InvalidOption` when heads of `head_dim` values cannot be stored so.
    pub fn check(self, head_dim: usize) -> Result<()> {
        if self == Self::Q8 && !head_dim.is_multiple_of(Q8_BLOCK) {
            let expected = format!("f16 for heads of {head_dim} values: q8 takes multiples of {Q8_BLOCK}");
            return Err(Error { option: "kvFormat", expected, actual: "q8".into() });
        }
        Ok(())
    }

    /// Bytes of one key or value.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F16 => head_dim * size_of::<u16>(),
            Self::Q8 => head_dim + head_dim / Q8_BLOCK * size_of::<f32>(),
        }
    }
}

/// Which rows of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSide {
    Keys,
    Values,
}

/// A page of one KV head: `PAGE_SIZE` keys, then as many values, `[PAGE_SIZE, head_dim]` each, contiguous; of [`KvFormat::Q8`] the codes so
/// (i8: a row of 64 is one cache line), and behind both the keys' scales, f32 `[PAGE_SIZE, head_dim / 32]`, and the values'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLayout {
    pub head_dim: usize,
    pub format: KvFormat,
}

impl PageLayout {
    /// Bytes of a page.
    pub fn bytes(self) -> usize {
        2 * PAGE_SIZE * self.format.row_bytes(self.head_dim)
    }

    /// Bytes before a row of a page, and before its scales ([`KvFormat::Q8`]). `slot`: its place in the page.
    pub fn offsets(self, side: KvSide, slot: usize) -> (usize, usize) {
        let (d, i) = (self.head_dim, if side == KvSide::Keys { slot } else { PAGE_SIZE + slot });
        match self.format {
            KvFormat::F16 => (i * d * size_of::<u16>(), 0),
            KvFormat::Q8 => (i * d, 2 * PAGE_SIZE * d + i * (d / Q8_BLOCK) * size_of::<f32>()),
        }
    }

    /// Writes key and value of a slot of a page, f32 `[head_dim]`.
    ///
    /// # Safety
    /// `page` holds a page of this layout, and nobody reads or writes the slot meanwhile; key and value hold `head_dim` values, a multiple
    /// of the kernels' lanes.
    pub unsafe fn store(self, kernels: &Kernels, page: *mut u8, slot: usize, key: *const f32, value: *const f32) {
        let d = self.head_dim;
        for (side, x) in [(KvSide::Keys, key), (KvSide::Values, value)] {
            let (row, scales) = self.offsets(side, slot);
            // SAFETY: the row is in the page, aligned for its values, and so are its scales.
            unsafe {
                match self.format {
                    KvFormat::F16 => (kernels.narrow)(x, d, page.add(row).cast()),
                    KvFormat::Q8 => (kernels.quantise)(x, d, page.add(row).cast(), page.add(scales).cast()),
                }
            }
        }
    }
}
