//! One value at a time, with plain products or with tiles in plain Rust: what the others are tested against.

use super::super::bf16 as bf16_kernels;
use super::{A, B, C, CHUNK, Chunk, Products, RawBlock, RawProduct, STRIDE, Softmax, attend_block};
use half::bf16;
use std::f32::consts::LOG2_E;

pub(in super::super) unsafe fn attend(b: &RawBlock) {
    // SAFETY: the contract is the caller's.
    unsafe { attend_block::<InPlain, Plain>(b) }
}

#[cfg(test)]
pub(in super::super) unsafe fn attend_on_tiles(b: &RawBlock) {
    // SAFETY: the contract is the caller's.
    unsafe { attend_block::<super::super::amx::InTiles<super::super::amx::software::Plain>, Plain>(b) }
}

struct InPlain;

impl Products for InPlain {
    const ROWS: usize = 5;
    fn new() -> Self {
        Self
    }
    unsafe fn multiply(&mut self, p: &RawProduct) {
        // SAFETY: the contract is the caller's.
        unsafe { (bf16_kernels::SCALAR.product)(p) }
    }
}

struct Plain;

impl Softmax for Plain {
    unsafe fn largest(chunk: &Chunk) -> [f32; CHUNK] {
        let mut largest = [f32::NEG_INFINITY; CHUNK];
        for (r, largest) in largest[..chunk.rows].iter_mut().enumerate() {
            // SAFETY: the caller's rows.
            (0..chunk.visible[r]).for_each(|i| *largest = largest.max(unsafe { *chunk.scores.add(r * STRIDE + i) }));
        }
        largest
    }

    unsafe fn weigh(chunk: &Chunk, max: &[f32; CHUNK]) -> [f32; CHUNK] {
        let mut sums = [0.0; CHUNK];
        for (r, sum) in sums[..chunk.rows].iter_mut().enumerate() {
            let offset = max[r] * LOG2_E;
            for i in 0..chunk.limit {
                // SAFETY: the caller's rows; what is written was read before.
                unsafe {
                    let row = chunk.scores.add(r * STRIDE);
                    let x = (*row.add(i)).mul_add(LOG2_E, -offset);
                    let f = x - x.floor();
                    let power = f.mul_add(f.mul_add(f.mul_add(C, B), A), 1.0);
                    let weight = if i < chunk.visible[r] { power * x.floor().exp2() } else { 0.0 };
                    *row.cast::<u16>().add(i) = bf16::from_f32(weight).to_bits();
                    *sum += weight;
                }
            }
        }
        sums
    }

    unsafe fn prefetch(_: *const f32, _: usize) {}

    unsafe fn rescale(x: *mut f32, n: usize, factor: f32) {
        // SAFETY: the caller's n values.
        (0..n).for_each(|i| unsafe { *x.add(i) *= factor });
    }
}
