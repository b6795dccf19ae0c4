//! Queries and keys turned, rows stored: the bytes that the CPU's scalar kernels store.

use crate::paged::Paged;
use ctkvr_cuda::launch::rope_store::{self, RopeStore};
use ctkvr_cuda::launch::slot::RowPlace;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{Kernels, KvFormat, PageLayout};
use ctkvr_model::RopePairing;

/// What new device memory holds.
const POISON: u32 = 0xeeee_eeee;
const GUARD: usize = 32;
/// Values between rows.
const GAP: usize = 7;

fn open() -> Device {
    Device::open_with(0, &[rope_store::FAMILY]).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Values of all sizes: ties of both roundings, zeros, blocks of zeros, of subnormals, and of one large value.
fn awkward(random: &mut Random, n: usize) -> Vec<f32> {
    let mut values = random.values(n, 1.0);
    for block in values.chunks_exact_mut(32) {
        match random.index(8) {
            0 => block.fill(0.0),
            1 => block.iter_mut().for_each(|x| *x *= 1e-39),
            2 => block[random.index(32)] = 3e4,
            3 => block.iter_mut().for_each(|x| *x = (*x * 254.0).round() / 2.0),
            4 => block.iter_mut().for_each(|x| *x = 1.0 + (*x * 8.0).round() / 2048.0),
            5 => block[random.index(32)] = -0.0,
            _ => {}
        }
    }
    values
}

struct Case {
    layout: PageLayout,
    num_q_heads: usize,
    num_kv_heads: usize,
    num_pairs: usize,
    pairing: RopePairing,
    factor: f32,
    keeps_recent: bool,
}

/// Heads in a page before the layer's.
const FIRST_HEAD: usize = 2;

impl Case {
    /// A head as the CPU turns it.
    fn turned(&self, head: &[f32], cos: &[f32], sin: &[f32]) -> Vec<f32> {
        let kernels = Kernels::named("scalar", self.layout.head_dim).unwrap();
        let mut head = head.to_vec();
        let pairs = &mut head[..2 * self.num_pairs];
        match self.pairing {
            RopePairing::Adjacent => kernels.rotate_adjacent(pairs, cos, sin),
            RopePairing::Halves => kernels.rotate_halves(pairs, cos, sin),
        }
        head
    }

    fn check(&self, device: &Device, seed: u64, what: &str) {
        let mut random = Random(seed);
        let Self { num_q_heads, num_kv_heads, num_pairs, .. } = *self;
        let d = self.layout.head_dim;
        let mut sequences: Vec<Paged> =
            (0..2).map(|_| Paged::new(device, &mut random, self.layout, FIRST_HEAD + num_kv_heads + 1, 513)).collect();
        // (sequence, position)
        let rows = [(0, 254), (0, 255), (0, 256), (1, 0), (1, 1), (0, 512), (1, 511)];
        let n = rows.len();
        let [queries, keys] = [num_q_heads, num_kv_heads].map(|heads| random.values(n * heads * d, 3.0));
        let values = awkward(&mut random, n * num_kv_heads * d);
        let angles = random.values(n * num_pairs, 3.0);
        let cos: Vec<f32> = angles.iter().map(|x| x.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|x| x.sin()).collect();
        let places: Vec<RowPlace> =
            rows.iter().map(|(s, p)| RowPlace { pages: sequences[*s].table(), position: *p as u32, reserved: 0 }).collect();

        let upload = |values: &[f32]| DeviceBuffer::from_slice(device, values).unwrap();
        let q_len = n * num_q_heads * d;
        // Side by side, with something between rows.
        let (q, kv) = (num_q_heads * d, num_kv_heads * d);
        let mut projected = Vec::new();
        for ((queries, keys), values) in queries.chunks_exact(q).zip(keys.chunks_exact(kv)).zip(values.chunks_exact(kv)) {
            projected.extend([queries, keys, values, &[f32::NAN; GAP]].concat());
        }
        let stride = q + 2 * kv + GAP;
        let [projected, cos_on_device, sin_on_device] = [upload(&projected), upload(&cos), upload(&sin)];
        let turned = DeviceBuffer::<f32>::new(device, q_len + GUARD).unwrap();
        let recent = DeviceBuffer::<u16>::new(device, q_len + GUARD).unwrap();
        let places = DeviceBuffer::from_slice(device, &places).unwrap();
        let from = |column: usize| projected.span().part(column..n * stride);
        let store = RopeStore {
            queries: from(0),
            keys: from(q),
            values: from(q + kv),
            stride,
            turned: turned.span().part(0..q_len),
            cos: cos_on_device.span(),
            sin: sin_on_device.span(),
            places: places.span(),
            recent: if self.keeps_recent { recent.span().part(0..q_len) } else { Span::EMPTY },
            layout: self.layout,
            first_head: FIRST_HEAD,
            num_q_heads,
            num_kv_heads,
            num_pairs,
            pairing: self.pairing,
            query_factor: self.factor,
        };
        store.launch(device, device.compute()).unwrap();

        let kernels = Kernels::named("scalar", d).unwrap();
        let mut expected = Vec::new();
        for (i, (sequence, position)) in rows.into_iter().enumerate() {
            let (cos, sin) = (&cos[i * num_pairs..][..num_pairs], &sin[i * num_pairs..][..num_pairs]);
            for head in queries[i * num_q_heads * d..][..num_q_heads * d].chunks_exact(d) {
                expected.extend(self.turned(head, cos, sin).into_iter().map(|x| x * self.factor));
            }
            for g in 0..num_kv_heads {
                let at = (i * num_kv_heads + g) * d;
                let key = self.turned(&keys[at..][..d], cos, sin);
                sequences[sequence].store(FIRST_HEAD + g, position, &key, &values[at..][..d]);
            }
        }
        let actual = turned.to_vec(device).unwrap();
        assert_eq!(bits(&actual[..q_len]), bits(&expected), "{what}: queries");
        assert!(actual[q_len..].iter().all(|x| x.to_bits() == POISON), "{what}: wrote behind the queries");
        let mut halves = vec![0u16; q_len];
        kernels.narrow(&expected, &mut halves);
        halves.resize(q_len + GUARD, 0xeeee);
        if !self.keeps_recent {
            halves.fill(0xeeee);
        }
        assert_eq!(recent.to_vec(device).unwrap(), halves, "{what}: recent queries");
        for sequence in &sequences {
            let (actual, expected) = (sequence.stored(device), sequence.expected());
            let first = actual.iter().zip(expected).position(|(a, e)| a != e);
            assert_eq!(first, None, "{what}: the pages differ from the CPU's at this byte");
        }
    }
}

#[test]
fn stored_bytes_are_the_cpus() {
    let session = session();
    let device = open();
    let mut seed = 500;
    for head_dim in [32, 64, 96, 128, 256] {
        for format in [KvFormat::F16, KvFormat::Q8] {
            for (pairing, num_pairs) in [
                (RopePairing::Halves, head_dim / 2),
                (RopePairing::Adjacent, head_dim / 2),
                (RopePairing::Halves, head_dim / 4),
                (RopePairing::Adjacent, 5),
            ] {
                seed += 1;
                let order = ORDERS[seed as usize % 3];
                session.order(order);
                let case = Case {
                    layout: PageLayout { head_dim, format },
                    num_q_heads: [6, 9, 4][seed as usize % 3],
                    num_kv_heads: [2, 3, 1][seed as usize % 3],
                    num_pairs,
                    pairing,
                    factor: if seed % 2 == 0 { 1.0 } else { 0.7 },
                    keeps_recent: seed % 3 != 0,
                };
                case.check(
                    &device,
                    seed,
                    &format!("seed {seed}, {order:?}, head_dim {head_dim}, {format:?}, {pairing:?}, {num_pairs} pairs"),
                );
            }
        }
    }
}

/// One row of one KV head whose values are these; codes and scales of its values.
fn stored_codes(device: &Device, values: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let d = values.len();
    let layout = PageLayout { head_dim: d, format: KvFormat::Q8 };
    let sequence = Paged::new(device, &mut Random(1), layout, 1, 1);
    let zeros = DeviceBuffer::<f32>::zeroed(device, d).unwrap();
    let values = DeviceBuffer::from_slice(device, values).unwrap();
    let place = [RowPlace { pages: sequence.table(), position: 3, reserved: 0 }];
    let places = DeviceBuffer::from_slice(device, &place).unwrap();
    let store = RopeStore {
        queries: Span::EMPTY,
        keys: zeros.span(),
        values: values.span(),
        stride: 0,
        turned: Span::EMPTY,
        cos: zeros.span().part(0..d / 2),
        sin: zeros.span().part(0..d / 2),
        places: places.span(),
        recent: Span::EMPTY,
        layout,
        first_head: 0,
        num_q_heads: 0,
        num_kv_heads: 1,
        num_pairs: d / 2,
        pairing: RopePairing::Halves,
        query_factor: 1.0,
    };
    store.launch(device, device.compute()).unwrap();
    let bytes = sequence.stored(device);
    let (row, scales) = layout.offsets(ctkvr_kernels::KvSide::Values, 3);
    let scale = |i: usize| f32::from_le_bytes(bytes[scales + 4 * i..][..4].try_into().unwrap());
    (bytes[row..][..d].iter().map(|b| *b as i8).collect(), (0..d / 32).map(scale).collect())
}

#[test]
fn a_value_that_is_not_finite_makes_its_blocks_scale_nan_and_no_others() {
    let _session = session();
    let device = open();
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let mut values = vec![1.0; 96];
        values[40] = bad;
        let (codes, scales) = stored_codes(&device, &values);
        assert!(scales[1].is_nan() && codes[32..64].iter().all(|c| *c == 0), "{bad}");
        assert!(scales[0] == 1.0 / 127.0 && scales[2] == scales[0], "{bad}");
        assert!(codes[..32].iter().chain(&codes[64..]).all(|c| *c == 127), "{bad}");
    }
}

#[test]
fn lengths_are_checked_and_no_rows_are_nothing() {
    let _session = session();
    let device = open();
    let floats = DeviceBuffer::<f32>::zeroed(&device, 64).unwrap();
    let places = DeviceBuffer::from_slice(&device, &[RowPlace::default()]).unwrap();
    let store = RopeStore {
        queries: Span::EMPTY,
        keys: Span::EMPTY,
        values: Span::EMPTY,
        stride: 64,
        turned: Span::EMPTY,
        cos: Span::EMPTY,
        sin: Span::EMPTY,
        places: Span::EMPTY,
        recent: Span::EMPTY,
        layout: PageLayout { head_dim: 64, format: KvFormat::F16 },
        first_head: 0,
        num_q_heads: 1,
        num_kv_heads: 1,
        num_pairs: 32,
        pairing: RopePairing::Halves,
        query_factor: 1.0,
    };
    store.launch(&device, device.compute()).unwrap();
    let e = RopeStore { places: places.span(), ..store }.launch(&device, device.compute()).unwrap_err();
    assert!(e.to_string().contains("rope_store: queries"), "{e}");
    let all = floats.span();
    let row = RopeStore { places: places.span(), queries: all, keys: all, values: all, ..store };
    let e = row.launch(&device, device.compute()).unwrap_err();
    assert!(e.to_string().contains("rope_store: turned"), "{e}");
    let row = RopeStore { turned: all, ..row };
    let e = row.launch(&device, device.compute()).unwrap_err();
    assert!(e.to_string().contains("rope_store: cos"), "{e}");
}
