//! From ggml's blocks of weights to the strips that ctkvr-kernels' packed products read, and those of a device: same levels, scales and
//! mins, another order.

use ctkvr_kernels::{BLOCK, BlockNumbers, LevelBits, PackedFormat, STRIP_ROWS};
use llama_cpp_sys_2 as sys;

use crate::{TensorInfo, num_usable_threads};

/// The shape of a packed matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackedShape {
    pub format: PackedFormat,
    /// Weights of a row.
    pub k: usize,
    /// Rows, so outputs.
    pub n: usize,
}

/// Where ggml keeps what of a row's run: one block of 32, or the 256 weights of a K-quant. Byte offsets; scale f16 at 0, min f16 behind it
/// where there is one.
struct Source {
    bytes: usize,
    has_min: bool,
    /// Where bits 0 to 3 of the levels are, or all 8.
    levels: usize,
    /// Where the fifth bits are.
    fifth: Option<usize>,
}

/// How ggml's types Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K and Q5_K (ggml-common.h) are packed; `None` for others.
fn source(kind: sys::ggml_type) -> Option<(PackedFormat, Source)> {
    use BlockNumbers::{Scale, ScaleAndMin, Shared};
    use LevelBits::{Eight, Five, Four};
    let (bits, numbers, bytes, levels, fifth) = match kind {
        sys::GGML_TYPE_Q4_0 => (Four, Scale { min: -8.0 }, 18, 2, None),
        sys::GGML_TYPE_Q4_1 => (Four, ScaleAndMin, 20, 4, None),
        sys::GGML_TYPE_Q5_0 => (Five, Scale { min: -16.0 }, 22, 6, Some(2)),
        sys::GGML_TYPE_Q5_1 => (Five, ScaleAndMin, 24, 8, Some(4)),
        sys::GGML_TYPE_Q8_0 => (Eight, Scale { min: -128.0 }, 34, 2, None),
        sys::GGML_TYPE_Q4_K => (Four, Shared, 144, 16, None),
        sys::GGML_TYPE_Q5_K => (Five, Shared, 176, 48, Some(16)),
        _ => return None,
    };
    let has_min = !matches!(numbers, Scale { .. });
    Some((PackedFormat { bits, numbers }, Source { bytes, has_min, levels, fifth }))
}

impl PackedShape {
    /// How a tensor would be packed; `None` when its type is not one of those.
    pub fn of(info: &TensorInfo) -> Option<Self> {
        let (format, _) = source(info.kind)?;
        let [k, n, ..] = info.shape.map(|len| usize::try_from(len).ok());
        Some(Self { format, k: k.filter(|k| k.is_multiple_of(BLOCK * format.blocks_per_run()))?, n: n? })
    }

    /// Bytes of the packed matrix; `None` when they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        self.num_strips().checked_mul(self.strip_bytes())
    }

    pub fn num_strips(&self) -> usize {
        self.n.div_ceil(STRIP_ROWS)
    }

    pub fn strip_bytes(&self) -> usize {
        self.format.strip_bytes(self.k)
    }

    /// Packs the bytes of a tensor of type `kind` on all threads this process may use; `out` holds [`PackedShape::bytes`]. Rows beyond n of
    /// the last strip become 0.
    pub fn pack(&self, kind: sys::ggml_type, bytes: &[u8], out: &mut [u8]) {
        let Some((_, source)) = source(kind) else { unreachable!("only such types are planned to be packed") };
        let rows_bytes = STRIP_ROWS * self.k / BLOCK / self.format.blocks_per_run() * source.bytes;
        let strips_each = self.num_strips().div_ceil(num_usable_threads()).max(1);
        std::thread::scope(|scope| {
            for (bytes, out) in bytes.chunks(strips_each * rows_bytes).zip(out.chunks_mut(strips_each * self.strip_bytes())) {
                let source = &source;
                scope.spawn(move || {
                    let strips = bytes.chunks(rows_bytes).zip(out.chunks_exact_mut(self.strip_bytes()));
                    strips.for_each(|(rows, strip)| self.pack_strip(source, rows, strip));
                });
            }
        });
    }

    fn pack_strip(&self, source: &Source, rows: &[u8], strip: &mut [u8]) {
        let row_bytes = self.k / BLOCK / self.format.blocks_per_run() * source.bytes;
        for (i, run) in strip.chunks_exact_mut(self.format.run_bytes()).enumerate() {
            let mut from = [None; STRIP_ROWS];
            from.iter_mut().zip(rows.chunks_exact(row_bytes)).for_each(|(from, row)| *from = row.chunks_exact(source.bytes).nth(i));
            self.pack_run(source, &from, run);
        }
    }

    /// Packs one run of each row of a strip; no bytes: a row of zeros.
    fn pack_run(&self, source: &Source, rows: &[Option<&[u8]>; STRIP_ROWS], out: &mut [u8]) {
        let halves = |at: usize| rows.map(|row| row.map_or(0, |row| u16::from_le_bytes([row[at], row[at + 1]])));
        let (scales, mins) = (halves(0), if source.has_min { halves(2) } else { [0; STRIP_ROWS] });
        let (header, blocks) = out.split_at_mut(self.format.header_bytes());
        self.format.pack_header(&scales, &mins, header);
        for (b, block) in blocks.chunks_exact_mut(self.format.block_bytes()).enumerate() {
            let levels = rows.map(|row| row.map_or([0; BLOCK], |row| source.levels(self.format, row, b)));
            if self.format.numbers == BlockNumbers::Shared {
                let own = rows.map(|row| row.map_or([0; 2], |row| shared_out(row, b)));
                self.format.pack_block(&levels, &own.map(|[scale, _]| scale), &own.map(|[_, min]| min), block);
            } else {
                self.format.pack_block(&levels, &scales, &mins, block);
            }
        }
    }
}

/// What block b of a K-quant's eight has of the scale and of the min that they share: 6 bits each, from 12 bytes behind them.
fn shared_out(run: &[u8], b: usize) -> [u16; 2] {
    let packed = &run[4..16];
    let [scale, min] = if b < 4 {
        [packed[b] & 63, packed[b + 4] & 63]
    } else {
        [packed[b + 4] & 15 | packed[b - 4] >> 6 << 4, packed[b + 4] >> 4 | packed[b] >> 6 << 4]
    };
    [scale.into(), min.into()]
}

impl Source {
    /// Levels of block b of a row's run. Plain loops: the compiler makes vectors of them.
    fn levels(&self, format: PackedFormat, run: &[u8], b: usize) -> [u8; BLOCK] {
        let shared = format.numbers == BlockNumbers::Shared;
        let mut levels = [0; BLOCK];
        let stored = &run[self.levels + b / 2 * BLOCK..];
        if format.bits == LevelBits::Eight {
            // Signed in the file; the min of -128 scales takes the shift back.
            levels.iter_mut().zip(stored).for_each(|(level, x)| *level = x ^ 0x80);
        } else if shared {
            // Every second block is in the high bits of its 32 bytes.
            let shift = 4 * (b % 2);
            levels.iter_mut().zip(stored).for_each(|(level, x)| *level = x >> shift & 15);
        } else {
            let (low, high) = levels.split_at_mut(BLOCK / 2);
            low.iter_mut().zip(stored).for_each(|(level, x)| *level = x & 15);
            high.iter_mut().zip(stored).for_each(|(level, x)| *level = x >> 4);
        }
        match self.fifth {
            None => {}
            Some(at) if shared => levels.iter_mut().zip(&run[at..]).for_each(|(level, x)| *level |= (x >> b & 1) << 4),
            Some(at) => {
                let fifth = u32::from_le_bytes([run[at], run[at + 1], run[at + 2], run[at + 3]]);
                levels.iter_mut().enumerate().for_each(|(i, level)| *level |= ((fifth >> i & 1) << 4) as u8);
            }
        }
        levels
    }
}
