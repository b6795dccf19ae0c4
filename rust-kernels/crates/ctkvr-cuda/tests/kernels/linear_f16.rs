//! Linear layers over f16 rows, few and many, against sums in f64.

use crate::linear_parts::{Out, U, bits};
use ctkvr_cuda::launch::linear_f16::{self, LinearF16};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error, Span};
use ctkvr_kernels::testing::Random;
use half::f16;

fn open() -> Device {
    Device::open_with(0, &[linear_f16::FAMILY]).unwrap()
}

struct Case {
    k: usize,
    n: usize,
    rows: usize,
    weights: Vec<f16>,
    activations: Vec<f16>,
    bias: Vec<f32>,
    on_device: [DeviceBuffer<f16>; 2],
    bias_on_device: DeviceBuffer<f32>,
    seed: u64,
}

impl Case {
    fn new(device: &Device, [k, n, rows]: [usize; 3], has_bias: bool, integers: bool, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut halves = |len: usize, most: f32| -> Vec<f16> {
            if integers {
                (0..len).map(|_| f16::from_f32(random.integer(4) as f32)).collect()
            } else {
                random.values(len, most).into_iter().map(f16::from_f32).collect()
            }
        };
        let (weights, activations) = (halves(n * k, 0.1), halves(rows * k, 4.0));
        let bias = if has_bias { halves(n, 3.0).into_iter().map(f32::from).collect() } else { Vec::new() };
        let on_device = [&weights, &activations].map(|values| DeviceBuffer::from_slice(device, values).unwrap());
        let bias_on_device = DeviceBuffer::from_slice(device, &bias).unwrap();
        Self { k, n, rows, weights, activations, bias, on_device, bias_on_device, seed }
    }

    fn what(&self) -> String {
        format!("[{}, {}], {} rows, bias {}, seed {}", self.n, self.k, self.rows, !self.bias.is_empty(), self.seed)
    }

    fn run(&self, device: &Device, first: usize, count: usize) -> Vec<Vec<f32>> {
        let Self { k, n, .. } = *self;
        let out = Out::new(device, count, n, n + 3);
        let linear = LinearF16 {
            weights: self.on_device[0].span(),
            bias: self.bias_on_device.span(),
            activations: self.on_device[1].span().part(first * k..(first + count) * k),
            out: out.buffer.span(),
            out_stride: n + 3,
            rows: count,
            k,
            n,
        };
        linear.launch(device, device.compute()).unwrap();
        out.rows(device, &self.what())
    }

    /// The sum of a row and an output, and of its magnitudes.
    fn product(&self, i: usize, r: usize) -> (f64, f64) {
        let bias = self.bias.get(r).copied().map_or(0.0, f64::from);
        let terms = self.weights[r * self.k..].iter().zip(&self.activations[i * self.k..]).take(self.k);
        terms.map(|(w, a)| w.to_f64() * a.to_f64()).fold((bias, bias.abs()), |(sum, all), x| (sum + x, all + x.abs()))
    }

    /// Products of halves are exact in f32. Each of four chains adds the terms of a quarter of the runs of 32, one after another at worst, and a
    /// tensor core may truncate where f32 would round: two units each. Then three sums and the bias.
    fn check(&self, out: &[Vec<f32>]) {
        let roundings = 2 * self.k.div_ceil(4 * 32) * 32 + 4;
        for (i, out) in out.iter().enumerate() {
            for (r, actual) in out.iter().enumerate() {
                let (sum, magnitude) = self.product(i, r);
                let (error, budget) = ((f64::from(*actual) - sum).abs(), 1.01 * roundings as f64 * U * magnitude);
                assert!(error <= budget, "{}: row {i}, output {r}: {actual}, not {sum}: {error:e} > {budget:e}", self.what());
            }
        }
    }
}

#[test]
fn products_are_within_their_budget_in_every_shape() {
    let session = session();
    let device = open();
    let shapes = [
        [32, 1, 1],
        [32, 15, 9],
        [64, 16, 2],
        [96, 17, 3],
        [160, 40, 64],
        [256, 16, 4],
        [288, 33, 5],
        [576, 17, 65],
        [576, 576, 1],
        [1024, 16, 6],
        [1056, 15, 7],
        [1536, 17, 8],
        [1536, 1, 12],
    ];
    for (i, shape) in shapes.into_iter().enumerate() {
        session.order(ORDERS[i % 3]).seed(i as u64);
        let case = Case::new(&device, shape, i % 2 == 0, false, i as u64);
        case.check(&case.run(&device, 0, case.rows));
    }
}

#[test]
fn small_integers_give_exact_sums_in_every_order() {
    let session = session();
    let device = open();
    for shape in [[288, 33, 8], [1056, 17, 1], [544, 33, 70]] {
        let case = Case::new(&device, shape, true, true, 7);
        let expected: Vec<Vec<f32>> = (0..case.rows).map(|i| (0..case.n).map(|r| case.product(i, r).0 as f32).collect()).collect();
        for order in ORDERS {
            session.order(order);
            assert_eq!(case.run(&device, 0, case.rows), expected, "{order:?} {}", case.what());
        }
    }
}

#[test]
fn a_rows_bits_do_not_depend_on_its_company() {
    let session = session();
    let device = open();
    let case = Case::new(&device, [1184, 21, 70], true, false, 3);
    let alone: Vec<Vec<u32>> = (0..70).map(|row| bits(&case.run(&device, row, 1)[0])).collect();
    for (i, (first, count)) in [(0, 70), (0, 2), (1, 3), (9, 8), (17, 9), (3, 64), (2, 65)].into_iter().enumerate() {
        session.order(ORDERS[i % 3]);
        let together: Vec<Vec<u32>> = case.run(&device, first, count).iter().map(|row| bits(row)).collect();
        assert_eq!(together, alone[first..first + count], "{}: rows {first} and {count}", case.what());
    }
}

#[test]
fn lengths_are_checked() {
    let _session = session();
    let device = open();
    let case = Case::new(&device, [64, 20, 2], false, false, 1);
    let out = DeviceBuffer::<f32>::new(&device, 40).unwrap();
    let good = LinearF16 {
        weights: case.on_device[0].span(),
        bias: Span::EMPTY,
        activations: case.on_device[1].span(),
        out: out.span(),
        out_stride: 20,
        rows: 2,
        k: 64,
        n: 20,
    };
    let launch = |linear: LinearF16| linear.launch(&device, device.compute());
    launch(good).unwrap();
    let length = |what, expected, actual| Err(Error::Length { what, expected, actual });
    assert_eq!(launch(LinearF16 { out_stride: 21, ..good }), length("linear: out", 41, 40));
    assert_eq!(launch(LinearF16 { rows: 1, ..good }), length("linear: activations", 64, 128));
    assert_eq!(launch(LinearF16 { n: 19, ..good }), length("linear: weights", 19 * 64, 20 * 64));
}
