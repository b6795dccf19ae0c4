//! Products of packed weights.

use half::f16;

use super::super::packed::{
    self, BLOCK, BlockNumbers, FORMATS, LevelBits, PackedFormat, PackedKernels, PackedProduct, STRIP_ROWS, activation_bytes,
};
use super::{DRAWS, Draw, Finding, Numbers, budget, check_fields, near, same};

pub(super) fn check(table: &PackedKernels) -> Finding {
    check_fields!(table, PackedKernels, no_kernels: [name], round: round, product: product, prefetch: prefetch)
}

fn rounded(table: &PackedKernels, x: &[f32], k: usize) -> Vec<u8> {
    let mut out = vec![0; x.len() / k * activation_bytes(k)];
    for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(activation_bytes(k))) {
        // In two parts, as two threads would.
        for (from, to) in [(0, k / BLOCK / 2), (k / BLOCK / 2, k / BLOCK)] {
            // SAFETY: both hold a row.
            unsafe { (table.round)(x.as_ptr(), k, from, to, out.as_mut_ptr()) };
        }
    }
    out
}

fn round(table: &PackedKernels) -> Finding {
    let (k, mut numbers) = (160, Numbers(5));
    let mut x: Vec<f32> = numbers.reals(3 * k).into_iter().map(|x| x * 4.0).collect();
    x[k..k + BLOCK].fill(0.0);
    x[2 * k..2 * k + BLOCK].copy_from_slice(&numbers.integers(BLOCK, 127));
    same("three rows", &rounded(table, &x, k), &rounded(&packed::SCALAR, &x, k))
}

/// One strip, and the largest magnitude that a weight of it can have.
pub(super) fn strip(format: PackedFormat, k: usize, draw: Draw, numbers: &mut Numbers) -> (Vec<u8>, f64) {
    let (levels, scale, min) = match (format.bits, format.numbers) {
        (LevelBits::Four, numbers) => (16, 1.0, numbers),
        (LevelBits::Five, numbers) => (32, 1.0, numbers),
        (LevelBits::Eight, numbers) => (256, 1.0, numbers),
    };
    let shared = if draw == Draw::Integers { 4 } else { 64 };
    let mut halves = || -> [u16; STRIP_ROWS] {
        let drawn = numbers.draw(draw, STRIP_ROWS, 1);
        std::array::from_fn(|i| f16::from_f32(drawn[i]).to_bits())
    };
    let (scales, mins) = (halves(), halves());
    let mut bytes = vec![0; format.strip_bytes(k)];
    for run in bytes.chunks_exact_mut(format.run_bytes()) {
        let (header, blocks) = run.split_at_mut(format.header_bytes());
        format.pack_header(&scales, &mins, header);
        for out in blocks.chunks_exact_mut(format.block_bytes()) {
            let drawn: [[u8; BLOCK]; STRIP_ROWS] = std::array::from_fn(|_| std::array::from_fn(|_| numbers.below(levels) as u8));
            let mut small = || -> [u16; STRIP_ROWS] { std::array::from_fn(|_| numbers.below(shared) as u16) };
            let own = if format.numbers == BlockNumbers::Shared { (small(), small()) } else { (scales, mins) };
            format.pack_block(&drawn, &own.0, &own.1, out);
        }
    }
    let largest = match min {
        BlockNumbers::Scale { min } => scale * (levels as f64 + f64::from(min.abs())),
        BlockNumbers::ScaleAndMin => scale * levels as f64 + 1.0,
        BlockNumbers::Shared => shared as f64 * (levels as f64 + 1.0),
    };
    (bytes, largest)
}

fn product(table: &PackedKernels) -> Finding {
    for draw in DRAWS {
        for format in FORMATS {
            for (rows, columns, k) in [(1, 16, 256), (1, 3, 96), (2, 16, 64), (3, 16, 160), (13, 9, 96), (21, 16, 32)] {
                let k = usize::next_multiple_of(k, BLOCK * format.blocks_per_run()); // whole runs
                let mut numbers = Numbers((rows * columns * k) as u64);
                let (strip, largest) = strip(format, k, draw, &mut numbers);
                let mut x = numbers.draw(draw, rows * k, 126);
                // A scale of 1, so that integers stay what they are.
                x.iter_mut().step_by(BLOCK).filter(|_| draw == Draw::Integers).for_each(|x| *x = 127.0);
                let activations = rounded(&packed::SCALAR, &x, k);
                let by = |table: &PackedKernels| {
                    let ldc = columns + 3;
                    let mut c = vec![f32::NAN; rows * ldc];
                    let (activations, strip, c_at) = (activations.as_ptr(), strip.as_ptr(), c.as_mut_ptr());
                    // SAFETY: the matrices hold what the job says.
                    unsafe { (table.product)(&PackedProduct { format, activations, strip, c: c_at, ldc, rows, columns, k }) };
                    c
                };
                // Integer sums are exact; each block then has five roundings on either path and 2 k / BLOCK sums follow.
                let allowed = budget(draw, 5 + 2 * k / BLOCK, largest * k as f64);
                near(format!("{rows}x{columns}x{k} {draw:?} in {format:?}"), &by(table), &by(&packed::SCALAR), |_| allowed)?;
            }
        }
    }
    Ok(())
}

/// It has no result; that it runs is what is asked.
fn prefetch(table: &PackedKernels) -> Finding {
    let bytes = [0u8; 300];
    // SAFETY: the bytes are live.
    unsafe { (table.prefetch)(bytes.as_ptr(), bytes.len()) };
    Ok(())
}
