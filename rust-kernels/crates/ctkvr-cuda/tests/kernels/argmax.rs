//! The largest logit of each row.

use crate::linear_parts::POISON;
use ctkvr_cuda::launch::argmax::{self, Argmax, NOT_FINITE, PARTS};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error};
use ctkvr_kernels::testing::Random;

fn open() -> Device {
    Device::open_with(0, &[argmax::FAMILY]).unwrap()
}

/// Rows of `vocab` logits, `stride` apart.
fn run(device: &Device, logits: &[f32], rows: usize, vocab: usize, stride: usize) -> Vec<u32> {
    let logits = DeviceBuffer::from_slice(device, logits).unwrap();
    let best = DeviceBuffer::<u64>::new(device, rows * PARTS).unwrap();
    let ids = DeviceBuffer::<u32>::new(device, rows + 8).unwrap();
    let argmax = Argmax { logits: logits.span(), stride, best: best.span(), ids: ids.span().part(0..rows), rows, vocab };
    argmax.launch(device, device.compute()).unwrap();
    let mut ids = ids.to_vec(device).unwrap();
    assert!(ids.drain(rows..).all(|id| id == POISON), "wrote behind the ids");
    ids
}

/// Of equal ones the smallest.
fn expected(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best }) as u32
}

#[test]
fn the_largest_is_found_and_of_equal_ones_the_smallest_id() {
    let session = session();
    let device = open();
    for (i, (vocab, rows)) in [(1, 1), (2, 3), (31, 2), (257, 4), (8195, 2), (33001, 3)].into_iter().enumerate() {
        for order in ORDERS {
            session.order(order);
            let mut random = Random(i as u64);
            let stride = vocab + 7;
            for most in [1000.0, 3.0] {
                // Few different values: many ties. Between rows is what would win.
                let mut logits: Vec<f32> = random.values(rows * stride, most).into_iter().map(f32::round).collect();
                (0..rows).for_each(|row| logits[row * stride + vocab..(row + 1) * stride].fill(1e9));
                let expected: Vec<u32> = logits.chunks_exact(stride).map(|row| expected(&row[..vocab])).collect();
                assert_eq!(
                    run(&device, &logits, rows, vocab, stride),
                    expected,
                    "{rows} rows of {vocab}, most {most}, seed {i}, {order:?}"
                );
            }
        }
    }
}

#[test]
fn zeros_are_equal_and_what_is_not_finite_is_told() {
    let _session = session();
    let device = open();
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    let rows = [
        ([-1.0, -0.0, 0.0, -0.0], 1),
        ([-1.0, -2.0, nan, -3.0], NOT_FINITE | 2),
        ([-infinity, -infinity, -infinity, -nan], NOT_FINITE | 3),
        ([-infinity, -infinity, -3.0, -infinity], 2),
        ([1.0, infinity, nan, infinity], NOT_FINITE | 1),
    ];
    let logits: Vec<f32> = rows.iter().flat_map(|(row, _)| *row).collect();
    assert_eq!(run(&device, &logits, 5, 4, 4), rows.map(|(_, id)| id));
}

#[test]
fn lengths_are_checked() {
    let _session = session();
    let device = open();
    let logits = DeviceBuffer::<f32>::zeroed(&device, 20).unwrap();
    let best = DeviceBuffer::<u64>::new(&device, 2 * PARTS).unwrap();
    let ids = DeviceBuffer::<u32>::new(&device, 2).unwrap();
    let good = Argmax { logits: logits.span(), stride: 10, best: best.span(), ids: ids.span(), rows: 2, vocab: 10 };
    let launch = |argmax: Argmax| argmax.launch(&device, device.compute());
    launch(good).unwrap();
    let length = |what, expected, actual| Err(Error::Length { what, expected, actual });
    assert_eq!(launch(Argmax { stride: 11, ..good }), length("argmax: logits", 21, 20));
    assert_eq!(launch(Argmax { rows: 1, ..good }), length("argmax: best", PARTS, 2 * PARTS));
}
