//! From ggml's blocks of 32 weights to the strips that ctkvr-core's packed products read: same levels, scales and mins, another order.

use ctkvr_core::{BLOCK, LevelBits, PackedFormat, STRIP_ROWS};
use llama_cpp_sys_2 as sys;

use crate::gguf::TensorInfo;

/// The shape of a packed matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PackedShape {
    pub format: PackedFormat,
    /// Weights of a row.
    pub k: usize,
    /// Rows, so outputs.
    pub n: usize,
}

/// Where ggml's block of a type has what; byte offsets.
struct Source {
    bytes: usize,
    /// f16, beside the scale at 0.
    min: Option<usize>,
    /// u32, bit i the fifth bit of weight i.
    fifth: Option<usize>,
    levels: usize,
}

/// Blocks of ggml's types Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 (ggml-common.h); `None` for others.
fn source(kind: sys::ggml_type) -> Option<(PackedFormat, Source)> {
    use LevelBits::{Eight, Five, Four};
    let (bits, fixed_min, source) = match kind {
        sys::GGML_TYPE_Q4_0 => (Four, Some(-8.0), Source { bytes: 18, min: None, fifth: None, levels: 2 }),
        sys::GGML_TYPE_Q4_1 => (Four, None, Source { bytes: 20, min: Some(2), fifth: None, levels: 4 }),
        sys::GGML_TYPE_Q5_0 => (Five, Some(-16.0), Source { bytes: 22, min: None, fifth: Some(2), levels: 6 }),
        sys::GGML_TYPE_Q5_1 => (Five, None, Source { bytes: 24, min: Some(2), fifth: Some(4), levels: 8 }),
        sys::GGML_TYPE_Q8_0 => (Eight, Some(-128.0), Source { bytes: 34, min: None, fifth: None, levels: 2 }),
        _ => return None,
    };
    Some((PackedFormat { bits, fixed_min }, source))
}

impl PackedShape {
    /// How a tensor would be packed; `None` when its type is not one of those.
    pub fn of(info: &TensorInfo) -> Option<Self> {
        let (format, _) = source(info.kind)?;
        let [k, n, ..] = info.shape.map(|len| usize::try_from(len).ok());
        Some(Self { format, k: k.filter(|k| k.is_multiple_of(BLOCK))?, n: n? })
    }

    /// Bytes of the packed matrix; `None` when they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        self.format.matrix_bytes(self.n, self.k)
    }

    pub fn num_strips(&self) -> usize {
        self.n.div_ceil(STRIP_ROWS)
    }

    pub fn strip_bytes(&self) -> usize {
        self.k / BLOCK * self.format.block_bytes()
    }

    /// Packs the bytes of a tensor of type `kind`; `out` holds [`PackedShape::bytes`]. Rows beyond n of the last strip become 0.
    pub fn pack(&self, kind: sys::ggml_type, bytes: &[u8], out: &mut [u8]) {
        let Some((_, source)) = source(kind) else { unreachable!("only such types are planned to be packed") };
        let row_bytes = self.k / BLOCK * source.bytes;
        for (rows, strip) in bytes.chunks(STRIP_ROWS * row_bytes).zip(out.chunks_exact_mut(self.strip_bytes())) {
            for (b, block) in strip.chunks_exact_mut(self.format.block_bytes()).enumerate() {
                let mut levels = [[0; BLOCK]; STRIP_ROWS];
                let (mut scales, mut mins) = ([0; STRIP_ROWS], [0; STRIP_ROWS]);
                for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
                    let from = &row[b * source.bytes..(b + 1) * source.bytes];
                    scales[r] = half(from, 0);
                    mins[r] = source.min.map_or(0, |at| half(from, at));
                    source.read_levels(self.format.bits, from, &mut levels[r]);
                }
                self.format.pack_block(&levels, &scales, &mins, block);
            }
        }
    }
}

/// The bits of the f16 at an offset.
fn half(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

impl Source {
    fn read_levels(&self, bits: LevelBits, block: &[u8], levels: &mut [u8; BLOCK]) {
        let stored = &block[self.levels..];
        if bits == LevelBits::Eight {
            // Signed in the file; the min of -128 scales takes the shift back.
            levels.iter_mut().zip(stored).for_each(|(level, x)| *level = x ^ 0x80);
            return;
        }
        for (i, x) in stored.iter().enumerate() {
            levels[i] = x & 15;
            levels[i + BLOCK / 2] = x >> 4;
        }
        if let Some(at) = self.fifth {
            let fifth = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
            levels.iter_mut().enumerate().for_each(|(i, level)| *level |= ((fifth >> i & 1) << 4) as u8);
        }
    }
}
