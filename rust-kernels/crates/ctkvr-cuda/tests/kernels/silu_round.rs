//! The gate, against f64, and its rounding, byte for byte as the CPU does it.

use crate::linear_parts::{GUARD, POISON, U, rounded};
use ctkvr_cuda::launch::outputs::Outputs;
use ctkvr_cuda::launch::silu_round::{self, SiluRound};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error, Span};
use ctkvr_kernels::activation_bytes;
use ctkvr_kernels::testing::Random;
use half::f16;

fn open() -> Device {
    Device::open_with(0, &[silu_round::FAMILY]).unwrap()
}

#[test]
fn gated_rows_are_within_their_budget_and_rounded_as_the_cpu_does() {
    let session = session();
    let device = open();
    for (i, (width, rows)) in [(32, 1), (96, 3), (512, 2), (544, 5), (1536, 9), (14336, 1)].into_iter().enumerate() {
        session.order(ORDERS[i % 3]);
        let what = format!("{rows} rows of {width}, seed {i}");
        let mut random = Random(i as u64);
        let stride = 2 * width + 4;
        // Gate and up of joined layers. Some gates are far out.
        let mut joined = random.values(rows * stride, 6.0);
        for (at, gate) in [(0, -120.0), (1, 120.0), (2, 0.0), (3, -0.0), (4, -88.5)] {
            joined[at] = gate;
        }
        let on_device = DeviceBuffer::from_slice(&device, &joined).unwrap();
        let (len, bytes) = (rows * width, rows * activation_bytes(width));
        let out = DeviceBuffer::<f32>::new(&device, len + GUARD).unwrap();
        let halves = DeviceBuffer::<f16>::new(&device, len + GUARD).unwrap();
        let codes = DeviceBuffer::<u8>::new(&device, bytes + GUARD).unwrap();
        let outputs =
            Outputs { rounded: codes.span().part(0..bytes), f32: out.span().part(0..len), f16: halves.span().part(0..len) };
        let up = on_device.span().part(width..joined.len());
        SiluRound { gate: on_device.span(), up, stride, out: outputs, rows, width }.launch(&device, device.compute()).unwrap();

        let (out, halves, codes) = (out.to_vec(&device).unwrap(), halves.to_vec(&device).unwrap(), codes.to_vec(&device).unwrap());
        for (row, (actual, joined)) in out.chunks_exact(width).zip(joined.chunks_exact(stride)).take(rows).enumerate() {
            for (c, actual) in actual.iter().enumerate() {
                let (gate, up) = (f64::from(joined[c]), f64::from(joined[width + c]));
                let exact = gate / (1.0 + (-gate).exp()) * up;
                // e^-|x| is within 2 units of the last place, 4 U; it counts twice where the numerator has it; and four roundings. Of the smallest
                // results, below what f32 holds in full, an absolute error.
                let budget = 1.01 * 12.0 * U * exact.abs() + 1e-36 * up.abs();
                assert!((f64::from(*actual) - exact).abs() <= budget, "{what}: row {row}, {c}: {actual}, not {exact}");
            }
        }
        let expected: Vec<u8> = out[..len].chunks_exact(width).flat_map(rounded).collect();
        assert_eq!(codes[..bytes], expected, "{what}: rounded");
        assert!(out[..len].iter().zip(&halves).all(|(x, h)| f16::from_f32(*x).to_bits() == h.to_bits()), "{what}: f16");
        assert!(
            out[len..].iter().all(|x| x.to_bits() == POISON) && codes[bytes..].iter().all(|x| *x == 0xee),
            "{what}: wrote behind"
        );
        assert!(halves[len..].iter().all(|x| x.to_bits() == 0xeeee), "{what}: wrote behind f16");
    }
}

#[test]
fn lengths_are_checked() {
    let _session = session();
    let device = open();
    let x = DeviceBuffer::<f32>::zeroed(&device, 128).unwrap();
    let out = DeviceBuffer::<u8>::new(&device, activation_bytes(64)).unwrap();
    let outputs = Outputs { rounded: out.span(), ..Outputs::NONE };
    let good = SiluRound { gate: x.span(), up: x.span().part(64..128), stride: 64, out: outputs, rows: 1, width: 64 };
    let launch = |silu: SiluRound| silu.launch(&device, device.compute());
    launch(good).unwrap();
    let length = |what, expected, actual| Err(Error::Length { what, expected, actual });
    assert_eq!(launch(SiluRound { rows: 2, ..good }), length("silu_round: up", 128, 64));
    assert_eq!(launch(SiluRound { up: Span::EMPTY, ..good }), length("silu_round: up", 64, 0));
    assert_eq!(launch(SiluRound { width: 32, ..good }), length("rounded rows", 40, 80));
}
