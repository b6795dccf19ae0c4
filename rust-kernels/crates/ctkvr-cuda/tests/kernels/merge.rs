//! Splits, what the host attended to, and the tail as one softmax: against sums in f64.

use crate::paged::slots::{Case, Reads, bits, guarded, is_poison};
use crate::paged::{Budget, MOST, Softmax};
use ctkvr_core::retriever::ProposedTail;
use ctkvr_cuda::launch::attend::{self, partial_len, splits_of};
use ctkvr_cuda::launch::merge::{self, Merge};
use ctkvr_cuda::launch::search_state::{Total, tail_code};
use ctkvr_cuda::launch::slot::SlotLayout;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PageLayout};

fn open() -> Device {
    Device::open_with(0, &[attend::FAMILY, merge::FAMILY]).unwrap()
}

/// What stands beside a slot's splits, drawn.
struct Beside {
    /// Of the host: more keys' softmax.
    host: Option<Softmax>,
    tail: ProposedTail,
    tail_lse: f64,
    tail_value: Vec<f64>,
    dropped: (f64, f64),
}

/// The merge as ctkvr-core's `attention::merge` has it, in f64: output, share, lse of what was read, of all.
fn merged(read: &Softmax, beside: &Beside) -> (Vec<f64>, f64, f64, f64) {
    let mut total = read.clone();
    let mut add = |max: f64, sum: f64, values: &dyn Fn(usize) -> f64| {
        if max == f64::NEG_INFINITY {
            return total.clone();
        }
        let top = total.max.max(max);
        let (old, new) = ((total.max - top).exp(), (max - top).exp());
        total.sum = total.sum * old + sum * new;
        total.values.iter_mut().enumerate().for_each(|(i, x)| *x = *x * old + values(i) * new);
        total.max = top;
        total.clone()
    };
    if let Some(host) = &beside.host {
        add(host.max, host.sum, &|i| host.values[i]);
    }
    let read = add(f64::NEG_INFINITY, 0.0, &|_| 0.0).lse();
    let (max, sum) = beside.dropped;
    let tail = match beside.tail {
        ProposedTail::Scored => max,
        ProposedTail::Given => beside.tail_lse,
        ProposedTail::None => f64::NEG_INFINITY,
    };
    let share = if tail == f64::NEG_INFINITY {
        if read == f64::NEG_INFINITY { 0.0 } else { 1.0 / (1.0 + (max - read).exp() * sum) }
    } else {
        if beside.tail == ProposedTail::Given {
            add(tail, 1.0, &|i| beside.tail_value[i]);
        }
        let all = add(max, sum, &|i| sum * beside.tail_value[i]).lse();
        (read - all).exp()
    };
    let total = add(f64::NEG_INFINITY, 0.0, &|_| 0.0);
    let out = total.values.iter().map(|x| if total.sum > 0.0 { x / total.sum } else { 0.0 }).collect();
    (out, share, read, total.lse())
}

#[test]
fn the_merge_is_one_softmax_over_all_its_parts() {
    let session = session();
    let device = open();
    for (seed, d, group, format) in [(31, 64, 3, KvFormat::F16), (32, 96, 2, KvFormat::F16), (33, 256, 1, KvFormat::Q8)] {
        let mut random = Random(seed);
        let some = Reads { len: 300, start: 2, end: 290, listed: 20 };
        let nothing = Reads { len: 300, start: 0, end: 300, listed: 0 };
        let long = Reads::all(1300);
        let reads = [some, some, some, some, nothing, nothing, nothing, some, long];
        let kinds = [
            ProposedTail::None,
            ProposedTail::Given,
            ProposedTail::Scored,
            ProposedTail::None,
            ProposedTail::None,
            ProposedTail::Given,
            ProposedTail::Scored,
            ProposedTail::Scored,
            ProposedTail::Given,
        ];
        let dropped_none = [3, 4, 6, 7];
        let case = Case::new(&device, &mut random, PageLayout { head_dim: d, format }, group, &reads);
        let n = reads.len();
        let slots: Vec<usize> = (0..n).collect();
        let max_splits = splits_of(1300) + 1;
        let mut beside = Vec::new();
        for (slot, kind) in kinds.into_iter().enumerate() {
            for _ in 0..group {
                let host = (slot % 3 == 1).then(|| Softmax {
                    max: f64::from(random.unit()),
                    sum: f64::from(1.5f32 + random.unit()),
                    values: random.values(d, MOST).iter().map(|x| f64::from(*x)).collect(),
                    ..Softmax::default()
                });
                let dropped = if dropped_none.contains(&slot) {
                    (f64::NEG_INFINITY, 0.0)
                } else {
                    (f64::from(random.unit()), f64::from(2.0 + random.unit()))
                };
                let tail_value = random.values(d, MOST).iter().map(|x| f64::from(*x)).collect();
                beside.push(Beside { host, tail: kind, tail_lse: f64::from(3.0 * random.unit()), tail_value, dropped });
            }
        }
        let to_f32 = |f: &dyn Fn(&Beside) -> Vec<f64>| beside.iter().flat_map(f).map(|x| x as f32).collect::<Vec<f32>>();
        let mut host = vec![];
        for of_slot in beside.chunks_exact(group) {
            let of = |f: &dyn Fn(&Softmax) -> Vec<f64>, none: Vec<f64>| {
                of_slot.iter().flat_map(|b| b.host.as_ref().map_or(none.clone(), f)).map(|x| x as f32).collect::<Vec<f32>>()
            };
            host.extend(of(&|s| s.values.clone(), vec![0.0; d]));
            host.extend(of(&|s| vec![s.max], vec![f64::NEG_INFINITY]));
            host.extend(of(&|s| vec![s.sum], vec![0.0]));
            // The device's own are not read where the host has some.
            host.extend(of_slot.iter().flat_map(|b| [b.dropped.0 as f32, b.dropped.1 as f32]));
        }
        let upload = |values: &[f32]| DeviceBuffer::from_slice(&device, values).unwrap();
        let (host, tail_lse) = (upload(&host), upload(&to_f32(&|b| vec![b.tail_lse])));
        let tail_value = upload(&to_f32(&|b| b.tail_value.clone()));
        let of_device = |b: &Beside| if b.host.is_some() { (9.0, 9.0) } else { b.dropped };
        let dropped: Vec<Total> =
            beside.iter().map(of_device).map(|(max, sum)| Total { max: max as f32, sum: sum as f32 }).collect();
        let dropped = DeviceBuffer::from_slice(&device, &dropped).unwrap();
        let tail_kinds = DeviceBuffer::from_slice(&device, &kinds.map(tail_code)).unwrap();
        let mut first = None;
        for order in ORDERS {
            session.order(order);
            let what = format!("seed {seed}, {order:?}");
            let partials = case.attend(&device, &slots, max_splits);
            let uploaded = case.upload(&device, &slots, 21);
            let layouts: Vec<SlotLayout> = uploaded.layouts.to_vec(&device).unwrap();
            let layouts = layouts.into_iter().zip(beside.chunks_exact(group));
            let layouts: Vec<_> = layouts.map(|(of, b)| if b[0].host.is_some() { of.on_host() } else { of }).collect();
            let layouts = DeviceBuffer::from_slice(&device, &layouts).unwrap();
            let [out, shares, read_lse, total_lse] = [d, 1, 1, 1].map(|of_head| guarded(&device, n * group * of_head));
            let merge = Merge {
                layouts: layouts.span(),
                counts: uploaded.counts.span(),
                partials: partials.span().part(0..n * max_splits * partial_len(group, d)),
                host: host.span(),
                tail_kinds: tail_kinds.span(),
                tail_lse: tail_lse.span(),
                tail_value: tail_value.span(),
                dropped: dropped.span(),
                out: out.span().part(0..n * group * d),
                shares: shares.span().part(0..n * group),
                read_lse: read_lse.span().part(0..n * group),
                total_lse: total_lse.span().part(0..n * group),
                head_dim: d,
                group,
                max_splits,
            };
            merge.launch(&device, device.compute()).unwrap();
            let [out, shares, read_lse, total_lse] = [&out, &shares, &read_lse, &total_lse].map(|b| b.to_vec(&device).unwrap());
            assert!(
                is_poison(&out[n * group * d..]) && is_poison(&shares[n * group..]) && is_poison(&total_lse[n * group..]),
                "{what}"
            );
            for (row, beside) in beside.iter().enumerate() {
                let read = case.softmax(row / group, row % group);
                let (expected, share, read_expected, all_expected) = merged(&read, beside);
                let Budget { weight, value } = case.budget(&read);
                // The other parts are given in f32, and weighed by exponentials as the splits are; logarithms near 10.
                let (weight, value) = (weight + 64.0 * 2f64.powi(-24), value + 64.0 * f64::from(MOST) * 2f64.powi(-24));
                let near = |a: f32, b: f64, budget: f64| f64::from(a) == b || (f64::from(a) - b).abs() <= budget;
                assert!(near(read_lse[row], read_expected, weight), "{what} row {row}: read {} not {read_expected}", read_lse[row]);
                assert!(near(total_lse[row], all_expected, weight), "{what} row {row}: all {} not {all_expected}", total_lse[row]);
                assert!(near(shares[row], share, 2.0 * weight), "{what} row {row}: share {} not {share}", shares[row]);
                for (i, (actual, expected)) in out[row * d..].iter().zip(&expected).enumerate() {
                    assert!(near(*actual, *expected, value), "{what} row {row} value {i}: {actual} not {expected}, budget {value}");
                }
            }
            let all: Vec<u32> = [out, shares, read_lse, total_lse].iter().flat_map(|x| bits(x)).collect();
            assert_eq!(*first.get_or_insert_with(|| all.clone()), all, "{what}: other bits");
        }
        // Without what may be absent, what was read alone.
        let uploaded = case.upload(&device, &slots, 21);
        let partials = case.attend(&device, &slots, max_splits);
        let [out, shares, read_lse, total_lse] =
            [d, 1, 1, 1].map(|of_head| DeviceBuffer::<f32>::new(&device, n * group * of_head).unwrap());
        let merge = Merge {
            layouts: uploaded.layouts.span(),
            counts: uploaded.counts.span(),
            partials: partials.span().part(0..n * max_splits * partial_len(group, d)),
            host: Span::EMPTY,
            tail_kinds: Span::EMPTY,
            tail_lse: Span::EMPTY,
            tail_value: Span::EMPTY,
            dropped: Span::EMPTY,
            out: out.span(),
            shares: shares.span(),
            read_lse: read_lse.span(),
            total_lse: total_lse.span(),
            head_dim: d,
            group,
            max_splits,
        };
        merge.launch(&device, device.compute()).unwrap();
        let (out, shares) = (out.to_vec(&device).unwrap(), shares.to_vec(&device).unwrap());
        for row in 0..n * group {
            let read = case.softmax(row / group, row % group);
            let nothing = read.count == 0;
            assert_eq!(shares[row], if nothing { 0.0 } else { 1.0 });
            let Budget { value, .. } = case.budget(&read);
            for (actual, total) in out[row * d..].iter().zip(&read.values) {
                let expected = if nothing { 0.0 } else { total / read.sum };
                assert!(
                    (f64::from(*actual) - expected).abs() <= value + 64.0 * 2f64.powi(-24),
                    "row {row}: {actual} not {expected}"
                );
            }
        }
    }
}
