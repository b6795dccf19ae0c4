//! Linear layers: strips of every format, and f16 rows.

use crate::linear_parts::{Activations, Weights, formats};
use crate::{counted, traffic};
use ctkvr_cuda::launch::linear::{self, Linear, Strips};
use ctkvr_cuda::launch::linear_f16::{self, LinearF16};
use ctkvr_cuda::stand_in::ledger::Memory;
use ctkvr_cuda::stand_in::session;
use ctkvr_cuda::{Device, DeviceBuffer, Span, StripFormat};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{BlockNumbers, LevelBits, PackedFormat};

/// k, n, rows: a part of a strip and more than one, a row, a few, more than a tile.
const SHAPES: [[usize; 3]; 8] =
    [[32, 1, 1], [96, 17, 1], [288, 33, 2], [256, 16, 8], [160, 70, 9], [576, 64, 33], [544, 65, 65], [1056, 15, 7]];

/// The kernel's name for a format and a number of rows.
fn kernel(format: StripFormat, rows: usize) -> String {
    let of_format = match format {
        StripFormat::Packed(PackedFormat { bits, numbers }) => {
            let bits = match bits {
                LevelBits::Four => 4,
                LevelBits::Five => 5,
                LevelBits::Eight => 8,
            };
            let numbers = match numbers {
                BlockNumbers::Scale { .. } => "scale",
                BlockNumbers::ScaleAndMin => "min",
                BlockNumbers::Shared => "shared",
            };
            format!("{bits}_{numbers}")
        }
        StripFormat::Q6K => "6_halves".into(),
    };
    let of_rows = match rows {
        1 => "one_row",
        2..=8 => "few_rows",
        _ => "many_rows",
    };
    format!("{of_rows}_{of_format}")
}

#[test]
fn strips() {
    let session = session();
    let device = Device::open_with(0, &[linear::FEW_ROWS, linear::MANY_ROWS]).unwrap();
    for (i, format) in formats().enumerate() {
        for (j, [k, n, rows]) in SHAPES.into_iter().enumerate() {
            let mut random = Random(1 + j as u64);
            let k = k.next_multiple_of(format.run_len());
            let weights = Weights::new(format, k, n, true, &mut random);
            let activations: Vec<u8> = (0..rows).flat_map(|_| Activations::new(k, true, &mut random).bytes).collect();
            let strips = DeviceBuffer::from_slice(&device, &weights.strips).unwrap();
            let activations = DeviceBuffer::from_slice(&device, &activations).unwrap();
            let bias = DeviceBuffer::from_slice(&device, &vec![0f32; n]).unwrap();
            let out = DeviceBuffer::new(&device, rows * n).unwrap();
            session.memory(strips.span(), Memory::Stored);
            session.memory(bias.span(), Memory::Stored);
            let linear = Linear {
                weights: Strips { bytes: strips.span(), format, k, n },
                bias: if (i + j) % 2 == 0 { bias.span() } else { Span::EMPTY },
                activations: activations.span(),
                out: out.span(),
                out_stride: n,
                rows,
            };
            linear.launch(&device, device.compute()).unwrap();
            device.compute().wait().unwrap();
            let counted = counted(&session, &[&kernel(format, rows)]);
            let what = format!("{format:?} [{n}, {k}], {rows} rows");
            assert_eq!(traffic(&counted), linear.traffic(), "{what}");
            assert_eq!(counted.by_blocks as usize, linear.by_blocks(), "{what}: by blocks");
        }
    }
}

#[test]
fn f16_rows() {
    let session = session();
    let device = Device::open_with(0, &[linear_f16::FAMILY]).unwrap();
    for (i, [k, n, rows]) in SHAPES.into_iter().enumerate() {
        let k = k.next_multiple_of(32);
        let weights = DeviceBuffer::zeroed(&device, n * k).unwrap();
        let activations = DeviceBuffer::zeroed(&device, rows * k).unwrap();
        let bias = DeviceBuffer::zeroed(&device, n).unwrap();
        let out = DeviceBuffer::new(&device, rows * n).unwrap();
        session.memory(weights.span(), Memory::Stored);
        session.memory(bias.span(), Memory::Stored);
        let linear = LinearF16 {
            weights: weights.span(),
            bias: if i % 2 == 0 { bias.span() } else { Span::EMPTY },
            activations: activations.span(),
            out: out.span(),
            out_stride: n,
            rows,
            k,
            n,
        };
        linear.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        let counted = counted(&session, &[if rows <= 8 { "few_rows_f16" } else { "many_rows_f16" }]);
        assert_eq!(traffic(&counted), linear.traffic(), "[{n}, {k}], {rows} rows");
        assert_eq!(counted.by_blocks as usize, linear.by_blocks(), "[{n}, {k}], {rows} rows: by blocks");
    }
}
