//! Residual, RMS norm and rounding: norms against f64, rounding byte for byte as the CPU does it.

use crate::linear_parts::{GUARD, Out, POISON, U, bits, rounded};
use ctkvr_cuda::launch::norm_round::{self, NormRound, NormRows};
use ctkvr_cuda::launch::outputs::Outputs;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{BLOCK, Kernels, activation_bytes};
use half::f16;

const EPSILON: f32 = 1e-5;

fn open() -> Device {
    Device::open_with(0, &[norm_round::FAMILY]).unwrap()
}

/// Values of all sizes: ties, zeros of both signs, blocks of zeros, of subnormals, of one large value.
fn awkward(random: &mut Random, n: usize) -> Vec<f32> {
    let mut values = random.values(n, 1.0);
    for block in values.chunks_mut(BLOCK) {
        let len = block.len();
        match random.index(8) {
            0 => block.fill(0.0),
            1 => block.iter_mut().for_each(|x| *x *= 1e-30),
            2 => block[random.index(len)] = 3e4,
            // Halves of a code: ties.
            3 => {
                block.iter_mut().for_each(|x| *x = (*x * 253.0).round() / 2.0);
                block[random.index(len)] = 127.0;
            }
            4 => block[random.index(len)] = -0.0,
            _ => {}
        }
    }
    values
}

/// All three outputs, with guards behind them.
struct All {
    rounded: DeviceBuffer<u8>,
    f32: DeviceBuffer<f32>,
    f16: DeviceBuffer<f16>,
    rows: usize,
    width: usize,
}

impl All {
    fn new(device: &Device, rows: usize, width: usize) -> Self {
        Self {
            rounded: DeviceBuffer::new(device, rows * activation_bytes(width) + GUARD).unwrap(),
            f32: DeviceBuffer::new(device, rows * width + GUARD).unwrap(),
            f16: DeviceBuffer::new(device, rows * width + GUARD).unwrap(),
            rows,
            width,
        }
    }

    fn outputs(&self) -> Outputs {
        let len = self.rows * self.width;
        let rounded = if self.width.is_multiple_of(BLOCK) {
            self.rounded.span().part(0..self.rows * activation_bytes(self.width))
        } else {
            Span::EMPTY
        };
        Outputs { rounded, f32: self.f32.span().part(0..len), f16: self.f16.span().part(0..len) }
    }

    /// The rows in f32; checks that the others are these rows, rounded, and that nothing lies behind.
    fn rows(&self, device: &Device, what: &str) -> Vec<Vec<f32>> {
        let (values, halves, bytes) =
            (self.f32.to_vec(device).unwrap(), self.f16.to_vec(device).unwrap(), self.rounded.to_vec(device).unwrap());
        let (values, behind) = values.split_at(self.rows * self.width);
        assert!(behind.iter().all(|x| x.to_bits() == POISON), "{what}: wrote behind f32");
        let (halves, behind) = halves.split_at(self.rows * self.width);
        assert!(behind.iter().all(|x| x.to_bits() == 0xeeee), "{what}: wrote behind f16");
        assert!(values.iter().zip(halves).all(|(x, h)| f16::from_f32(*x).to_bits() == h.to_bits()), "{what}: f16 differs from f32");
        let whole = if self.width.is_multiple_of(BLOCK) { self.rows * activation_bytes(self.width) } else { 0 };
        assert!(bytes[whole..].iter().all(|x| *x == 0xee), "{what}: wrote behind rounded rows");
        if whole > 0 {
            let expected: Vec<u8> = values.chunks_exact(self.width).flat_map(rounded).collect();
            assert_eq!(
                bytes[..whole].iter().zip(&expected).position(|(a, b)| a != b),
                None,
                "{what}: rounded differs at this byte"
            );
        }
        values.chunks_exact(self.width).map(<[f32]>::to_vec).collect()
    }
}

/// A norm in f64, and how far each value may be from it: a thread adds `groups` * 4 squares, then 10 steps of a tree; division and epsilon; the root
/// halves relative errors; root and quotient round once each, and so do three products. All terms are positive.
fn normed(x: &[f32], weight: &[f32], factor: f32) -> Vec<(f64, f64)> {
    let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(EPSILON)).sqrt();
    let groups = x.len().div_ceil(4 * 1024);
    let roundings = (4 * groups + 10 + 2) as f64 / 2.0 + 2.0 + 3.0;
    let value = |(x, w): (&f32, &f32)| f64::from(*x) * scale * f64::from(*w) * f64::from(factor);
    x.iter().zip(weight).map(value).map(|y| (y, 1.01 * roundings * U * y.abs() + f64::from(f32::MIN_POSITIVE))).collect()
}

fn assert_normed(actual: &[f32], expected: &[(f64, f64)], what: &str) {
    for (i, (actual, (value, budget))) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(*actual) - value).abs();
        assert!(error <= *budget, "{what}: value {i}: {actual}, not {value}: {error:e} > {budget:e}");
    }
}

#[test]
fn the_residual_is_added_then_normed_then_rounded() {
    let session = session();
    let device = open();
    let mut seed = 0;
    for width in [32, 64, 96, 128, 576, 1536, 4096, 4128, 32768] {
        for (has_block, is_listed) in [(false, false), (true, false), (false, true), (true, true)] {
            if width > 5000 && !(has_block && is_listed) {
                continue;
            }
            seed += 1;
            session.order(ORDERS[seed as usize % 3]).seed(seed);
            let what = format!("width {width}, block {has_block}, listed {is_listed}, seed {seed}");
            let mut random = Random(seed);
            let (stride, block_stride) = (width + 4, width + 8);
            let listed: Vec<u32> = if is_listed { vec![4, 0, 3] } else { Vec::new() };
            let (all_rows, rows) = if is_listed { (5, 3) } else { (3, 3) };
            let hidden = awkward(&mut random, all_rows * stride);
            let block = random.values(if has_block { all_rows * block_stride } else { 0 }, 2.0);
            let weight = random.values(width, 1.5);
            let on_device = [&hidden, &block, &weight].map(|values| DeviceBuffer::from_slice(&device, values).unwrap());
            let row_of = DeviceBuffer::from_slice(&device, &listed).unwrap();
            let all = All::new(&device, rows, width);
            let (block_scale, factor) = (0.7, if seed % 2 == 0 { 1.0 } else { 0.3 });
            let norm = NormRound {
                hidden: on_device[0].span(),
                hidden_stride: stride,
                row_of: row_of.span(),
                block: on_device[1].span(),
                block_stride,
                block_scale,
                weight: on_device[2].span(),
                epsilon: EPSILON,
                factor,
                out: all.outputs(),
                rows,
                width,
            };
            norm.launch(&device, device.compute()).unwrap();

            let mut expected = hidden;
            let rows_of: Vec<usize> = if is_listed { listed.iter().map(|r| *r as usize).collect() } else { (0..rows).collect() };
            for row in rows_of.iter().filter(|_| has_block) {
                let values = &mut expected[row * stride..][..width];
                values.iter_mut().zip(&block[row * block_stride..]).for_each(|(x, y)| *x += block_scale * y);
            }
            assert_eq!(bits(&on_device[0].to_vec(&device).unwrap()), bits(&expected), "{what}: hidden");
            for (actual, row) in all.rows(&device, &what).iter().zip(rows_of) {
                assert_normed(actual, &normed(&expected[row * stride..][..width], &weight, factor), &what);
            }
        }
    }
}

#[test]
fn plain_rounding_is_the_cpus_byte_for_byte() {
    let session = session();
    let device = open();
    let cpu = ["avx2", "avx512", "avx512vnni"].iter().find_map(|name| Kernels::named(name, 64).ok()?.packed);
    for (i, width) in [32, 160, 576, 1536, 14336].into_iter().enumerate() {
        session.order(ORDERS[i % 3]);
        let what = format!("width {width}");
        let hidden = awkward(&mut Random(900 + i as u64), 4 * width);
        if let Some(cpu) = cpu {
            let mut of_cpu = vec![0; activation_bytes(width)];
            for row in hidden.chunks_exact(width) {
                cpu.round(row, 0..width / BLOCK, &mut of_cpu);
                assert_eq!(of_cpu, rounded(row), "{}: the test's own rounding", cpu.name);
            }
        }
        let on_device = DeviceBuffer::from_slice(&device, &hidden).unwrap();
        let all = All::new(&device, 4, width);
        plain(on_device.span(), all.outputs(), 4, width).launch(&device, device.compute()).unwrap();
        let rows = all.rows(&device, &what).concat();
        assert_eq!(bits(&rows), bits(&hidden), "{what}");
        assert_eq!(bits(&on_device.to_vec(&device).unwrap()), bits(&hidden), "{what}: hidden is only read");
    }
}

/// No residual, no norm.
fn plain(hidden: Span<f32>, out: Outputs, rows: usize, width: usize) -> NormRound {
    NormRound {
        hidden,
        hidden_stride: width,
        row_of: Span::EMPTY,
        block: Span::EMPTY,
        block_stride: 0,
        block_scale: 1.0,
        weight: Span::EMPTY,
        epsilon: EPSILON,
        factor: 1.0,
        out,
        rows,
        width,
    }
}

#[test]
fn what_is_not_a_number_makes_its_blocks_scale_none() {
    let _session = session();
    let device = open();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = Random(1).values(96, 1.0);
        x[37] = bad;
        let on_device = DeviceBuffer::from_slice(&device, &x).unwrap();
        let out = DeviceBuffer::<u8>::new(&device, activation_bytes(96)).unwrap();
        plain(on_device.span(), Outputs { rounded: out.span(), ..Outputs::NONE }, 1, 96).launch(&device, device.compute()).unwrap();
        let (actual, expected) = (out.to_vec(&device).unwrap(), rounded(&x));
        assert_eq!(actual[..96], expected[..96], "{bad}");
        for at in (96..120).step_by(4) {
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let (a, e) = (number(&actual), number(&expected));
            assert!(a.to_bits() == e.to_bits() || a.is_nan() && e.is_nan(), "{bad}: {a}, not {e}");
        }
    }
}

#[test]
fn spans_are_normed_in_place_and_elsewhere() {
    let session = session();
    let device = open();
    for (i, [rows, spans, span]) in
        [[1, 1, 4], [3, 5, 64], [2, 3, 80], [2, 9, 128], [3, 1, 576], [2, 2, 4096], [1, 1, 8192]].into_iter().enumerate()
    {
        for in_place in [false, true] {
            session.order(ORDERS[(i + usize::from(in_place)) % 3]);
            let what = format!("{rows} rows of {spans} spans of {span}, in place {in_place}, seed {i}");
            let mut random = Random(i as u64);
            let (width, stride) = (spans * span, spans * span + 12);
            let (x, weight) = (random.values(rows * stride, 3.0), random.values(span, 2.0));
            let (on_device, weight_on_device) =
                (DeviceBuffer::from_slice(&device, &x).unwrap(), DeviceBuffer::from_slice(&device, &weight).unwrap());
            let out = Out::new(&device, rows, width, width + 4);
            let (to, out_stride) = if in_place { (on_device.span(), stride) } else { (out.buffer.span(), width + 4) };
            let norm = NormRows {
                x: on_device.span(),
                stride,
                out: to,
                out_stride,
                weight: weight_on_device.span(),
                epsilon: EPSILON,
                rows,
                spans,
                span,
            };
            norm.launch(&device, device.compute()).unwrap();
            let after = on_device.to_vec(&device).unwrap();
            let normed_rows: Vec<Vec<f32>> = if in_place {
                after.chunks(stride).map(|row| row[..width].to_vec()).collect()
            } else {
                assert_eq!(bits(&after), bits(&x), "{what}: x");
                out.rows(&device, &what)
            };
            for (row, (actual, x)) in normed_rows.iter().zip(x.chunks(stride)).enumerate() {
                assert_eq!(bits(&after[row * stride + width..][..12]), bits(&x[width..]), "{what}: between rows");
                for (actual, x) in actual.chunks_exact(span).zip(x.chunks_exact(span)) {
                    assert_normed(actual, &normed(x, &weight, 1.0), &what);
                }
            }
        }
    }
}

#[test]
fn lengths_are_checked() {
    let _session = session();
    let device = open();
    let x = DeviceBuffer::<f32>::zeroed(&device, 128).unwrap();
    let out = DeviceBuffer::<u8>::new(&device, 2 * activation_bytes(64)).unwrap();
    let good = plain(x.span(), Outputs { rounded: out.span(), ..Outputs::NONE }, 2, 64);
    let launch = |norm: NormRound| norm.launch(&device, device.compute());
    launch(good).unwrap();
    let length = |what, expected, actual| Err(Error::Length { what, expected, actual });
    assert_eq!(launch(NormRound { hidden_stride: 68, ..good }), length("norm_round: hidden", 132, 128));
    assert_eq!(launch(NormRound { weight: x.span(), ..good }), length("norm_round: weight", 64, 128));
    assert_eq!(launch(NormRound { rows: 1, ..good }), length("rounded rows", 80, 160));
    assert_eq!(
        launch(NormRound { out: Outputs { f32: x.span().part(0..64), ..Outputs::NONE }, ..good }),
        length("rows in f32", 128, 64)
    );
}
