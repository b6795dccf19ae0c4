//! ggml's Q6_K, taken apart: 256 weights of a row, each `scale * scales[i / 16] * (level - 32)`.

use llama_cpp_sys_2 as sys;

use crate::TensorInfo;

/// One block of 256 weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Q6kBlock {
    /// Below 64.
    pub levels: [u8; Self::LEN],
    /// One for each 16 weights.
    pub scales: [i8; Self::LEN / 16],
    /// f16, as bits.
    pub scale: u16,
}

impl Q6kBlock {
    /// Weights of a block.
    pub const LEN: usize = 256;
    /// Bytes of a block in the file: low 4 bits of the levels, high 2 bits, scales, scale.
    pub const BYTES: usize = HIGH_AT + Self::LEN / 4 + Self::LEN / 16 + 2;
    /// What a row of a strip has where there is no row.
    pub const ZERO: Self = Self { levels: [0; Self::LEN], scales: [0; Self::LEN / 16], scale: 0 };

    /// Whether a tensor is of such blocks. Its rows are then whole ones.
    pub fn stores(info: &TensorInfo) -> bool {
        info.kind == sys::GGML_TYPE_Q6_K
    }

    /// Reads one from a file's bytes (block_q6_K of ggml-common.h).
    pub fn read(bytes: &[u8; Self::BYTES]) -> Self {
        let (levels, numbers) = bytes.split_at(SCALES_AT);
        let (low, high) = levels.split_at(HIGH_AT);
        let mut block = Self::ZERO;
        // Half a block has 64 low and 32 high bytes. Byte l of both has a level of each quarter of the half.
        for (half, out) in block.levels.chunks_exact_mut(Self::LEN / 2).enumerate() {
            for (quarter, out) in out.chunks_exact_mut(QUARTER).enumerate() {
                let low = &low[half * 2 * QUARTER + quarter % 2 * QUARTER..][..QUARTER];
                let high = &high[half * QUARTER..][..QUARTER];
                let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
                for ((level, low), high) in out.iter_mut().zip(low).zip(high) {
                    *level = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
                }
            }
        }
        let (scales, scale) = numbers.split_at(Self::LEN / 16);
        block.scales.iter_mut().zip(scales).for_each(|(to, from)| *to = *from as i8);
        block.scale = u16::from_le_bytes([scale[0], scale[1]]);
        block
    }
}

/// Where the high bits begin, and the scales.
const HIGH_AT: usize = Q6kBlock::LEN / 2;
const SCALES_AT: usize = HIGH_AT + Q6kBlock::LEN / 4;
/// Levels of a quarter of half a block.
const QUARTER: usize = Q6kBlock::LEN / 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_ggml() {
        let mut state = 0x2545_f491_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for _ in 0..50 {
            let mut bytes: [u8; Q6kBlock::BYTES] = std::array::from_fn(|_| byte());
            // Any f16 that is a number.
            bytes[Q6kBlock::BYTES - 1] &= 0xbf;
            let block = Q6kBlock::read(&bytes);
            let mut expected = [0f32; Q6kBlock::LEN];
            // SAFETY: an entry of a static table; one block, and room for its weights.
            let scale = unsafe {
                let to_float = (*sys::ggml_get_type_traits(sys::GGML_TYPE_Q6_K)).to_float.unwrap();
                to_float(bytes.as_ptr().cast(), expected.as_mut_ptr(), Q6kBlock::LEN as i64);
                sys::ggml_fp16_to_fp32(block.scale)
            };
            for (i, expected) in expected.into_iter().enumerate() {
                let of_16 = scale * f32::from(block.scales[i / 16]);
                assert_eq!(of_16 * (f32::from(block.levels[i]) - 32.0), expected, "weight {i} of {block:?}");
            }
        }
    }
}
