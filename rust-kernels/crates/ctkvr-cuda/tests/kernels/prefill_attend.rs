//! Causal attention of a prompt's rows: against sums in f64, and the same bits in every piece.

use crate::paged::{Paged, Softmax, budget};
use ctkvr_cuda::launch::prefill_attend::{self, PrefillAttend, RowTile, push_tiles};
use ctkvr_cuda::launch::slot::RowPlace;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PageLayout};
use std::ops::Range;

/// What new device memory holds.
const POISON: u32 = 0xeeee_eeee;
const GUARD: usize = 32;
/// Heads in a page before the layer's, and the layer's.
const FIRST_HEAD: usize = 1;
const KV_HEADS: usize = 2;
/// From here on products are of f16 alone.
const MIN_ROUNDED_POSITION: usize = 512;

fn open() -> Device {
    Device::open_with(0, &[prefill_attend::FAMILY]).unwrap()
}

/// Sequences, and queries of all their positions `[positions, KV_HEADS * group, head_dim]`.
struct Case {
    layout: PageLayout,
    group: usize,
    sequences: Vec<Paged>,
    queries: Vec<Vec<f32>>,
}

impl Case {
    fn new(device: &Device, seed: u64, layout: PageLayout, group: usize, lens: &[usize]) -> Self {
        let mut random = Random(seed);
        let sequences = lens.iter().map(|len| Paged::new(device, &mut random, layout, FIRST_HEAD + KV_HEADS, *len)).collect();
        let queries = lens.iter().map(|len| random.values(len * KV_HEADS * group * layout.head_dim, 4.0)).collect();
        Self { layout, group, sequences, queries }
    }

    fn row_len(&self) -> usize {
        KV_HEADS * self.group * self.layout.head_dim
    }

    /// Attends for these positions of sequences, in tiles of at most `most` rows; bits of each row, in order.
    fn attend(&self, device: &Device, runs: &[(usize, Range<usize>)], most: usize) -> Vec<u32> {
        let (mut queries, mut places, mut tiles) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, positions) in runs {
            let rows = places.len()..places.len() + positions.len();
            for first in rows.clone().step_by(most) {
                push_tiles(&mut tiles, first..rows.end.min(first + most), self.group);
            }
            queries.extend_from_slice(&self.queries[*sequence][positions.start * self.row_len()..positions.end * self.row_len()]);
            let pages = self.sequences[*sequence].table();
            places.extend(positions.clone().map(|p| RowPlace { pages, position: p as u32, reserved: 0 }));
        }
        let queries = DeviceBuffer::from_slice(device, &queries).unwrap();
        let places = DeviceBuffer::from_slice(device, &places).unwrap();
        let tiles = DeviceBuffer::from_slice(device, &tiles).unwrap();
        let out = DeviceBuffer::<f32>::new(device, queries.len() + GUARD).unwrap();
        let attend = PrefillAttend {
            queries: queries.span(),
            places: places.span(),
            tiles: tiles.span(),
            out: out.span().part(0..queries.len()),
            layout: self.layout,
            first_head: FIRST_HEAD,
            num_kv_heads: KV_HEADS,
            group: self.group,
        };
        attend.launch(device, device.compute()).unwrap();
        let mut bits: Vec<u32> = out.to_vec(device).unwrap().iter().map(|x| x.to_bits()).collect();
        assert!(bits.split_off(queries.len()).iter().all(|x| *x == POISON), "wrote behind the output");
        bits
    }

    /// The most that a value of a row and head may be off by. Below position 512 queries and weights are taken to 2^-22, else to 2^-11 (each
    /// query's rounding, half of it; and a weight's); rows of q8 are rounded to f16.
    fn budget(&self, softmax: &Softmax) -> f64 {
        let is_exact = softmax.count <= MIN_ROUNDED_POSITION;
        let (exact, half) = (2f64.powi(-21), 2f64.powi(-11));
        let row = if self.layout.format == KvFormat::Q8 { half } else { 0.0 };
        let rounding = if is_exact { exact } else { half };
        budget(softmax, rounding + row, rounding, row).value
    }

    /// Some positions of a sequence against f64.
    fn check(&self, sequence: usize, first: usize, bits: &[u32], positions: impl Iterator<Item = usize>, what: &str) {
        let (d, group) = (self.layout.head_dim, self.group);
        for position in positions {
            for head in 0..KV_HEADS * group {
                let at = head * d;
                let query = &self.queries[sequence][position * self.row_len() + at..][..d];
                let softmax = self.sequences[sequence].attend(FIRST_HEAD + head / group, query, 0..position + 1);
                let budget = self.budget(&softmax);
                for (i, total) in softmax.values.iter().enumerate() {
                    let actual = f64::from(f32::from_bits(bits[(position - first) * self.row_len() + at + i]));
                    let expected = total / softmax.sum;
                    let is_near = (actual - expected).abs() <= budget;
                    assert!(
                        is_near,
                        "{what}, position {position} head {head} value {i}: {actual}, not {expected}, budget {budget}"
                    );
                }
            }
        }
    }
}

#[test]
fn rows_attend_to_all_up_to_themselves_in_every_order() {
    let session = session();
    let device = open();
    for (i, (head_dim, group, format, len)) in [
        (64, 3, KvFormat::F16, 260),
        (64, 7, KvFormat::Q8, 70),
        (96, 2, KvFormat::F16, 67),
        (96, 1, KvFormat::Q8, 131),
        (128, 4, KvFormat::F16, 66),
        (128, 16, KvFormat::Q8, 18),
        (256, 2, KvFormat::F16, 66),
        (256, 5, KvFormat::Q8, 34),
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 900 + i as u64;
        // A short sequence beside it.
        let case = Case::new(&device, seed, PageLayout { head_dim, format }, group, &[len, 5]);
        let mut first = None;
        for order in ORDERS {
            session.order(order);
            let what = format!("seed {seed}, {order:?}, head_dim {head_dim}, group {group}, {format:?}");
            let bits = case.attend(&device, &[(0, 0..len), (1, 0..5)], len);
            let first = first.get_or_insert_with(|| {
                case.check(0, 0, &bits, (0..len).filter(|p| len < 100 || p % 8 < 2 || p + 6 > len), &what);
                case.check(1, 0, &bits[len * case.row_len()..], 0..5, &what);
                bits.clone()
            });
            assert_eq!(*first, bits, "{what}: other bits than in the first order");
        }
    }
}

#[test]
fn a_prompt_in_pieces_gives_the_same_bits() {
    let _session = session();
    let device = open();
    for (head_dim, group, format) in [(64, 3, KvFormat::F16), (96, 5, KvFormat::Q8), (256, 16, KvFormat::F16)] {
        let len = 75;
        let case = Case::new(&device, 40, PageLayout { head_dim, format }, group, &[len, 20]);
        let whole = case.attend(&device, &[(0, 0..len)], len);
        for pieces in [vec![0..1, 1..len], vec![0..63, 63..65, 65..len], vec![0..17, 17..40, 40..len]] {
            for piece in pieces {
                let row_len = case.row_len();
                let expected = &whole[piece.start * row_len..piece.end * row_len];
                // Beside another sequence, in tiles of one row or of many.
                let n = piece.len() * row_len;
                assert_eq!(case.attend(&device, &[(0, piece.clone())], 3), expected, "head_dim {head_dim}, {piece:?}");
                let both = case.attend(&device, &[(1, 3..9), (0, piece.clone())], len);
                assert_eq!(both[both.len() - n..], *expected, "head_dim {head_dim}, {piece:?} beside another");
            }
        }
    }
}

#[test]
fn rows_on_both_sides_of_the_rounded_position_have_their_own_budget_and_bits() {
    let _session = session();
    let device = open();
    for (head_dim, group, format) in [(64, 2, KvFormat::F16), (128, 1, KvFormat::Q8)] {
        let case = Case::new(&device, 41, PageLayout { head_dim, format }, group, &[520]);
        let bits = case.attend(&device, &[(0, 500..520)], 20);
        case.check(0, 500, &bits, 500..520, &format!("head_dim {head_dim}, {format:?}"));
        for p in [500, 511, 512, 519] {
            let alone = case.attend(&device, &[(0, p..p + 1)], 1);
            assert_eq!(alone, bits[(p - 500) * case.row_len()..][..case.row_len()], "position {p}");
        }
    }
}

#[test]
fn tiles_cover_each_row_once_the_last_first() {
    for (rows, group) in [(0..0, 1), (5..6, 16), (3..300, 7), (0..128, 1), (0..129, 1)] {
        let mut tiles = vec![];
        push_tiles(&mut tiles, rows.clone(), group);
        assert!(tiles.iter().all(|t| t.num_rows as usize * group <= 128 && t.num_rows > 0));
        assert!(tiles.windows(2).all(|t| t[0].first_row > t[1].first_row));
        let mut covered: Vec<usize> =
            tiles.iter().flat_map(|t: &RowTile| t.first_row as usize..(t.first_row + t.num_rows) as usize).collect();
        covered.sort_unstable();
        assert_eq!(covered, rows.collect::<Vec<_>>());
    }
}

#[test]
fn lengths_are_checked() {
    let _session = session();
    let device = open();
    let floats = DeviceBuffer::<f32>::zeroed(&device, 128).unwrap();
    let places = DeviceBuffer::from_slice(&device, &[RowPlace::default()]).unwrap();
    let attend = PrefillAttend {
        queries: floats.span(),
        places: places.span(),
        tiles: Span::EMPTY,
        out: floats.span().part(0..64),
        layout: PageLayout { head_dim: 64, format: KvFormat::F16 },
        first_head: 0,
        num_kv_heads: 2,
        group: 1,
    };
    assert!(attend.launch(&device, device.compute()).unwrap_err().to_string().contains("prefill_attend: out"));
    assert!(PrefillAttend { group: 17, ..attend }.launch(&device, device.compute()).is_err());
}
