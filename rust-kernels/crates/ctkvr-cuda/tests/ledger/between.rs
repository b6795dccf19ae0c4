//! What stands between products and attention: norms, rounding, rotary embedding, stored rows, the largest logit.

use crate::paged::Paged;
use crate::{counted, traffic};
use ctkvr_cuda::launch::argmax::{self, Argmax, PARTS};
use ctkvr_cuda::launch::norm_round::{self, NormRound, NormRows};
use ctkvr_cuda::launch::outputs::Outputs;
use ctkvr_cuda::launch::rope_store::{self, RopeStore};
use ctkvr_cuda::launch::silu_round::{self, SiluRound};
use ctkvr_cuda::launch::slot::RowPlace;
use ctkvr_cuda::stand_in::ledger::Memory;
use ctkvr_cuda::stand_in::session;
use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PageLayout, activation_bytes};
use ctkvr_model::RopePairing;
use half::f16;

/// Memory of outputs in every form, and which of them are written: a bit each.
struct AllOutputs {
    rounded: DeviceBuffer<u8>,
    f32: DeviceBuffer<f32>,
    f16: DeviceBuffer<f16>,
}

impl AllOutputs {
    fn new(device: &Device, rows: usize, width: usize) -> Self {
        Self {
            rounded: DeviceBuffer::new(device, rows * activation_bytes(width)).unwrap(),
            f32: DeviceBuffer::new(device, rows * width).unwrap(),
            f16: DeviceBuffer::new(device, rows * width).unwrap(),
        }
    }

    fn some(&self, forms: usize) -> Outputs {
        Outputs {
            rounded: if forms & 1 != 0 { self.rounded.span() } else { Span::EMPTY },
            f32: if forms & 2 != 0 { self.f32.span() } else { Span::EMPTY },
            f16: if forms & 4 != 0 { self.f16.span() } else { Span::EMPTY },
        }
    }
}

#[test]
fn norms_and_rounding() {
    let session = session();
    let device = Device::open_with(0, &[norm_round::FAMILY]).unwrap();
    for (i, (rows, width)) in [(1, 32), (3, 96), (2, 4096), (5, 576), (1, 4128), (4, 160), (2, 32)].into_iter().enumerate() {
        let (stride, all) = (width + 4, rows + 2);
        let [hidden, block] = [(); 2].map(|()| DeviceBuffer::zeroed(&device, all * stride).unwrap());
        let weight = DeviceBuffer::zeroed(&device, width).unwrap();
        // Not in order.
        let row_of: Vec<u32> = (0..rows as u32).map(|row| rows as u32 + 1 - row).collect();
        let row_of = DeviceBuffer::from_slice(&device, &row_of).unwrap();
        let out = AllOutputs::new(&device, rows, width);
        session.memory(weight.span(), Memory::Stored);
        for parts in 0..8 {
            let norm = NormRound {
                hidden: hidden.span(),
                hidden_stride: stride,
                row_of: if parts & 1 != 0 { row_of.span() } else { Span::EMPTY },
                block: if parts & 2 != 0 { block.span() } else { Span::EMPTY },
                block_stride: stride,
                block_scale: 1.0,
                weight: if parts & 4 != 0 { weight.span() } else { Span::EMPTY },
                epsilon: 1e-5,
                factor: 1.0,
                out: out.some((i + parts) % 8),
                rows,
                width,
            };
            norm.launch(&device, device.compute()).unwrap();
            device.compute().wait().unwrap();
            let counted = counted(&session, &["norm_round"]);
            assert_eq!(traffic(&counted), norm.traffic(), "{rows} rows of {width}, parts {parts}");
        }
        let rows = NormRows {
            x: hidden.span(),
            stride,
            out: if i % 2 == 0 { hidden.span() } else { block.span() },
            out_stride: stride,
            weight: weight.span().part(0..width / 8 * 4),
            epsilon: 1e-5,
            rows,
            spans: 2,
            span: width / 8 * 4,
        };
        rows.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        assert_eq!(traffic(&counted(&session, &["norm_rows"])), rows.traffic(), "{width} of spans");
    }
}

#[test]
fn gates() {
    let session = session();
    let device = Device::open_with(0, &[silu_round::FAMILY]).unwrap();
    for (i, (rows, width)) in [(1, 32), (3, 512), (2, 544), (4, 1536), (1, 96), (2, 160), (3, 32)].into_iter().enumerate() {
        let joined = DeviceBuffer::zeroed(&device, rows * 2 * width).unwrap();
        let out = AllOutputs::new(&device, rows, width);
        let silu = SiluRound {
            gate: joined.span(),
            up: joined.span().part(width..joined.len()),
            stride: 2 * width,
            out: out.some(i + 1),
            rows,
            width,
        };
        silu.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        assert_eq!(traffic(&counted(&session, &["silu_round"])), silu.traffic(), "{rows} rows of {width}");
    }
}

#[test]
fn largest_logits() {
    let session = session();
    let device = Device::open_with(0, &[argmax::FAMILY]).unwrap();
    for (rows, vocab) in [(1, 1), (2, 255), (3, 257), (1, 8192), (2, 10_001)] {
        let logits = DeviceBuffer::zeroed(&device, rows * vocab).unwrap();
        let best = DeviceBuffer::new(&device, rows * PARTS).unwrap();
        let ids = DeviceBuffer::new(&device, rows).unwrap();
        let argmax = Argmax { logits: logits.span(), stride: vocab, best: best.span(), ids: ids.span(), rows, vocab };
        argmax.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        let counted = counted(&session, &["argmax_parts", "argmax_merge"]);
        assert_eq!(traffic(&counted), argmax.traffic(), "{rows} rows of {vocab}");
    }
}

#[test]
fn turned_and_stored_rows() {
    let session = session();
    let device = Device::open_with(0, &[rope_store::FAMILY]).unwrap();
    for (i, (head_dim, num_q_heads, num_kv_heads, num_pairs, format)) in [
        (64, 3, 1, 32, KvFormat::F16),
        (96, 7, 2, 32, KvFormat::Q8),
        (128, 8, 2, 64, KvFormat::F16),
        (256, 1, 1, 128, KvFormat::Q8),
        (32, 5, 5, 0, KvFormat::Q8),
    ]
    .into_iter()
    .enumerate()
    {
        let layout = PageLayout { head_dim, format };
        let rows = 1 + i;
        let sequence = Paged::new(&device, &mut Random(5), layout, num_kv_heads + 1, 400);
        // On both sides of a page's end.
        let place = |row| RowPlace { pages: sequence.table(), position: 254 + row as u32, reserved: 0 };
        let places: Vec<RowPlace> = (0..rows).map(place).collect();
        let places = DeviceBuffer::from_slice(&device, &places).unwrap();
        let (q, kv) = (num_q_heads * head_dim, num_kv_heads * head_dim);
        let stride = q + 2 * kv;
        let projected = DeviceBuffer::zeroed(&device, rows * stride).unwrap();
        let turned = DeviceBuffer::new(&device, rows * q).unwrap();
        let [cos, sin] = [(); 2].map(|()| DeviceBuffer::zeroed(&device, rows * num_pairs).unwrap());
        let recent = DeviceBuffer::new(&device, rows * num_q_heads * head_dim).unwrap();
        session.memory(places.span(), Memory::Bookkeeping);
        session.memory(sequence.table_span(), Memory::Bookkeeping);
        let store = RopeStore {
            queries: projected.span(),
            keys: projected.span().part(q..rows * stride),
            values: projected.span().part(q + kv..rows * stride),
            stride,
            turned: turned.span(),
            cos: cos.span(),
            sin: sin.span(),
            places: places.span(),
            recent: if i % 2 == 0 { recent.span() } else { Span::EMPTY },
            layout,
            first_head: 1,
            num_q_heads,
            num_kv_heads,
            num_pairs,
            pairing: if i % 2 == 0 { RopePairing::Halves } else { RopePairing::Adjacent },
            query_factor: 1.0,
        };
        store.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        let kernel = if format == KvFormat::F16 { "rope_store_f16" } else { "rope_store_q8" };
        assert_eq!(traffic(&counted(&session, &[kernel])), store.traffic(), "{rows} rows, heads of {head_dim}");
    }
}
