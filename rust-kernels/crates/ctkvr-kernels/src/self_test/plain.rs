//! Kernels on plain arrays.

use half::f16;

use super::super::kv_format::Q8_BLOCK;
use super::super::{Gemm, Kernels, SCALAR};
use super::{DRAWS, Draw, Finding, Numbers, budget, near, same};

/// Around the widths of vectors, and around the 256 values that are added up in f32.
const SIZES: [usize; 10] = [0, 1, 7, 8, 15, 16, 17, 33, 256, 261];

/// The error of the exponential, relative; below the smallest normal number, absolute.
fn exp_error(exact: f64) -> f64 {
    2.0 * (3e-7 * exact + 2e-38)
}

pub(super) fn max(table: &Kernels) -> Finding {
    for n in SIZES {
        let x = Numbers(n as u64).reals(n);
        // SAFETY: x holds n values.
        let [got, expected] = [table, &SCALAR].map(|table| unsafe { (table.max)(x.as_ptr(), n) });
        same(format!("{n} values"), &[got], &[expected])?;
    }
    Ok(())
}

pub(super) fn exp_sub(table: &Kernels) -> Finding {
    for n in SIZES {
        let x: Vec<f32> = Numbers(n as u64).reals(n + 1).into_iter().map(|x| x * 50.0).collect();
        let by = |table: &Kernels| {
            let mut x = x.clone();
            // SAFETY: x holds n values and one more; none is above 50.
            let sum = unsafe { (table.exp_sub)(x.as_mut_ptr(), n, 50.0) };
            (x, sum)
        };
        let ((got, got_sum), (expected, expected_sum)) = (by(table), by(&SCALAR));
        near(format!("{n} values"), &got[..n], &expected[..n], exp_error)?;
        same(format!("what follows {n} values"), &got[n..], &x[n..])?;
        near(format!("the sum of {n}"), &[got_sum], &[expected_sum], |sum| budget(Draw::Reals, n + 8, sum) + exp_error(sum))?;
    }
    Ok(())
}

pub(super) fn missed_sums(table: &Kernels) -> Finding {
    for draw in DRAWS {
        for n in SIZES {
            let mut numbers = Numbers(n as u64);
            let weights: Vec<f32> = numbers.draw(draw, n, 31).iter().map(|x| x.abs()).collect();
            let marks: Vec<u8> = (0..n).map(|_| if numbers.below(3) == 0 { 255 } else { 0 }).collect();
            let by = |table: &Kernels| {
                // SAFETY: both hold n values.
                let sums = unsafe { (table.missed_sums)(weights.as_ptr(), marks.as_ptr(), n) };
                [sums.all_squares, sums.squares, sums.sum].map(|x| x as f32)
            };
            let allowed = |exact: f64| budget(draw, 257, exact);
            near(format!("{n} {draw:?}"), &by(table), &by(&SCALAR), allowed)?;
        }
    }
    Ok(())
}

pub(super) fn add_scaled(table: &Kernels) -> Finding {
    for draw in DRAWS {
        for n in SIZES {
            let mut numbers = Numbers(n as u64);
            let (x, before) = (numbers.draw(draw, n, 99), numbers.draw(draw, n + 1, 99));
            let by = |table: &Kernels| {
                let mut acc = before.clone();
                // SAFETY: both hold n values.
                unsafe { (table.add_scaled)(x.as_ptr(), n, 0.5, acc.as_mut_ptr()) };
                acc
            };
            near(format!("{n} {draw:?}"), &by(table), &by(&SCALAR), |_| budget(draw, 2, 2.0))?;
        }
    }
    Ok(())
}

pub(super) fn scale(table: &Kernels) -> Finding {
    for n in SIZES {
        let before = Numbers(n as u64).reals(n + 1);
        let by = |table: &Kernels| {
            let mut x = before.clone();
            // SAFETY: x holds n values and one more.
            unsafe { (table.scale)(x.as_mut_ptr(), n, 0.7) };
            x
        };
        same(format!("{n} values"), &by(table), &by(&SCALAR))?;
    }
    Ok(())
}

pub(super) fn score_codes(table: &Kernels) -> Finding {
    for d in [16, 64, 80, 128] {
        for n in [1, 2, 3, 4, 5, 21] {
            let mut numbers = Numbers((d * n) as u64);
            let q = numbers.integers(d, 15);
            let codes: Vec<i8> = numbers.integers(n * d, 127).into_iter().map(|x| x as i8).collect();
            let by = |table: &Kernels| {
                let mut out = vec![f32::NAN; n + 1];
                // SAFETY: the buffers have the sizes that the kernel names.
                unsafe { (table.score_codes)(q.as_ptr(), codes.as_ptr(), n, d, out.as_mut_ptr()) };
                out
            };
            near(format!("{n} rows of {d}"), &by(table), &by(&SCALAR), |_| 0.0)?;
        }
    }
    Ok(())
}

pub(super) fn marked(table: &Kernels) -> Finding {
    for one_in in [1, 2, 9, 1000] {
        for n in [0, 64, 320] {
            let mut numbers = Numbers(one_in);
            let marks: Vec<u8> = (0..n).map(|_| if numbers.below(one_in) == 0 { 255 } else { 0 }).collect();
            let by = |table: &Kernels| {
                let mut out = vec![0u32; n + 64];
                // SAFETY: n marks, and room for 64 positions more.
                let len = unsafe { (table.marked)(marks.as_ptr(), n, 7, out.as_mut_ptr()) };
                out.truncate(len);
                out
            };
            same(format!("{n} marks, one in {one_in} set"), &by(table), &by(&SCALAR))?;
        }
    }
    Ok(())
}

/// Values of which some are the threshold itself.
fn around_threshold(n: usize) -> (Vec<f32>, f32) {
    (Numbers(n as u64).integers(n, 5), 2.0)
}

pub(super) fn count_ge(table: &Kernels) -> Finding {
    for n in SIZES {
        let (x, threshold) = around_threshold(n);
        // SAFETY: x holds n values.
        let [got, expected] = [table, &SCALAR].map(|table| unsafe { (table.count_ge)(x.as_ptr(), n, threshold) });
        same(format!("{n} values"), &[got], &[expected])?;
    }
    Ok(())
}

pub(super) fn select_ge(table: &Kernels) -> Finding {
    for n in SIZES {
        let (x, threshold) = around_threshold(n);
        let by = |table: &Kernels| {
            let mut out = vec![0u32; n + 64];
            // SAFETY: x holds n values, and there is room for 64 indexes more.
            let len = unsafe { (table.select_ge)(x.as_ptr(), n, threshold, out.as_mut_ptr()) };
            out.truncate(len);
            out
        };
        same(format!("{n} values"), &by(table), &by(&SCALAR))?;
    }
    Ok(())
}

/// It has no result; that it runs is what is asked.
pub(super) fn prefetch(table: &Kernels) -> Finding {
    let bytes = [0u8; 300];
    // SAFETY: the bytes are live.
    unsafe { (table.prefetch)(bytes.as_ptr(), bytes.len()) };
    Ok(())
}

pub(super) fn widen(table: &Kernels) -> Finding {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let by = |table: &Kernels| {
        let mut out = vec![0f32; all.len()];
        // SAFETY: both hold every f16, a multiple of all lanes.
        unsafe { (table.widen)(all.as_ptr(), all.len(), out.as_mut_ptr()) };
        out
    };
    near("every f16", &by(table), &by(&SCALAR), |_| 0.0)
}

pub(super) fn narrow(table: &Kernels) -> Finding {
    let mut numbers = Numbers(3);
    // Numbers of every size, half-way cases, and the ends of the range.
    let mut x: Vec<f32> =
        (0..4096).map(|i| (numbers.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0) * 2f32.powi(i % 44 - 26)).collect();
    x.extend((0..2048).map(|i| f16::from_bits(i * 15).to_f32() * (1.0 + 2f32.powi(-11))));
    x.extend([0.0, -0.0, 65504.0, 65519.9, 65520.0, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, 5.96e-8, 2.98e-8, 2.99e-8]);
    x.resize(x.len().next_multiple_of(16), 1.0);
    let by = |table: &Kernels| {
        let mut out = vec![7u16; x.len() + 1];
        // SAFETY: both hold as many values, a multiple of all lanes.
        unsafe { (table.narrow)(x.as_ptr(), x.len(), out.as_mut_ptr()) };
        out
    };
    same("numbers of every size", &by(table), &by(&SCALAR))
}

pub(super) fn quantise(table: &Kernels) -> Finding {
    let mut numbers = Numbers(13);
    let mut x = numbers.reals(4 * Q8_BLOCK);
    x[Q8_BLOCK..2 * Q8_BLOCK].iter_mut().for_each(|x| *x *= 1e-3);
    x[2 * Q8_BLOCK..3 * Q8_BLOCK].fill(0.0);
    // Whole numbers up to 127 stay what they are; what is not finite makes its block's scale NaN.
    x[3 * Q8_BLOCK..].copy_from_slice(&numbers.integers(Q8_BLOCK, 126));
    x[3 * Q8_BLOCK + 5] = -127.0;
    x.extend([1e-37; Q8_BLOCK]);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        x.extend([1.0; Q8_BLOCK]);
        let last = x.len() - 9;
        x[last] = odd;
    }
    let by = |table: &Kernels| {
        let (mut codes, mut scales) = (vec![0i8; x.len()], vec![0f32; x.len() / Q8_BLOCK + 1]);
        // SAFETY: whole blocks, and room for one scale more.
        unsafe { (table.quantise)(x.as_ptr(), x.len(), codes.as_mut_ptr(), scales.as_mut_ptr()) };
        (codes, scales)
    };
    let ((codes, scales), (_, expected)) = (by(table), by(&SCALAR));
    near("the scales", &scales, &expected, |_| 0.0)?;
    for ((block, codes), scale) in x.chunks_exact(Q8_BLOCK).zip(codes.chunks_exact(Q8_BLOCK)).zip(scales).filter(|of| of.1 > 0.0) {
        for (x, code) in block.iter().zip(codes) {
            // Half a step, and what rounds on the way: the scale, its inverse, the product with it, each u of at most 127 steps.
            let off = (f64::from(*x) / f64::from(scale) - f64::from(*code)).abs();
            if off > 0.5 + budget(Draw::Reals, 3, 127.0) {
                return Err(format!("{x} became {code} steps of {scale}"));
            }
        }
    }
    Ok(())
}

pub(super) fn gemm(table: &Kernels) -> Finding {
    for draw in DRAWS {
        for (m, n, k) in [(1, 16, 1), (6, 64, 64), (7, 80, 33), (13, 128, 64), (20, 48, 128)] {
            for accumulate in [false, true] {
                let mut numbers = Numbers((m * n * k) as u64);
                let (a, b) = (numbers.draw(draw, m * (k + 1), 31), numbers.draw(draw, k * n, 31));
                let before = numbers.draw(draw, m * (n + 2), 31);
                let by = |table: &Kernels| {
                    let mut c = before.clone();
                    let (a, b, c_at) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
                    let job = Gemm { a, lda: k + 1, b, ldb: n, c: c_at, ldc: n + 2, m, n, k, accumulate };
                    // SAFETY: the matrices hold what the job says.
                    unsafe { (table.gemm)(&job) };
                    c
                };
                let allowed = budget(draw, k + 2, (k + 1) as f64);
                near(format!("{m}x{n}x{k} {draw:?}"), &by(table), &by(&SCALAR), |_| allowed)?;
            }
        }
    }
    Ok(())
}

pub(super) fn rms_norm(table: &Kernels) -> Finding {
    for n in [1, 15, 16, 33, 576] {
        let mut numbers = Numbers(n as u64);
        let (x, weight) = (numbers.reals(n), numbers.reals(n));
        let by = |table: &Kernels| {
            let mut out = vec![f32::NAN; n + 1];
            // SAFETY: all hold n values.
            unsafe { (table.rms_norm)(x.as_ptr(), weight.as_ptr(), n, 1e-5, out.as_mut_ptr()) };
            out
        };
        // The mean of squares in f64; then a root, a division and two products in f32, and the square's rounding.
        near(format!("{n} values"), &by(table), &by(&SCALAR), |exact| 16.0 * f64::from(f32::EPSILON) * exact.abs())?;
    }
    Ok(())
}

pub(super) fn gate(table: &Kernels) -> Finding {
    let mut numbers = Numbers(8);
    let mut gate: Vec<f32> = numbers.reals(261).into_iter().map(|x| x * 30.0).collect();
    let up = numbers.reals(gate.len());
    gate[..6].copy_from_slice(&[0.0, -0.0, 100.0, -100.0, 1e30, -1e30]);
    let by = |table: &Kernels| {
        let mut out = vec![f32::NAN; gate.len() + 1];
        // SAFETY: all hold as many values.
        unsafe { (table.gate)(gate.as_ptr(), up.as_ptr(), gate.len(), out.as_mut_ptr()) };
        out
    };
    let (got, expected) = (by(table), by(&SCALAR));
    for (i, (x, y)) in gate.iter().zip(&up).enumerate() {
        let cut_off = 2.0 * f64::from((x * y).abs()) * (-87f64).exp();
        let allowed = |exact: f64| 16.0 * f64::from(f32::EPSILON) * exact.abs() + cut_off;
        near(format!("silu({x}) * {y}"), &got[i..=i], &expected[i..=i], allowed)?;
    }
    near("what follows", &got[gate.len()..], &expected[gate.len()..], |_| 0.0)
}

pub(super) fn rotate_halves(table: &Kernels) -> Finding {
    rotated(table, |table| table.rotate_halves)
}

pub(super) fn rotate_adjacent(table: &Kernels) -> Finding {
    rotated(table, |table| table.rotate_adjacent)
}

type Rotate = unsafe fn(x: *mut f32, cos: *const f32, sin: *const f32, half: usize);

fn rotated(table: &Kernels, kernel: impl Fn(&Kernels) -> Rotate) -> Finding {
    for half in [1, 8, 15, 32, 64] {
        let mut numbers = Numbers(half as u64);
        let (x, turns) = (numbers.reals(2 * half + 1), numbers.reals(half));
        let (cos, sin): (Vec<f32>, Vec<f32>) = turns.iter().map(|angle| (angle.cos(), angle.sin())).unzip();
        let by = |table: &Kernels| {
            let mut x = x.clone();
            // SAFETY: 2 * half values and half turns.
            unsafe { kernel(table)(x.as_mut_ptr(), cos.as_ptr(), sin.as_ptr(), half) };
            x
        };
        // Two products and a sum of values below 1.
        near(format!("{half} pairs"), &by(table), &by(&SCALAR), |_| budget(Draw::Reals, 3, 2.0))?;
    }
    Ok(())
}
