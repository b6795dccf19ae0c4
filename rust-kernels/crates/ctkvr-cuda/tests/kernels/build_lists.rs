//! kernels/build_lists.cu against sums in f64, and exact positions where scores are whole numbers.

use std::ops::Range;

use crate::built::Pages;
use crate::retrieval::head::{Case, Head, Numbers};
use ctkvr_cuda::launch::build_lists::{self, BuildLists, ListTask, missed_len, splits_of, words_of};
use ctkvr_cuda::launch::search_state::Total;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Plain, Result, Span};
use ctkvr_kernels::KvFormat;
use ctkvr_kernels::testing::Random;
use half::f16;

/// Some queries over some positions of a head.
struct Ask {
    positions: Range<usize>,
    /// f16 values `[queries, group, head_dim]`.
    queries: Vec<f32>,
    group: usize,
    /// Queries of a list.
    per_list: usize,
    list_len: usize,
    /// Found positions of each query, `[queries, positions]`.
    found: Vec<bool>,
}

/// What the device made of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    totals: Vec<Total>,
    lists: Vec<Vec<u32>>,
    /// Squares of all weights, of those not found, and these, of each row.
    missed: Vec<[f64; 3]>,
}

impl Ask {
    fn drawn(random: &mut Random, head: &Head, positions: Range<usize>, num_queries: usize, per_list: usize) -> Self {
        let Case { head_dim, group, numbers, .. } = head.case;
        let len = num_queries * group * head_dim;
        let queries = if numbers == Numbers::Small { random.integers(len, 1) } else { random.reals(len, 2) };
        let found = (0..num_queries * positions.len()).map(|_| random.once_in(4)).collect();
        let list_len = random.within(1..positions.len() + 1).min(200);
        Self { positions, queries, group, per_list, list_len, found }
    }

    fn rows(&self, d: usize) -> usize {
        self.queries.len() / d
    }

    /// A bit for each position.
    fn words(&self) -> Vec<u32> {
        let n = self.positions.len();
        let mut words = Vec::new();
        for query in self.found.chunks_exact(n.max(1)) {
            // Bits behind the last position are not looked at.
            let mut of_query = vec![u32::MAX; words_of(n)];
            for (i, is_found) in query.iter().enumerate().filter(|(_, is_found)| !**is_found) {
                assert!(!is_found);
                of_query[i / 32] &= !(1 << (i % 32));
            }
            words.extend(of_query);
        }
        words
    }
}

/// Buffers of an ask.
struct Memory {
    queries: DeviceBuffer<u16>,
    partials: DeviceBuffer<Total>,
    totals: DeviceBuffer<Total>,
    weights: DeviceBuffer<f32>,
    selected: DeviceBuffer<u32>,
    found: DeviceBuffer<u32>,
    missed: DeviceBuffer<f32>,
}

impl Memory {
    fn new(device: &Device, d: usize, ask: &Ask) -> Result<Self> {
        let (rows, n) = (ask.rows(d), ask.positions.len());
        let lists = rows.div_ceil(ask.group * ask.per_list);
        let queries: Vec<u16> = ask.queries.iter().map(|x| f16::from_f32(*x).to_bits()).collect();
        Ok(Self {
            queries: DeviceBuffer::from_slice(device, &queries)?,
            partials: DeviceBuffer::new(device, rows * splits_of(n))?,
            totals: DeviceBuffer::new(device, rows)?,
            weights: DeviceBuffer::new(device, lists * n)?,
            selected: DeviceBuffer::new(device, lists * ask.list_len)?,
            found: DeviceBuffer::from_slice(device, &ask.words())?,
            missed: DeviceBuffer::new(device, rows * missed_len(n))?,
        })
    }

    fn task(&self, ask: &Ask, pages: &Pages, head: &Head) -> ListTask {
        ListTask {
            pages: pages.address(),
            head_offset: head.offset() as u64,
            queries: self.queries.span(),
            partials: self.partials.span(),
            totals: self.totals.span(),
            weights: self.weights.span(),
            selected: self.selected.span(),
            found: self.found.span(),
            missed: self.missed.span(),
            positions: ask.positions.clone(),
            group: ask.group,
            rows_per_list: ask.group * ask.per_list,
            list_len: ask.list_len,
        }
    }
}

fn to_vec<T: Plain + Default>(device: &Device, span: Span<T>) -> Result<Vec<T>> {
    let mut values = vec![T::default(); span.len()];
    device.compute().copy_out(&mut values, span)?;
    Ok(values)
}

/// All asks in one launch of each kernel.
fn run(device: &Device, head: &Head, pages: &Pages, asks: &[Ask]) -> Result<Vec<Outcome>> {
    let d = head.case.head_dim;
    let memories: Vec<Memory> = asks.iter().map(|ask| Memory::new(device, d, ask)).collect::<Result<_>>()?;
    let tasks: Vec<ListTask> = memories.iter().zip(asks).map(|(memory, ask)| memory.task(ask, pages, head)).collect();
    let jobs = DeviceBuffer::new(device, tasks.len() + 1)?;
    let build = BuildLists::new(device, head.shape().head_layout(head.case.format), &tasks, jobs.span())?;
    build.totals()?;
    build.lists()?;
    build.missed()?;
    let outcome = |task: &ListTask| -> Result<Outcome> {
        let missed = to_vec(device, task.missed)?;
        let of_row =
            |row: &[f32]| row.chunks_exact(3).fold([0.0; 3], |sums, part| [0, 1, 2].map(|i: usize| sums[i] + f64::from(part[i])));
        Ok(Outcome {
            totals: to_vec(device, task.totals)?,
            lists: to_vec(device, task.selected)?.chunks_exact(task.list_len).map(<[u32]>::to_vec).collect(),
            missed: missed.chunks_exact(missed_len(task.positions.len())).map(of_row).collect(),
        })
    };
    tasks.iter().map(outcome).collect()
}

/// One row's scores in f64, and the largest sum of magnitudes of a key's products.
fn scores(head: &Head, ask: &Ask, row: usize) -> (Vec<f64>, f64) {
    let d = head.case.head_dim;
    let query = &ask.queries[row * d..(row + 1) * d];
    let keys = head.kv().keys(ask.positions.start, ask.positions.len());
    let mut widened = vec![0.0; keys.len() * d];
    head.kernels.widen_rows(&keys, &mut widened);
    let scale = 1.0 / (d as f64).sqrt();
    let mut magnitude = 0f64;
    let of_key = |key: &[f32]| {
        // As the kernels take them.
        let products = key.iter().zip(query).map(|(k, q)| f64::from(f16::from_f32(*k).to_f32()) * f64::from(*q));
        let (sum, all) = products.fold((0.0, 0.0), |(sum, all): (f64, f64), x| (sum + x, all + x.abs()));
        magnitude = magnitude.max(all * scale);
        sum * scale
    };
    (widened.chunks_exact(d).map(of_key).collect(), magnitude)
}

/// Against the definition. A weight e^(score - max) may be off by its score's and the maximum's rounding (16 products at a time: no product passes
/// through more than d / 16 + 16 sums), by the exponential's 3e-7 and 2 units for each of its argument, and a sum of n by n / 4 + 40 roundings.
fn check(head: &Head, ask: &Ask, outcome: &Outcome, what: &str) {
    let (d, n, unit) = (head.case.head_dim, ask.positions.len(), 2f64.powi(-24));
    let rows_per_list = ask.group * ask.per_list;
    let mut shares: Vec<Vec<f64>> = vec![vec![0.0; n]; ask.rows(d).div_ceil(rows_per_list)];
    let mut most_off = 0f64;
    for row in 0..ask.rows(d) {
        let (scores, magnitude) = scores(head, ask, row);
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let range = scores.iter().map(|s| max - s).fold(0.0, f64::max);
        let of_score = magnitude * (d as f64 / 16.0 + 20.0) * unit;
        let of_weight = 2.0 * of_score + 3e-7 + (2.0 * range + 4.0) * unit;
        let of_sum = of_weight + (n as f64 / 4.0 + 40.0) * unit;
        most_off = most_off.max(of_weight + of_sum);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).max(-87.0).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let Total { max: actual_max, sum: actual_sum } = outcome.totals[row];
        assert!((f64::from(actual_max) - max).abs() <= of_score, "{what} row {row}: largest score {actual_max} for {max}");
        assert!((f64::from(actual_sum) / sum - 1.0).abs() <= of_sum, "{what} row {row}: sum {actual_sum} for {sum}");
        shares[row / rows_per_list].iter_mut().zip(&weights).for_each(|(share, weight)| *share += weight / sum);
        let found = &ask.found[row / ask.group * n..(row / ask.group + 1) * n];
        let missed = |power: i32| weights.iter().zip(found).filter(|(_, found)| !**found).map(|(w, _)| w.powi(power)).sum::<f64>();
        let all: f64 = weights.iter().map(|w| w * w).sum();
        for (actual, expected) in outcome.missed[row].iter().zip([all, missed(2), missed(1)]) {
            // Squares of the least weights are no f32.
            assert!(
                (actual - expected).abs() <= 2.0 * of_sum * expected + n as f64 * 2f64.powi(-126),
                "{what} row {row}: missed {actual} for {expected}"
            );
        }
    }
    for (list, (chosen, shares)) in outcome.lists.iter().zip(&shares).enumerate() {
        assert_eq!(chosen.len(), ask.list_len);
        assert!(chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|p| (*p as usize) < n), "{what} list {list}: {chosen:?}");
        let mut sorted = shares.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let threshold = sorted[ask.list_len - 1];
        for (position, share) in shares.iter().enumerate() {
            let is_chosen = chosen.binary_search(&(position as u32)).is_ok();
            let is_right =
                if is_chosen { *share >= threshold * (1.0 - 2.0 * most_off) } else { *share <= threshold * (1.0 + 2.0 * most_off) };
            assert!(is_right, "{what} list {list}: {position} of share {share}, chosen: {is_chosen}, threshold {threshold}");
        }
    }
    assert_eq!(outcome.lists.len(), shares.len());
}

fn open() -> Result<Device> {
    Device::open_with(0, &[build_lists::FAMILY])
}

/// A head whose state nobody asks for.
fn head_of(case: Case) -> Head {
    Head::new(Case { num_queries: 1, list_len: 1, tail: false, ..case })
}

#[test]
fn lists_totals_and_missed_weights_as_defined() -> Result<()> {
    let session = session();
    let device = open()?;
    let mut seeds = Random(81);
    for round in 0..16 {
        let seed = seeds.bits();
        let mut random = Random(seed);
        let (head_dim, group) = ([64, 96, 128, 256][round % 4], random.one_of(&[1, 2, 3, 7, 16]));
        let format = if round / 4 % 2 == 0 { KvFormat::F16 } else { KvFormat::Q8 };
        let numbers = if random.once_in(3) { Numbers::Small } else { Numbers::Real };
        let region = random.one_of(&[1, 2, 63, 64, 65, 130, 255, 257, 300]);
        let head = head_of(Case { seed, head_dim, group, format, numbers, region, sinks: 5, ..Case::default() });
        let pages = Pages::of(&device, &head)?;
        let num_queries = random.within(1..1 + 140 / group);
        let per_list = random.one_of(&[1, 1, 2, 3, 10]);
        // Of different sizes: the region, and what lies before it.
        let asks =
            [Ask::drawn(&mut random, &head, 5..5 + region, num_queries, per_list), Ask::drawn(&mut random, &head, 0..5, 2, 1)];
        session.order(ORDERS[round % 3]);
        let what = format!(
            "seed {seed}, head_dim {head_dim}, group {group}, {per_list} a list, {format:?}, {numbers:?}, {region} positions"
        );
        let outcomes = run(&device, &head, &pages, &asks)?;
        asks.iter().zip(&outcomes).for_each(|(ask, outcome)| check(&head, ask, outcome, &what));
    }
    Ok(())
}

/// A list of more rows than a tile has, and more positions than a split: each twice.
#[test]
fn many_rows_of_a_list_and_more_than_a_split() -> Result<()> {
    let _session = session();
    let device = open()?;
    let mut random = Random(83);
    let head = head_of(Case { seed: 83, group: 16, numbers: Numbers::Real, region: 100, ..Case::default() });
    let pages = Pages::of(&device, &head)?;
    let ask = Ask::drawn(&mut random, &head, 4..104, 19, 10);
    check(&head, &ask, &run(&device, &head, &pages, std::slice::from_ref(&ask))?[0], "a list of 160 rows and one of 144");
    let head = head_of(Case { seed: 84, group: 1, numbers: Numbers::Real, region: 4096 + 70, ..Case::default() });
    let pages = Pages::of(&device, &head)?;
    let ask = Ask { list_len: 500, ..Ask::drawn(&mut random, &head, 4..4 + 4096 + 70, 3, 1) };
    check(&head, &ask, &run(&device, &head, &pages, std::slice::from_ref(&ask))?[0], "two splits");
    Ok(())
}

/// Whole numbers, of which scores are exact: the very positions, ties to the smaller one.
#[test]
fn exact_scores_give_exact_lists() -> Result<()> {
    let session = session();
    let device = open()?;
    let mut seeds = Random(82);
    for round in 0..9 {
        let seed = seeds.bits();
        let mut random = Random(seed);
        let (head_dim, format) = ([64, 256, 64][round % 3], [KvFormat::F16, KvFormat::F16, KvFormat::Q8][round % 3]);
        let head = head_of(Case { seed, head_dim, group: 1, format, region: 280, sinks: 3, ..Case::default() });
        let pages = Pages::of(&device, &head)?;
        let mut ask = Ask::drawn(&mut random, &head, 3..283, 17, 1);
        // Few distinct scores, so that most tie.
        ask.queries.iter_mut().enumerate().filter(|(i, _)| i % 16 != 0).for_each(|(_, x)| *x = 0.0);
        ask.list_len = random.within(1..281);
        session.order(ORDERS[round % 3]);
        let outcome = &run(&device, &head, &pages, std::slice::from_ref(&ask))?[0];
        for (row, list) in outcome.lists.iter().enumerate() {
            let (scores, _) = scores(&head, &ask, row);
            let mut order: Vec<u32> = (0..280).collect();
            // Scores so low that their weight is the least there is tie.
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let floored = |i: u32| scores[i as usize].max(max - 87.0);
            order.sort_by(|&a, &b| floored(b).total_cmp(&floored(a)).then(a.cmp(&b)));
            order.truncate(ask.list_len);
            order.sort_unstable();
            assert_eq!(*list, order, "seed {seed} row {row}, {} of 280, head_dim {head_dim}, {format:?}", ask.list_len);
        }
    }
    Ok(())
}

/// A row's bits do not depend on who else is in the launch, nor on the order of warps.
#[test]
fn the_same_bits_in_any_company_and_order() -> Result<()> {
    let session = session();
    let device = open()?;
    let mut random = Random(85);
    let head = head_of(Case { seed: 85, numbers: Numbers::Real, region: 200, ..Case::default() });
    let pages = Pages::of(&device, &head)?;
    let asks: Vec<Ask> = [30, 1, 50].map(|count| Ask::drawn(&mut random, &head, 4..204, count, 2)).into();
    let together = run(&device, &head, &pages, &asks)?;
    for (ask, expected) in asks.iter().zip(&together) {
        for order in ORDERS {
            session.order(order);
            assert_eq!(run(&device, &head, &pages, std::slice::from_ref(ask))?[0], *expected, "{order:?}");
        }
    }
    Ok(())
}

#[test]
fn a_key_that_is_not_finite_makes_totals_nan() -> Result<()> {
    let _session = session();
    let device = open()?;
    for (bad, position) in [(f16::INFINITY, 0), (f16::NEG_INFINITY, 77), (f16::NAN, 119)] {
        let mut random = Random(86);
        let head = head_of(Case { seed: 86, group: 1, region: 120, ..Case::default() });
        let pages = Pages::of(&device, &head)?;
        let ask = Ask::drawn(&mut random, &head, 4..124, 9, 1);
        let (row, _) = head.shape().head_layout(KvFormat::F16).offsets(ctkvr_kernels::KvSide::Keys, 4 + position);
        pages.overwrite(&device, head.offset() + row + 2 * 13, &bad.to_le_bytes())?;
        let outcome = &run(&device, &head, &pages, std::slice::from_ref(&ask))?[0];
        assert!(outcome.totals.iter().all(|total| total.sum.is_nan()), "{bad} at {position}: {:?}", outcome.totals);
    }
    Ok(())
}

mod on_the_stand_in {
    use super::*;

    /// Nothing to choose from is no launch, and lengths that do not fit are refused.
    #[test]
    fn nothing_and_what_does_not_fit() -> Result<()> {
        let session = session();
        let device = open()?;
        let head = head_of(Case { group: 1, region: 70, ..Case::default() });
        let pages = Pages::of(&device, &head)?;
        let mut ask = Ask::drawn(&mut Random(87), &head, 4..74, 2, 1);
        let memory = Memory::new(&device, 64, &ask)?;
        let layout = head.shape().head_layout(KvFormat::F16);
        let jobs = DeviceBuffer::new(&device, 1)?;
        let refuses = |task: ListTask, run: fn(&BuildLists) -> Result<()>| {
            BuildLists::new(&device, layout, &[task], jobs.span()).and_then(|build| run(&build)).is_err()
        };
        let task = memory.task(&ask, &pages, &head);
        assert!(refuses(ListTask { totals: Span::EMPTY, ..task.clone() }, |build| build.totals()));
        assert!(refuses(ListTask { weights: Span::EMPTY, ..task.clone() }, |build| build.lists()));
        assert!(refuses(ListTask { found: Span::EMPTY, ..task.clone() }, |build| build.missed()));
        assert!(BuildLists::new(&device, layout, &[task], Span::EMPTY).is_err());
        let launches = session.count("launches");
        ask.positions = 4..4;
        (ask.found, ask.list_len) = (Vec::new(), 0);
        let empty = Memory::new(&device, 64, &ask);
        let empty = empty?;
        let task = empty.task(&ask, &pages, &head);
        let tasks = [task];
        let build = BuildLists::new(&device, layout, &tasks, jobs.span())?;
        build.totals()?;
        build.lists()?;
        assert_eq!(to_vec(&device, tasks[0].totals)?, [Total { max: f32::NEG_INFINITY, sum: 0.0 }; 2]);
        assert_eq!(session.count("launches") - launches, 1, "of the totals of nothing alone");
        Ok(())
    }
}
