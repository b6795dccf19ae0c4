//! Matrix products of quantised weights with activations of 8 bits and sums in 32-bit integers, for CPUs that multiply several pairs of
//! bytes in one instruction. Fast for one row of activations, where the weights' bytes are the limit, and for many, where arithmetic is.
//!
//! A weight is `scale * level + min`, scale and min one for each [`BLOCK`] of a row. Rows come in strips of [`STRIP_ROWS`], whose
//! blocks lie one after another, each as the instruction reads it: level `4 g + c` of row r is byte `4 r + c` of group g. The numbers of a
//! block follow its levels; those that eight blocks share go before them.

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
pub(super) const FORMATS: [PackedFormat; 7] = [
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

/// The kernels of one instruction set; `Kernels::packed` names those of this CPU. Every function is unsafe for the same reason: pointers
/// must be live for the sizes its comment gives.
#[derive(Debug)]
pub struct PackedKernels {
    /// `scalar`, `avx2` or `avx512vnni`.
    pub name: &'static str,
    /// Rounds blocks `from..to` of a row of k activations: `x` f32 `[k]`, `out` u8 `[activation_bytes(k)]`. A block's scale is its largest
    /// magnitude / 127; what is not a number makes its block's results not numbers.
    pub round: unsafe fn(x: *const f32, k: usize, from: usize, to: usize, out: *mut u8),
    /// Matrix product.
    pub product: unsafe fn(p: &PackedProduct),
    /// Asks for the cache lines of the first `bytes` bytes of weights that will be multiplied soon.
    pub prefetch: unsafe fn(weights: *const u8, bytes: usize),
}

pub(super) static SCALAR: PackedKernels =
    PackedKernels { name: "scalar", round: scalar::round, product: scalar::product, prefetch: |_, _| {} };
#[cfg(target_arch = "x86_64")]
pub(super) static AVX512: PackedKernels =
    PackedKernels { name: "avx512vnni", round: avx512::round, product: avx512::product, prefetch: avx512::prefetch };

#[cfg(target_arch = "x86_64")]
pub(super) static AVX2: PackedKernels =
    PackedKernels { name: "avx2", round: avx2::round, product: avx2::product, prefetch: avx2::prefetch };

#[cfg(target_arch = "x86_64")]
mod avx2;

/// One value at a time: the plain form the others are tested against.
mod scalar {
    use super::{
        BLOCK, BlockNumbers, GROUP, GROUP_BYTES, GROUPS, LevelBits, PackedFormat, PackedProduct, STRIP_ROWS, activation_bytes,
    };
    use half::f16;

    impl PackedFormat {
        /// Level c of row r of a block.
        pub(crate) fn level(self, block: &[u8], r: usize, c: usize) -> u8 {
            let (g, at) = (c / GROUP, GROUP * r + c % GROUP);
            if self.bits == LevelBits::Eight {
                return block[g * GROUP_BYTES + at];
            }
            let low = block[g / 2 * GROUP_BYTES + at] >> (4 * (g % 2)) & 15;
            match self.bits {
                LevelBits::Five => low | (block[GROUPS / 2 * GROUP_BYTES + (g * GROUP_BYTES + at) / 8] >> (at % 8) & 1) << 4,
                _ => low,
            }
        }

        /// Block b of a strip, and scale and min of its row r.
        pub(crate) fn block(self, strip: &[u8], b: usize, r: usize) -> (&[u8], f32, f32) {
            let run = &strip[b / self.blocks_per_run() * self.run_bytes()..];
            let block = &run[self.header_bytes() + b % self.blocks_per_run() * self.block_bytes()..][..self.block_bytes()];
            let half = |of: &[u8], i: usize| f16::from_le_bytes([of[2 * i], of[2 * i + 1]]).to_f32();
            let numbers = &block[self.level_bytes()..];
            let (scale, min) = match self.numbers {
                BlockNumbers::Scale { min } => (half(numbers, r), min * half(numbers, r)),
                BlockNumbers::ScaleAndMin => (half(numbers, r), half(numbers, STRIP_ROWS + r)),
                BlockNumbers::Shared => {
                    (f32::from(numbers[r]) * half(run, r), -f32::from(numbers[STRIP_ROWS + r]) * half(run, STRIP_ROWS + r))
                }
            };
            (block, scale, min)
        }
    }

    pub(super) unsafe fn round(x: *const f32, k: usize, from: usize, to: usize, out: *mut u8) {
        // SAFETY: the caller's k values and activation_bytes(k) bytes.
        let (x, out) = unsafe { (std::slice::from_raw_parts(x, k), std::slice::from_raw_parts_mut(out, activation_bytes(k))) };
        for block in from..to {
            let values = &x[block * BLOCK..(block + 1) * BLOCK];
            let max = values.iter().fold(0f32, |max, x| {
                if x.is_nan() {
                    f32::NAN
                } else if max.is_nan() {
                    max
                } else {
                    max.max(x.abs())
                }
            });
            let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
            let mut sum = 0;
            for (value, code) in values.iter().zip(&mut out[block * BLOCK..]) {
                let rounded = (value * inverse).round_ties_even() as i8;
                sum += i32::from(rounded);
                *code = rounded as u8;
            }
            let scale = max / 127.0;
            let (scale_at, sum_at) = (k + 4 * block, k + k / BLOCK * 4 + 4 * block);
            out[scale_at..scale_at + 4].copy_from_slice(&scale.to_ne_bytes());
            out[sum_at..sum_at + 4].copy_from_slice(&(scale * sum as f32).to_ne_bytes());
        }
    }

    pub(super) unsafe fn product(p: &PackedProduct) {
        let row_bytes = activation_bytes(p.k);
        for i in 0..p.rows {
            // SAFETY: the caller's matrices.
            let (a, strip, c) = unsafe {
                let a = std::slice::from_raw_parts(p.activations.add(i * row_bytes), row_bytes);
                let strip = std::slice::from_raw_parts(p.strip, p.format.strip_bytes(p.k));
                (a, strip, std::slice::from_raw_parts_mut(p.c.add(i * p.ldc), p.columns))
            };
            let number = |at: usize| f32::from_ne_bytes([a[at], a[at + 1], a[at + 2], a[at + 3]]);
            for (r, c) in c.iter_mut().enumerate() {
                *c = 0.0;
                for b in 0..p.k / BLOCK {
                    let (block, scale, min) = p.format.block(strip, b, r);
                    let terms = (0..BLOCK).map(|t| i32::from(p.format.level(block, r, t)) * i32::from(a[b * BLOCK + t] as i8));
                    let (a_scale, a_sum) = (number(p.k + 4 * b), number(p.k + p.k / BLOCK * 4 + 4 * b));
                    *c += scale * a_scale * terms.sum::<i32>() as f32 + min * a_sum;
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

    use super::{
        BLOCK, BlockNumbers, GROUP, GROUP_BYTES, GROUPS, LevelBits, PackedFormat, PackedProduct, SHARING, STRIP_ROWS,
        activation_bytes,
    };
    use std::arch::x86_64::*;

    /// Activation rows that share one unpacking of the weights; their sums and a block's levels fit the 32 registers.
    const ROWS: usize = 8;
    /// How far ahead weights are asked for when each is used once: what the processor itself foresees ends at every 4 KiB.
    const AHEAD: usize = 4 << 10;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn round(x: *const f32, k: usize, from: usize, to: usize, out: *mut u8) {
        unsafe {
            let scales = out.add(k).cast::<f32>();
            let sums = scales.add(k / BLOCK);
            for block in from..to {
                let x = x.add(block * BLOCK);
                let halves = [_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16))];
                let max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(halves[0]), _mm512_abs_ps(halves[1])));
                let is_number = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(halves[0], halves[1]) == 0;
                let max = if is_number { max } else { f32::NAN };
                let inverse = _mm512_set1_ps(if max == 0.0 { 0.0 } else { 127.0 / max });
                let mut sum = _mm512_setzero_si512();
                for (half, x) in halves.into_iter().enumerate() {
                    let codes = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
                    sum = _mm512_add_epi32(sum, codes);
                    _mm_storeu_si128(out.add(block * BLOCK + 16 * half).cast(), _mm512_cvtsepi32_epi8(codes));
                }
                let scale = max / 127.0;
                scales.add(block).write_unaligned(scale);
                sums.add(block).write_unaligned(scale * _mm512_reduce_add_epi32(sum) as f32);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) unsafe fn product(p: &PackedProduct) {
        unsafe {
            match (p.format.bits, p.format.blocks_per_run()) {
                (LevelBits::Four, 1) => strip::<4, 1>(p),
                (LevelBits::Four, _) => strip::<4, SHARING>(p),
                (LevelBits::Five, 1) => strip::<5, 1>(p),
                (LevelBits::Five, _) => strip::<5, SHARING>(p),
                (LevelBits::Eight, 1) => strip::<8, 1>(p),
                (LevelBits::Eight, _) => strip::<8, SHARING>(p),
            }
        }
    }

    pub(super) unsafe fn prefetch(weights: *const u8, bytes: usize) {
        // Into the second-level cache: what comes before may be attention, which fills the first.
        (0..bytes).step_by(64).for_each(|at| unsafe { _mm_prefetch::<_MM_HINT_T1>(weights.add(at).cast()) });
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn strip<const BITS: usize, const RUN: usize>(p: &PackedProduct) {
        let mut i = 0;
        while i < p.rows {
            unsafe {
                i += match p.rows - i {
                    ROWS.. => tile::<BITS, RUN, ROWS>(p, i),
                    4.. => tile::<BITS, RUN, 4>(p, i),
                    2.. => tile::<BITS, RUN, 2>(p, i),
                    _ => tile::<BITS, RUN, 1>(p, i),
                };
            }
        }
    }

    /// Rows `i..i + R` of C, blocks in runs of `RUN`. Returns R.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn tile<const BITS: usize, const RUN: usize, const R: usize>(p: &PackedProduct, i: usize) -> usize {
        unsafe {
            let (blocks, row_bytes) = (p.k / BLOCK, activation_bytes(p.k));
            let (header_bytes, block_bytes) = (p.format.header_bytes(), p.format.block_bytes());
            let a = p.activations.add(i * row_bytes);
            let mut sums = [_mm512_setzero_ps(); R];
            for b in 0..blocks {
                let run = p.strip.add(b / RUN * (header_bytes + RUN * block_bytes));
                let block = run.add(header_bytes + b % RUN * block_bytes);
                if R == 1 {
                    (0..block_bytes).step_by(64).for_each(|at| _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + at).cast()));
                }
                let levels = unpack::<BITS>(block);
                let (scale, min) = scale_and_min(p.format, run, block);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let a = a.add(r * row_bytes);
                    let codes = a.add(b * BLOCK).cast::<i32>();
                    // Two chains: each waits for its last sum.
                    let mut dots = [_mm512_setzero_si512(); 2];
                    for (g, levels) in levels.iter().enumerate() {
                        dots[g % 2] = _mm512_dpbusd_epi32(dots[g % 2], *levels, _mm512_set1_epi32(codes.add(g).read_unaligned()));
                    }
                    let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(dots[0], dots[1]));
                    let scales = a.add(p.k).cast::<f32>();
                    let (a_scale, a_sum) = (scales.add(b).read_unaligned(), scales.add(blocks + b).read_unaligned());
                    *sum = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(a_scale)), dot, *sum);
                    *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(a_sum), *sum);
                }
            }
            let mask = ((1u32 << p.columns.min(STRIP_ROWS)) - 1) as __mmask16;
            for (r, sum) in sums.into_iter().enumerate() {
                _mm512_mask_storeu_ps(p.c.add((i + r) * p.ldc), mask, sum);
            }
        }
        R
    }

    /// The levels of a block, one group a vector.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(crate) unsafe fn unpack<const BITS: usize>(block: *const u8) -> [__m512i; GROUPS] {
        unsafe {
            let mut levels = [_mm512_setzero_si512(); GROUPS];
            if BITS == 8 {
                for (g, x) in levels.iter_mut().enumerate() {
                    *x = _mm512_loadu_si512(block.add(g * GROUP_BYTES).cast());
                }
                return levels;
            }
            let low = _mm512_set1_epi8(15);
            for pair in 0..GROUPS / 2 {
                let both = _mm512_loadu_si512(block.add(pair * GROUP_BYTES).cast());
                levels[2 * pair] = _mm512_and_si512(both, low);
                levels[2 * pair + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
            }
            if BITS == 5 {
                let fifth = _mm512_set1_epi8(16);
                let bits = block.add(GROUPS / 2 * GROUP_BYTES).cast::<u64>();
                for (g, x) in levels.iter_mut().enumerate() {
                    *x = _mm512_mask_add_epi8(*x, bits.add(g).read_unaligned(), *x, fifth);
                }
            }
            levels
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(crate) unsafe fn scale_and_min(format: PackedFormat, run: *const u8, block: *const u8) -> (__m512, __m512) {
        unsafe {
            let halves = |at: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
            let bytes = |at: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())));
            let at = block.add(format.level_bytes());
            match format.numbers {
                BlockNumbers::Scale { min } => (halves(at), _mm512_mul_ps(halves(at), _mm512_set1_ps(min))),
                BlockNumbers::ScaleAndMin => (halves(at), halves(at.add(2 * STRIP_ROWS))),
                BlockNumbers::Shared => {
                    let (scale, min) = (halves(run), _mm512_sub_ps(_mm512_setzero_ps(), halves(run.add(2 * STRIP_ROWS))));
                    (_mm512_mul_ps(bytes(at), scale), _mm512_mul_ps(bytes(at.add(STRIP_ROWS)), min))
                }
            }
        }
    }

    const _: () = assert!(GROUP == 4, "a lane of dpbusd takes four bytes");
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::Kernels;
    use crate::testing::Random;
    use half::f16;

    fn all() -> Vec<&'static PackedKernels> {
        let mut all = vec![&SCALAR];
        all.extend(Kernels::available().iter().filter_map(|kernels| kernels.packed));
        all
    }

    /// One strip of random weights, packed, and as numbers f64 `[STRIP_ROWS, k]`.
    pub(crate) fn strip(format: PackedFormat, k: usize, integers: bool, random: &mut Random) -> (Vec<u8>, Vec<f64>) {
        let count = match format.bits {
            LevelBits::Four => 16,
            LevelBits::Five => 32,
            LevelBits::Eight => 256,
        };
        let bits = |numbers: [f32; STRIP_ROWS]| numbers.map(|x| f16::from_f32(x).to_bits());
        let (mut bytes, mut weights) = (vec![0; format.strip_bytes(k)], vec![0.0; STRIP_ROWS * k]);
        let mut first = 0;
        for run in bytes.chunks_exact_mut(format.run_bytes()) {
            let mut numbers = |most| -> [f32; STRIP_ROWS] {
                std::array::from_fn(|_| if integers { random.integers(1, 2)[0] } else { random.reals(1, most)[0] })
            };
            let (scales, mins) = (numbers(1), numbers(3));
            let (header, blocks) = run.split_at_mut(format.header_bytes());
            format.pack_header(&bits(scales), &bits(mins), header);
            for out in blocks.chunks_exact_mut(format.block_bytes()) {
                let levels: [[u8; BLOCK]; STRIP_ROWS] = std::array::from_fn(|_| std::array::from_fn(|_| random.below(count) as u8));
                let mut small = || std::array::from_fn(|_| random.below(if integers { 4 } else { 64 }) as u16);
                let (own_scales, own_mins): ([u16; STRIP_ROWS], [u16; STRIP_ROWS]) = match format.numbers {
                    BlockNumbers::Shared => (small(), small()),
                    _ => (bits(scales), bits(mins)),
                };
                format.pack_block(&levels, &own_scales, &own_mins, out);
                for r in 0..STRIP_ROWS {
                    let (scale, min) = match format.numbers {
                        BlockNumbers::Scale { min } => (scales[r], min * scales[r]),
                        BlockNumbers::ScaleAndMin => (scales[r], mins[r]),
                        BlockNumbers::Shared => (f32::from(own_scales[r]) * scales[r], -f32::from(own_mins[r]) * mins[r]),
                    };
                    for c in 0..BLOCK {
                        weights[r * k + first + c] = f64::from(scale) * f64::from(levels[r][c]) + f64::from(min);
                    }
                }
                first += BLOCK;
            }
        }
        (bytes, weights)
    }

    fn rounded(kernels: &PackedKernels, x: &[f32], k: usize) -> Vec<u8> {
        let mut out = vec![0; x.len() / k * activation_bytes(k)];
        for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(activation_bytes(k))) {
            // In two parts, as two threads would.
            let middle = k / BLOCK / 2;
            // SAFETY: both hold a row.
            unsafe {
                (kernels.round)(x.as_ptr(), k, 0, middle, out.as_mut_ptr());
                (kernels.round)(x.as_ptr(), k, middle, k / BLOCK, out.as_mut_ptr());
            }
        }
        out
    }

    fn multiply(kernels: &PackedKernels, format: PackedFormat, activations: &[u8], strip: &[u8], shape: [usize; 3]) -> Vec<f32> {
        let [rows, columns, k] = shape;
        let ldc = columns + 3;
        let mut c = vec![7.5; rows * ldc];
        let (activations, strip) = (activations.as_ptr(), strip.as_ptr());
        // SAFETY: the matrices hold what the job says.
        unsafe { (kernels.product)(&PackedProduct { format, activations, strip, c: c.as_mut_ptr(), ldc, rows, columns, k }) };
        assert!(c.chunks_exact(ldc).all(|row| row[columns..] == [7.5; 3]), "{} wrote past its columns", kernels.name);
        c.chunks_exact(ldc).flat_map(|row| row[..columns].to_vec()).collect()
    }

    /// What a row of activations stands for.
    fn numbers(row: &[u8], k: usize) -> Vec<f64> {
        let scale = |b: usize| f32::from_ne_bytes(row[k + 4 * b..][..4].try_into().expect("four bytes"));
        (0..k).map(|t| f64::from(row[t] as i8) * f64::from(scale(t / BLOCK))).collect()
    }

    #[test]
    fn rounding_is_within_half_a_code_and_the_same_everywhere() {
        let (k, mut random) = (160, Random(5));
        let mut x = random.reals(3 * k, 4);
        x[k..k + BLOCK].fill(0.0);
        let reference = rounded(&SCALAR, &x, k);
        for kernels in all() {
            assert_eq!(rounded(kernels, &x, k), reference, "{}", kernels.name);
        }
        for (row, x) in reference.chunks_exact(activation_bytes(k)).zip(x.chunks_exact(k)) {
            for (b, (block, got)) in x.chunks_exact(BLOCK).zip(numbers(row, k).chunks_exact(BLOCK)).enumerate() {
                let scale = f64::from(block.iter().fold(0f32, |max, x| max.max(x.abs()))) / 127.0;
                let sum = f32::from_ne_bytes(row[k + k / BLOCK * 4 + 4 * b..][..4].try_into().expect("four bytes"));
                assert!(block.iter().zip(got).all(|(x, y)| (f64::from(*x) - y).abs() <= 0.5001 * scale));
                assert!((f64::from(sum) - got.iter().sum::<f64>()).abs() <= 1e-5 * scale * 127.0 * BLOCK as f64);
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let (format, k) = (FORMATS[1], 64);
        let (strip, _) = strip(format, k, false, &mut Random(1));
        for kernels in all() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = vec![1.0; k];
                x[37] = bad;
                let c = multiply(kernels, format, &rounded(kernels, &x, k), &strip, [1, 16, k]);
                assert!(c.iter().all(|c| !c.is_finite()), "{} {bad}: {c:?}", kernels.name);
            }
        }
    }

    #[test]
    fn product_matches_f64() {
        for kernels in all() {
            for format in FORMATS {
                for (rows, columns, k) in [(1, 16, 256), (1, 3, 896), (2, 16, 512), (3, 16, 544), (13, 9, 96), (21, 16, 224)] {
                    // Of whole runs.
                    let k = usize::next_multiple_of(k, BLOCK * format.blocks_per_run());
                    let mut random = Random((rows * columns * k) as u64);
                    let (strip, weights) = strip(format, k, false, &mut random);
                    let activations = rounded(&SCALAR, &random.reals(rows * k, 2), k);
                    let c = multiply(kernels, format, &activations, &strip, [rows, columns, k]);
                    for (i, row) in activations.chunks_exact(activation_bytes(k)).enumerate() {
                        let a = numbers(row, k);
                        for r in 0..columns {
                            let (scaled, min) = (0..k).fold((0.0, 0.0), |(s, m), t| {
                                let min = f64::from(format.block(&strip, t / BLOCK, r).2);
                                let w = weights[r * k + t];
                                (s + ((w - min) * a[t]).abs(), m + (min * a[t]).abs())
                            });
                            let exact: f64 = (0..k).map(|t| weights[r * k + t] * a[t]).sum();
                            // Integer sums are exact; each block then has five roundings on either path and 2 k / BLOCK sums follow, of terms no
                            // larger than those summed here (Higham, Accuracy and Stability, 3.1).
                            let bound = (5 + 2 * k / BLOCK) as f64 * f64::from(f32::EPSILON) * (scaled + min);
                            let error = (f64::from(c[i * columns + r]) - exact).abs();
                            assert!(error <= bound, "{} {format:?} {rows}x{columns}x{k}: {error} > {bound}", kernels.name);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn product_is_exact_on_small_integers() {
        let (rows, columns, k) = (11, 16, 512);
        for format in FORMATS {
            let mut random = Random(3);
            let (strip, weights) = strip(format, k, true, &mut random);
            // Every block reaches 127, so that codes are the numbers themselves.
            let mut x = random.integers(rows * k, 126);
            x.chunks_exact_mut(BLOCK).for_each(|block| block[7] = 127.0);
            for kernels in all() {
                let c = multiply(kernels, format, &rounded(kernels, &x, k), &strip, [rows, columns, k]);
                for (i, c) in c.chunks_exact(columns).enumerate() {
                    for (r, c) in c.iter().enumerate() {
                        let exact: f64 = (0..k).map(|t| weights[r * k + t] * f64::from(x[i * k + t])).sum();
                        assert_eq!(f64::from(*c), exact, "{} {format:?}", kernels.name);
                    }
                }
            }
        }
    }
}
