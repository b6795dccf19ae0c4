//! One value at a time: the plain form the others are tested against.

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
