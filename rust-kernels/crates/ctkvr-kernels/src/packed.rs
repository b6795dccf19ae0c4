//! Matrix products of quantised weights with activations of 8 bits and sums in 32-bit integers, for CPUs that multiply several pairs of
//! bytes in one instruction. Fast for one row of activations, where the weights' bytes are the limit, and for many, where arithmetic is.
//!
//! A weight is `scale * level + min`, scale and min one for each [`BLOCK`] of a row. Rows come in strips of [`STRIP_ROWS`], whose
//! blocks lie one after another, each as the instruction reads it: level `4 g + c` of row r is byte `4 r + c` of group g. The numbers of a
//! block follow its levels; those that eight blocks share go before them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
mod scalar;
#[cfg(test)]
pub(super) mod tests;

use std::ops::Range;

use crate::sizes::check_sizes;

/// Weights of a row that share a scale; also the activations that do.
pub const BLOCK: usize = 32;
/// Rows of a strip: the 32-bit lanes of a vector.
pub const STRIP_ROWS: usize = 16;
/// Levels that one lane takes at once.
const GROUP: usize = 4;
/// Groups of a block.
const GROUPS: usize = BLOCK / GROUP;
/// Bytes of one group of a strip at 8 bits a level.
const GROUP_BYTES: usize = STRIP_ROWS * GROUP;

/// How many bits a level has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelBits {
    Four,
    Five,
    Eight,
}

/// Where a block's scale and min come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BlockNumbers {
    /// A scale f16; the min is so many scales: -8 for levels that are signed by an offset of 8.
    Scale { min: f32 },
    /// A scale f16 and a min f16.
    ScaleAndMin,
    /// u8 each, times a scale f16 and minus a min f16 that [`SHARING`] blocks share.
    Shared,
}

/// How the weights of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackedFormat {
    pub bits: LevelBits,
    pub numbers: BlockNumbers,
}

/// One of each kind that files store: what the kernels are tested with.
pub const FORMATS: [PackedFormat; 7] = [
    PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::Scale { min: -8.0 } },
    PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::ScaleAndMin },
    PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::Shared },
    PackedFormat { bits: LevelBits::Five, numbers: BlockNumbers::Scale { min: -16.0 } },
    PackedFormat { bits: LevelBits::Five, numbers: BlockNumbers::ScaleAndMin },
    PackedFormat { bits: LevelBits::Five, numbers: BlockNumbers::Shared },
    PackedFormat { bits: LevelBits::Eight, numbers: BlockNumbers::Scale { min: -128.0 } },
];

/// Blocks of a row that share a scale and a min: those of a K-quant's 256 weights.
pub const SHARING: usize = 8;

impl PackedFormat {
    /// Blocks of a row that lie behind one header: k is a multiple of so many [`BLOCK`]s.
    pub const fn blocks_per_run(self) -> usize {
        if matches!(self.numbers, BlockNumbers::Shared) { SHARING } else { 1 }
    }

    /// Bytes of the header of a run of blocks of a strip.
    pub const fn header_bytes(self) -> usize {
        if matches!(self.numbers, BlockNumbers::Shared) { 4 * STRIP_ROWS } else { 0 }
    }

    /// Bytes of the levels of one block of a strip.
    const fn level_bytes(self) -> usize {
        match self.bits {
            LevelBits::Four => GROUPS / 2 * GROUP_BYTES,
            LevelBits::Five => GROUPS / 2 * GROUP_BYTES + GROUPS * GROUP_BYTES / 8,
            LevelBits::Eight => GROUPS * GROUP_BYTES,
        }
    }

    /// Bytes of one block of a strip.
    pub const fn block_bytes(self) -> usize {
        let numbers = match self.numbers {
            BlockNumbers::ScaleAndMin => 4,
            BlockNumbers::Scale { .. } | BlockNumbers::Shared => 2,
        };
        self.level_bytes() + numbers * STRIP_ROWS
    }

    /// Bytes of a run of blocks of a strip, header included.
    pub const fn run_bytes(self) -> usize {
        self.header_bytes() + self.blocks_per_run() * self.block_bytes()
    }

    /// Bytes of a strip of k weights a row.
    pub const fn strip_bytes(self, k: usize) -> usize {
        k / BLOCK / self.blocks_per_run() * self.run_bytes()
    }

    /// Writes the header of a run: scale and min f16 of each row. `out` holds [`PackedFormat::header_bytes`].
    pub fn pack_header(self, scales: &[u16; STRIP_ROWS], mins: &[u16; STRIP_ROWS], out: &mut [u8]) {
        out.chunks_exact_mut(2).zip(scales.iter().chain(mins)).for_each(|(to, number)| to.copy_from_slice(&number.to_le_bytes()));
    }

    /// Writes one block of a strip: levels u8 `[STRIP_ROWS, BLOCK]` below 2^bits, scales and mins f16, or below 256 where rows have shared
    /// ones (mins unused where they follow from the scale). `out` holds [`PackedFormat::block_bytes`].
    pub fn pack_block(
        self,
        levels: &[[u8; BLOCK]; STRIP_ROWS],
        scales: &[u16; STRIP_ROWS],
        mins: &[u16; STRIP_ROWS],
        out: &mut [u8],
    ) {
        let (level_bytes, numbers) = out.split_at_mut(self.level_bytes());
        for (r, row) in levels.iter().enumerate() {
            let group = |g: usize| u32::from_le_bytes([row[4 * g], row[4 * g + 1], row[4 * g + 2], row[4 * g + 3]]);
            let mut put = |at: usize, value: u32| level_bytes[at..at + GROUP].copy_from_slice(&value.to_le_bytes());
            if self.bits == LevelBits::Eight {
                (0..GROUPS).for_each(|g| put(g * GROUP_BYTES + GROUP * r, group(g)));
                continue;
            }
            for pair in 0..GROUPS / 2 {
                let (low, high) = (group(2 * pair) & 0x0f0f_0f0f, group(2 * pair + 1) & 0x0f0f_0f0f);
                put(pair * GROUP_BYTES + GROUP * r, low | high << 4);
            }
            if self.bits == LevelBits::Five {
                for g in 0..GROUPS {
                    let at = GROUPS / 2 * GROUP_BYTES + g * GROUP_BYTES / 8 + r / 2;
                    // The four fifth bits, side by side.
                    let bits = (((group(g) >> 4) & 0x0101_0101).wrapping_mul(0x0102_0408) >> 24) as u8;
                    level_bytes[at] = if r % 2 == 0 { bits } else { level_bytes[at] | bits << 4 };
                }
            }
        }
        let both = scales.iter().chain(mins);
        match self.numbers {
            BlockNumbers::Shared => numbers.iter_mut().zip(both).for_each(|(to, number)| *to = *number as u8),
            // A block without mins ends before them.
            _ => numbers.chunks_exact_mut(2).zip(both).for_each(|(to, number)| to.copy_from_slice(&number.to_le_bytes())),
        }
    }
}

/// Bytes of one row of k activations: codes i8 `[k]`, then scales f32 and sums (scale * sum of codes) f32, `[k / BLOCK]` each.
pub const fn activation_bytes(k: usize) -> usize {
    k + k / BLOCK * 8
}

/// C `[rows, columns]` = activations times one strip of weights. C f32 with a row stride of `ldc` values.
pub struct PackedProduct {
    pub format: PackedFormat,
    /// u8 `[rows, activation_bytes(k)]`, rows starting at multiples of 4 bytes.
    pub activations: *const u8,
    /// u8 `[strip_bytes(k)]`.
    pub strip: *const u8,
    pub c: *mut f32,
    pub ldc: usize,
    pub rows: usize,
    /// At most `STRIP_ROWS`.
    pub columns: usize,
    /// A multiple of `BLOCK` times the format's `blocks_per_run`.
    pub k: usize,
}

/// The kernels of one instruction set; `Kernels::packed` names those of this CPU. Fields are the raw forms of the methods of their names.
#[derive(Debug)]
pub struct PackedKernels {
    /// `scalar`, `avx2` or `avx512vnni`.
    pub name: &'static str,
    /// Blocks `from..to` of a row of k activations.
    pub(crate) round: unsafe fn(x: *const f32, k: usize, from: usize, to: usize, out: *mut u8),
    pub(crate) product: unsafe fn(p: &PackedProduct),
    pub(crate) prefetch: unsafe fn(weights: *const u8, bytes: usize),
}

impl PackedKernels {
    /// Rounds some blocks of a row of k activations to 8 bits: `x` f32 `[k]`, `out` u8 `[activation_bytes(k)]`, of which these blocks' codes,
    /// scales and sums are written. A block's scale is its largest magnitude / 127, a code the nearest integer to value / scale, the same bits on
    /// every instruction set; what is not a number makes its block's results not numbers.
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn round(&self, x: &[f32], blocks: Range<usize>, out: &mut [u8]) {
        let k = x.len();
        check_sizes!(
            k.is_multiple_of(BLOCK) && out.len() == activation_bytes(k) && blocks.end <= k / BLOCK,
            "packed round",
            x = k,
            end = blocks.end,
            out = out.len(),
        );
        // SAFETY: both hold a row of k activations, and the blocks are among its own.
        unsafe { (self.round)(x.as_ptr(), k, blocks.start, blocks.end, out.as_mut_ptr()) };
    }

    /// Matrix product: sums of a block in 32-bit integers, exact; over blocks in f32, in their order. It stays unsafe because threads multiply
    /// different strips into one C at once, whose rows every strip has some columns of: no slice is one thread's own.
    ///
    /// # Safety
    /// Activations and strip hold what the product's fields say. The first `columns` values of each of the `rows` rows of C are live and
    /// writable, and nobody else reads or writes them meanwhile.
    #[inline]
    pub unsafe fn product(&self, p: &PackedProduct) {
        // SAFETY: the caller's.
        unsafe { (self.product)(p) };
    }

    /// [`PackedKernels::prefetch`] as a plain function of an address and a number of bytes, which are live, for threads that ask bit by bit
    /// while they wait.
    pub fn prefetch_function(&self) -> unsafe fn(*const u8, usize) {
        self.prefetch
    }

    /// Asks for the cache lines of weights that will be multiplied soon; changes nothing.
    #[inline]
    pub fn prefetch(&self, weights: &[u8]) {
        // SAFETY: the slice's own bytes.
        unsafe { (self.prefetch)(weights.as_ptr(), weights.len()) };
    }
}

pub(super) static SCALAR: PackedKernels =
    PackedKernels { name: "scalar", round: scalar::round, product: scalar::product, prefetch: |_, _| {} };
#[cfg(target_arch = "x86_64")]
pub(super) static AVX512: PackedKernels =
    PackedKernels { name: "avx512vnni", round: avx512::round, product: avx512::product, prefetch: avx512::prefetch };
#[cfg(target_arch = "x86_64")]
pub(super) static AVX2: PackedKernels =
    PackedKernels { name: "avx2", round: avx2::round, product: avx2::product, prefetch: avx2::prefetch };
