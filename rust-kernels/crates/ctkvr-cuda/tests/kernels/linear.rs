//! Linear layers over strips, of one row, few and many, against sums in f64.

use crate::linear_parts::{Activations, Out, U, Weights, bits, formats};
use ctkvr_cuda::launch::linear::{self, Linear, Strips};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error, Span, StripFormat};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{BLOCK, BlockNumbers, LevelBits, PackedFormat, activation_bytes};

const Q4_1: StripFormat = StripFormat::Packed(PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::ScaleAndMin });

fn open() -> Device {
    Device::open_with(0, &[linear::FEW_ROWS, linear::MANY_ROWS]).unwrap()
}

/// A matrix, its bias and rows on the device.
struct Case {
    weights: Weights,
    rows: Vec<Activations>,
    bias: Option<Vec<f32>>,
    strips: DeviceBuffer<u8>,
    activations: DeviceBuffer<u8>,
    bias_on_device: DeviceBuffer<f32>,
    seed: u64,
}

impl Case {
    fn new(device: &Device, format: StripFormat, [k, n, rows]: [usize; 3], has_bias: bool, integers: bool, seed: u64) -> Self {
        let mut random = Random(seed);
        let k = k.next_multiple_of(format.run_len());
        let weights = Weights::new(format, k, n, integers, &mut random);
        let rows: Vec<_> = (0..rows).map(|_| Activations::new(k, integers, &mut random)).collect();
        let bias = has_bias
            .then(|| (0..n).map(|_| if integers { random.integer(100) as f32 } else { random.values(1, 3.0)[0] }).collect());
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.bytes.clone()).collect();
        let strips = DeviceBuffer::from_slice(device, &weights.strips).unwrap();
        let activations = DeviceBuffer::from_slice(device, &bytes).unwrap();
        let bias_on_device = DeviceBuffer::from_slice(device, bias.as_deref().unwrap_or_default()).unwrap();
        Self { weights, rows, bias, strips, activations, bias_on_device, seed }
    }

    fn what(&self) -> String {
        let Weights { format, k, n, .. } = self.weights;
        format!("{format:?} [{n}, {k}], {} rows, bias {}, seed {}", self.rows.len(), self.bias.is_some(), self.seed)
    }

    /// Rows `first..first + count` times the matrix.
    fn run(&self, device: &Device, first: usize, count: usize) -> Vec<Vec<f32>> {
        let Weights { format, k, n, .. } = self.weights;
        let out_stride = n + 5;
        let out = Out::new(device, count, n, out_stride);
        let row_bytes = activation_bytes(k);
        let linear = Linear {
            weights: Strips { bytes: self.strips.span(), format, k, n },
            bias: if self.bias.is_some() { self.bias_on_device.span() } else { Span::EMPTY },
            activations: self.activations.span().part(first * row_bytes..(first + count) * row_bytes),
            out: out.buffer.span(),
            out_stride,
            rows: count,
        };
        linear.launch(device, device.compute()).unwrap();
        out.rows(device, &self.what())
    }

    /// Sums of a block are exact integers. Of its scaled sum the product of scales rounds once, of the min's part the activations' sum; adding them
    /// rounds once each, in one of four chains of ceil(blocks / 4) blocks; three roundings add the chains, one the bias. Every rounding is of a number
    /// no larger than the sum of magnitudes (Higham, Accuracy and Stability, 3.1; the hundredth is for products of roundings).
    fn check(&self, out: &[Vec<f32>]) {
        let blocks = self.weights.k / BLOCK;
        let roundings = 1 + 2 * blocks.div_ceil(4) + 3 + 1;
        for (i, (row, out)) in self.rows.iter().zip(out).enumerate() {
            for (r, actual) in out.iter().enumerate() {
                let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[r]));
                let (sum, magnitude) = self.weights.product(r, row);
                let budget = 1.01 * roundings as f64 * U * (magnitude + bias.abs());
                let error = (f64::from(*actual) - sum - bias).abs();
                assert!(
                    error <= budget,
                    "{}: row {i}, output {r}: {actual}, not {}: {error:e} > {budget:e}",
                    self.what(),
                    sum + bias
                );
            }
        }
    }
}

/// k, n, rows.
const SHAPES: [[usize; 3]; 17] = [
    [32, 1, 1],
    [32, 17, 9],
    [64, 16, 2],
    [96, 15, 3],
    [128, 70, 33],
    [160, 33, 4],
    [256, 16, 5],
    [288, 1, 8],
    [512, 31, 40],
    [576, 576, 1],
    [576, 17, 6],
    [576, 64, 65],
    [576, 65, 64],
    [1536, 15, 7],
    [1536, 40, 9],
    [2304, 16, 1],
    [4096, 17, 12],
];

#[test]
fn products_are_within_their_budget_in_every_shape() {
    let session = session();
    let device = open();
    let mut seed = 0;
    for format in formats() {
        for shape in SHAPES {
            seed += 1;
            session.order(ORDERS[seed as usize % 3]).seed(seed);
            let case = Case::new(&device, format, shape, seed % 2 == 0, false, seed);
            case.check(&case.run(&device, 0, case.rows.len()));
        }
    }
}

#[test]
fn small_integers_give_exact_sums_in_every_order() {
    let session = session();
    let device = open();
    for (i, format) in formats().enumerate() {
        for shape in [[288, 33, 8], [544, 17, 1], [800, 70, 35]] {
            let case = Case::new(&device, format, shape, true, true, 100 + i as u64);
            let bias = case.bias.clone().unwrap();
            let exact = |row: &Activations| -> Vec<f32> {
                bias.iter().enumerate().map(|(r, b)| (case.weights.product(r, row).0 + f64::from(*b)) as f32).collect()
            };
            let expected: Vec<Vec<f32>> = case.rows.iter().map(exact).collect();
            for order in ORDERS {
                session.order(order);
                assert_eq!(case.run(&device, 0, case.rows.len()), expected, "{order:?} {}", case.what());
            }
        }
    }
}

#[test]
fn a_rows_bits_do_not_depend_on_its_company() {
    let session = session();
    let device = open();
    for (i, format) in formats().enumerate() {
        session.order(ORDERS[i % 3]);
        let case = Case::new(&device, format, [1184, 21, 41], i % 2 == 0, false, 200 + i as u64);
        let alone: Vec<Vec<u32>> = (0..41).map(|row| bits(&case.run(&device, row, 1)[0])).collect();
        for (first, count) in [(0, 41), (0, 2), (1, 3), (4, 5), (9, 8), (17, 9), (3, 32), (8, 33)] {
            let together: Vec<Vec<u32>> = case.run(&device, first, count).iter().map(|row| bits(row)).collect();
            assert_eq!(together, alone[first..first + count], "{}: rows {first} and {count}", case.what());
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    let _session = session();
    let device = open();
    for format in formats() {
        for rows in [3, 12] {
            let mut case = Case::new(&device, format, [288, 17, rows], false, false, 300);
            let k = case.weights.k;
            // Scale and sum of a block of row 1, as rounding leaves them.
            let mut bytes = case.rows[1].bytes.clone();
            for at in [k + 8, k + k / BLOCK * 4 + 8] {
                bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            case.rows[1].bytes = bytes;
            let all: Vec<u8> = case.rows.iter().flat_map(|row| row.bytes.clone()).collect();
            device.compute().copy_in(case.activations.span(), &all).unwrap();
            for (i, row) in case.run(&device, 0, rows).iter().enumerate() {
                assert!(row.iter().all(|x| x.is_nan() == (i == 1)), "{}: row {i}: {row:?}", case.what());
            }
        }
    }
}

#[test]
fn lengths_are_checked() {
    let _session = session();
    let device = open();
    let case = Case::new(&device, Q4_1, [64, 20, 2], false, false, 1);
    let out = DeviceBuffer::<f32>::new(&device, 40).unwrap();
    let good = Linear {
        weights: Strips { bytes: case.strips.span(), format: Q4_1, k: 64, n: 20 },
        bias: Span::EMPTY,
        activations: case.activations.span(),
        out: out.span(),
        out_stride: 20,
        rows: 2,
    };
    let launch = |linear: Linear| linear.launch(&device, device.compute());
    launch(good).unwrap();
    let length = |what, expected, actual| Err(Error::Length { what, expected, actual });
    assert_eq!(launch(Linear { out_stride: 21, ..good }), length("linear: out", 41, 40));
    assert_eq!(launch(Linear { rows: 1, ..good }), length("linear: activations", 80, 160));
    assert_eq!(launch(Linear { bias: out.span(), ..good }), length("linear: bias", 20, 40));
    let short = Strips { bytes: case.strips.span().part(0..640), ..good.weights };
    assert_eq!(launch(Linear { weights: short, ..good }), length("linear: weights", 1280, 640));
    assert!(formats().all(Strips::has_kernels));
    let other = PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::Scale { min: -7.0 } };
    assert!(!Strips::has_kernels(other.into()));
}

mod on_the_stand_in {
    use super::*;

    #[test]
    fn no_rows_are_no_launch() {
        let session = session();
        let device = open();
        let case = Case::new(&device, Q4_1, [64, 20, 2], false, false, 1);
        let none = Linear {
            weights: Strips { bytes: case.strips.span(), format: Q4_1, k: 64, n: 20 },
            bias: Span::EMPTY,
            activations: Span::EMPTY,
            out: Span::EMPTY,
            out_stride: 20,
            rows: 0,
        };
        none.launch(&device, device.compute()).unwrap();
        assert_eq!(session.count("launches"), 0);
    }
}
