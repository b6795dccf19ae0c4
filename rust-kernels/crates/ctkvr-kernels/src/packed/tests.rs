use super::*;
use crate::Kernels;
use crate::testing::{Random, few};
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
        kernels.round(x, 0..middle, out);
        kernels.round(x, middle..k / BLOCK, out);
    }
    out
}

fn multiply(kernels: &PackedKernels, format: PackedFormat, activations: &[u8], strip: &[u8], shape: [usize; 3]) -> Vec<f32> {
    let [rows, columns, k] = shape;
    let ldc = columns + 3;
    let mut c = vec![7.5; rows * ldc];
    let (activations, strip) = (activations.as_ptr(), strip.as_ptr());
    // SAFETY: the matrices hold what the job says.
    unsafe { kernels.product(&PackedProduct { format, activations, strip, c: c.as_mut_ptr(), ldc, rows, columns, k }) };
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
            let shapes = [(1, 16, 256), (1, 3, 896), (2, 16, 512), (3, 16, 544), (13, 9, 96), (21, 16, 224)];
            for (rows, columns, k) in few(1, shapes) {
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
#[cfg_attr(miri, ignore = "minutes there; smaller tests see the same pointers")]
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
