//! Attention of decoded tokens, split by split: against sums in f64.

use crate::paged::Budget;
use crate::paged::slots::{Case, Reads, bits, guarded, is_poison};
use ctkvr_cuda::launch::attend::{self, Attend, SPLIT, partial_len, splits_of};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PageLayout};

fn open() -> Device {
    Device::open_with(0, &[attend::FAMILY]).unwrap()
}

/// Lengths around pages, splits, warps and tiles.
fn edges() -> Vec<Reads> {
    let mut reads: Vec<Reads> = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 127, 128, 129, 255, 256, 257].map(Reads::all).to_vec();
    reads.extend([
        Reads { len: 300, start: 0, end: 300, listed: 0 },
        Reads { len: 300, start: 0, end: 300, listed: 1 },
        Reads { len: 300, start: 0, end: 300, listed: 300 },
        Reads { len: 513, start: 4, end: 500, listed: 0 },
        Reads { len: 513, start: 4, end: 500, listed: 111 },
        Reads { len: 513, start: 4, end: 500, listed: 112 },
        Reads { len: 513, start: 1, end: 512, listed: 127 },
        Reads { len: 512, start: 256, end: 257, listed: 1 },
    ]);
    reads
}

/// The partials of every slot against f64, and that nothing else was written.
fn check(case: &Case, partials: &[f32], max_splits: usize, what: &str) {
    let (group, d) = (case.group, case.layout.head_dim);
    let stride = partial_len(group, d);
    let (slots, guard) = partials.split_at(case.reads.len() * max_splits * stride);
    assert!(is_poison(guard), "{what}: wrote behind the partials");
    for (slot, partials) in slots.chunks_exact(max_splits * stride).enumerate() {
        let reads = case.reads[slot];
        let (mine, others) = partials.split_at(splits_of(reads.num_entries()) * stride);
        assert!(is_poison(others), "{what} {reads:?}: wrote splits that it has not");
        if reads.num_entries() == 0 {
            continue;
        }
        for h in 0..group {
            let expected = case.softmax(slot, h);
            let Budget { weight, value } = case.budget(&expected);
            let max = mine.chunks_exact(stride).map(|p| p[group * d + h]).fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut values) = (0f64, vec![0f64; d]);
            for split in mine.chunks_exact(stride) {
                let factor = f64::from(split[group * d + h] - max).exp();
                sum += factor * f64::from(split[group * (d + 1) + h]);
                values.iter_mut().zip(&split[h * d..]).for_each(|(total, x)| *total += factor * f64::from(*x));
            }
            let lse = f64::from(max) + sum.ln();
            assert!(
                (lse - expected.lse()).abs() <= weight,
                "{what} {reads:?} head {h}: lse {lse}, not {}, budget {weight}",
                expected.lse()
            );
            for (i, (actual, total)) in values.iter().zip(&expected.values).enumerate() {
                let (actual, expected) = (actual / sum, total / expected.sum);
                assert!(
                    (actual - expected).abs() <= value,
                    "{what} {reads:?} head {h} value {i}: {actual}, not {expected}, budget {value}"
                );
            }
        }
    }
}

#[test]
fn splits_are_softmax_over_what_is_read_in_every_order() {
    let session = session();
    let device = open();
    for (i, (d, group, format)) in [
        (64, 3, KvFormat::F16),
        (64, 7, KvFormat::Q8),
        (96, 1, KvFormat::Q8),
        (96, 9, KvFormat::F16),
        (128, 8, KvFormat::F16),
        (128, 4, KvFormat::Q8),
        (128, 16, KvFormat::Q8),
        (256, 2, KvFormat::F16),
        (256, 12, KvFormat::Q8),
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 100 + i as u64;
        // All edges for two of them: each costs the shim a second.
        let reads: Vec<Reads> =
            edges().into_iter().enumerate().filter(|(j, _)| i < 2 || (i + j) % 5 == 0).map(|(_, r)| r).collect();
        let case = Case::new(&device, &mut Random(seed), PageLayout { head_dim: d, format }, group, &reads);
        let max_splits = reads.iter().map(|r| splits_of(r.num_entries())).max().unwrap() + 1;
        let slots: Vec<usize> = (0..reads.len()).collect();
        let mut first = None;
        for order in ORDERS {
            session.order(order);
            let what = format!("seed {seed}, {order:?}, head_dim {d}, group {group}, {format:?}");
            let partials = case.attend(&device, &slots, max_splits).to_vec(&device).unwrap();
            let first = first.get_or_insert_with(|| {
                check(&case, &partials, max_splits, &what);
                bits(&partials)
            });
            assert_eq!(*first, bits(&partials), "{what}: other bits than in the first order");
        }
    }
}

#[test]
fn a_slots_bits_do_not_depend_on_who_else_is_there() {
    let _session = session();
    let device = open();
    let reads =
        [Reads { len: 300, start: 3, end: 280, listed: 130 }, Reads::all(70), Reads { len: 600, start: 16, end: 500, listed: 250 }];
    let case = Case::new(&device, &mut Random(7), PageLayout { head_dim: 64, format: KvFormat::F16 }, 4, &reads);
    let stride = partial_len(4, 64);
    let all = bits(&case.attend(&device, &[0, 1, 2], 5).to_vec(&device).unwrap());
    for (slots, max_splits) in [(vec![0], 2), (vec![2, 0], 3), (vec![1, 0, 0], 7)] {
        let partials = bits(&case.attend(&device, &slots, max_splits).to_vec(&device).unwrap());
        for (i, slot) in slots.iter().enumerate() {
            let n = splits_of(reads[*slot].num_entries()).min(max_splits) * stride;
            assert_eq!(partials[i * max_splits * stride..][..n], all[slot * 5 * stride..][..n], "slot {slot} among {slots:?}");
        }
    }
}

#[test]
fn nothing_listed_needs_no_lists() {
    let _session = session();
    let device = open();
    let case = Case::new(&device, &mut Random(8), PageLayout { head_dim: 64, format: KvFormat::F16 }, 2, &[Reads::all(200)]);
    let with_lists = bits(&case.attend(&device, &[0], 2).to_vec(&device).unwrap());
    let uploaded = case.upload(&device, &[0], 1);
    let partials = guarded(&device, 2 * partial_len(2, 64));
    let attend = Attend {
        queries: uploaded.queries.span(),
        layouts: uploaded.layouts.span(),
        positions: Span::EMPTY,
        counts: Span::EMPTY,
        partials: partials.span().part(0..2 * partial_len(2, 64)),
        layout: case.layout,
        group: 2,
        max_splits: 2,
    };
    attend.launch(&device, device.compute()).unwrap();
    assert_eq!(bits(&partials.to_vec(&device).unwrap()), with_lists);
    let short = Attend { partials: partials.span().part(0..3), ..attend };
    assert!(short.launch(&device, device.compute()).is_err());
    assert!(Attend { group: 17, queries: Span::EMPTY, partials: Span::EMPTY, ..attend }.launch(&device, device.compute()).is_err());
    assert_eq!(SPLIT, 128);
}
