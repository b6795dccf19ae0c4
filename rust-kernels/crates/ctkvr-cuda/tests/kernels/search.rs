//! CTkvr's search and choice on the device, against the CPU's own code: the same lists and counters where numbers are small, near ties at most
//! where they are real; and nothing but a slot's own state in its bits.

use crate::retrieval::head::{Case, Head, Numbers, query};
use crate::retrieval::{Answer, Ask, Layer, assert_same, on_cpu, oracle};
use ctkvr_core::retriever::ProposedTail;
use ctkvr_cuda::head_image::HeadSizes;
use ctkvr_cuda::launch::search_state::SlotSearch;
use ctkvr_cuda::search::{LayerSearch, Lists, SearchMemory, SearchSizes};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{DeviceBuffer, Result};
use ctkvr_kernels::KvFormat;
use ctkvr_kernels::testing::Random;

/// Two rows of two heads: regions of several lengths, from one that is within a page to one that crosses some.
fn cases(base: Case) -> Vec<Case> {
    let regions = [1, 31, 255, 257, 512, 700];
    let mut random = Random(base.seed);
    (0..4)
        .map(|i| Case {
            seed: base.seed * 10 + i,
            region: if i == 0 { base.region } else { random.one_of(&regions) },
            growths: if i == 1 { &[] } else { base.growths },
            scores_all: i == 3,
            cluster_share: base.cluster_share.filter(|_| i < 2),
            ..base
        })
        .collect()
}

/// Means in 8 bits that are the keys and values themselves, whose codes are whole numbers. Of one query head, so that shares tie as scores do.
fn exact_q8(base: Case) -> Case {
    Case { format: KvFormat::Q8, cluster_format: KvFormat::Q8, cluster_size: 1, group: 1, ..base }
}

/// Where numbers are small, 1/sqrt(head_dim) is a power of two: scores are exact, and tie on both sides where they tie.
fn shapes(numbers: Numbers) -> Vec<Case> {
    let base = Case { numbers, ..Case::default() };
    let exact = |head_dim: usize| [head_dim, 4usize.pow(head_dim.ilog(4))][usize::from(numbers == Numbers::Small)];
    let cases = [
        Case { seed: 1, ..base },
        Case { seed: 2, head_dim: 96, group: 1, region: 256, growths: &[70, 33], ..base },
        Case { seed: 3, head_dim: 128, group: 7, region: 1030, growths: &[64, 64, 1], per_list: 2, num_probes: 3, ..base },
        Case { seed: 4, head_dim: 64, group: 16, region: 255, num_queries: 1, cluster_probes: 0, ..base },
        Case { seed: 5, format: KvFormat::Q8, head_dim: 96, group: 3, region: 520, growths: &[40], ..base },
        Case { seed: 6, format: KvFormat::Q8, head_dim: 128, group: 7, tail: false, ..base },
        // Every list, every cluster.
        Case { seed: 7, num_probes: 100, cluster_probes: 1000, list_len: 300, ..base },
        // Lists that leave gaps of more than a byte, and clusters of one position.
        Case { seed: 8, region: 2000, list_len: 3, cluster_size: 1, num_probes: 2, cluster_probes: 40, ..base },
        Case { seed: 9, head_dim: 256, region: 400, ..base },
        // Retrieval heads that read a part of their clusters, more than others do and all of them but some, beside others.
        Case { seed: 10, region: 600, growths: &[40], cluster_share: Some(0.25), ..base },
        Case { seed: 11, head_dim: 128, group: 4, region: 520, cluster_share: Some(0.9), num_probes: 1, ..base },
        // Clusters of one position, whose means are exact in 8 bits too; of regions of 31 and 257, and what is added, they are f16.
        Case { seed: 12, region: 1000, growths: &[40], cluster_probes: 9, ..exact_q8(base) },
        Case { seed: 13, head_dim: 256, region: 500, cluster_share: Some(0.25), ..exact_q8(base) },
    ];
    cases.map(|case| Case { head_dim: exact(case.head_dim), ..case }).into()
}

fn asks<'a>(heads: &'a [Head], seed: u64, max_selected: usize, top_p: f64) -> Vec<Ask<'a>> {
    let mut random = Random(seed);
    heads.iter().map(|head| Ask { head: Some(head), query: query(&mut random, &head.case), max_selected, top_p }).collect()
}

const CHOICES: [(usize, f64); 4] = [(24, 1.0), (0, 0.75), (33, 0.5), (0, 1.0)];

#[test]
fn small_numbers_give_the_cpus_lists_and_counters() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    for case in shapes(Numbers::Small) {
        let heads: Vec<Head> = cases(case).into_iter().map(Head::new).collect();
        for (i, (max_selected, top_p)) in CHOICES.into_iter().enumerate() {
            let asks = asks(&heads, case.seed + 100 * i as u64, max_selected, top_p);
            let layer = Layer::new(&device, asks.clone(), 2, &[0, 0])?;
            for (slot, (answer, ask)) in layer.run()?.iter().zip(&asks).enumerate() {
                let what = format!("{:?} {max_selected} {top_p} slot {slot}", ask.head.map(|h| h.case));
                assert_same(answer, &on_cpu(ask, false), &what);
                check(answer, ask, &what);
            }
        }
    }
    Ok(())
}

#[test]
fn real_numbers_differ_among_near_ties_at_most() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    for case in shapes(Numbers::Real) {
        let heads: Vec<Head> = cases(case).into_iter().map(Head::new).collect();
        for (i, (max_selected, top_p)) in CHOICES.into_iter().enumerate() {
            let asks = asks(&heads, case.seed + 100 * i as u64, max_selected, top_p);
            let layer = Layer::new(&device, asks.clone(), 2, &[0, 0])?;
            for (slot, (answer, ask)) in layer.run()?.iter().zip(&asks).enumerate() {
                check(answer, ask, &format!("{:?} {max_selected} {top_p} slot {slot}", ask.head.map(|h| h.case)));
            }
        }
    }
    Ok(())
}

/// A head of means in 8 bits is read as the CPU reads it, in any shape, also where what was added later is f16.
#[test]
fn means_in_eight_bits_say_what_the_cpu_says() -> Result<()> {
    let session = session();
    let device = crate::retrieval::open()?;
    let mut compared = 0;
    for (i, head_dim) in [64, 96, 128, 256].into_iter().enumerate() {
        for (j, group) in [1, 2, 7, 9, 16].into_iter().enumerate() {
            let seed = 700 + (10 * i + j) as u64;
            let growths: &[usize] = if j % 2 == 0 { &[40, 70] } else { &[] };
            let base = Case {
                seed,
                head_dim,
                group,
                growths,
                numbers: Numbers::Real,
                region: 600,
                cluster_size: [1, 2, 3][(i + j) % 3],
                cluster_format: KvFormat::Q8,
                ..Case::default()
            };
            let heads = [false, true].map(|scores_all| Head::new(Case { scores_all, ..base }));
            for head in &heads {
                let formats = head.state.index.tail().expect("a tail").segments().iter().map(|segment| segment.means().format());
                assert_eq!(formats.collect::<Vec<_>>()[..], [KvFormat::Q8, KvFormat::F16, KvFormat::F16][..1 + growths.len()]);
            }
            session.order(ORDERS[(i + j) % 3]);
            let asks = asks(&heads, seed, 24, 1.0);
            for (answer, ask) in Layer::new(&device, asks.clone(), 1, &[0, 0])?.run()?.iter().zip(&asks) {
                let (what, expected) = (format!("{:?}", ask.head.map(|h| h.case)), on_cpu(ask, false));
                check(answer, ask, &what);
                // Of the same lists. Scores are off by head_dim + 2 roundings of products of at most 2 * 2, here and there; weights, and so what
                // they say of values of 2, by twice that.
                if expected.tail == ProposedTail::Given && answer.candidates == expected.candidates {
                    let error = 2.0 * (head_dim + 2) as f32 * f32::EPSILON / 2.0 * 4.0 * (head_dim as f32).sqrt() + 1e-5;
                    let near = |a: &[f32], b: &[f32], error: f32| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= error);
                    assert!(
                        near(&answer.tail_lse, &expected.tail_lse, error),
                        "{what}: {:?}",
                        (&answer.tail_lse, &expected.tail_lse)
                    );
                    assert!(near(&answer.tail_value, &expected.tail_value, 4.0 * error), "{what}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 10, "{compared} of 20");
    Ok(())
}

/// Every stage by its definition.
fn check(answer: &Answer, ask: &Ask, what: &str) {
    let head = ask.head.expect("a head");
    if !head.case.scores_all {
        oracle::check_probes(answer, ask, what);
        if head.case.tail {
            oracle::check_clusters(answer, ask, what);
        } else {
            assert_eq!(answer.candidates, oracle::union(answer, head).into_iter().collect::<Vec<_>>(), "{what}");
        }
    }
    oracle::check_choice(answer, ask, what);
    if head.case.scores_all && head.case.tail && answer.selected.len() < answer.search.num_candidates as usize {
        oracle::check_scored_rest(answer, ask, what);
    }
}

#[test]
fn bits_depend_on_neither_warps_nor_company() -> Result<()> {
    let session = session();
    let device = crate::retrieval::open()?;
    let base = Case { seed: 21, numbers: Numbers::Real, head_dim: 96, region: 700, growths: &[40], ..Case::default() };
    let heads: Vec<Head> = cases(base).into_iter().map(Head::new).collect();
    let asks = asks(&heads, 5, 30, 0.875);
    let together = Layer::new(&device, asks.clone(), 2, &[0, 0])?;
    let expected = together.run()?;
    for order in ORDERS {
        session.order(order);
        assert_eq!(together.run()?, expected, "{order:?}");
        for (ask, expected) in asks.iter().zip(&expected) {
            let alone = Layer::new(&device, vec![ask.clone()], 1, &[0])?;
            assert_eq!(alone.run()?, std::slice::from_ref(expected), "{order:?}, alone");
        }
    }
    Ok(())
}

/// Nothing of a token is in a launch: addresses, lengths and numbers are read where they lie.
#[test]
fn one_graph_serves_every_token() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let base = Case { seed: 61, numbers: Numbers::Real, region: 300, growths: &[40], ..Case::default() };
    let heads: Vec<Head> = cases(base).into_iter().map(Head::new).collect();
    let mut layer = Layer::new(&device, asks(&heads, 6, 30, 0.875), 2, &[0, 0])?;
    let search = layer.search();
    let graph = device.compute().capture(|| layer.memory.search(&device, device.compute(), &search))?;
    let mut expected = layer.run()?;
    for _ in 0..3 {
        layer.poison()?;
        device.compute().launch_graph(&graph)?;
        assert_eq!(layer.answers()?, expected);
        layer.reverse()?;
        expected.reverse();
    }
    Ok(())
}

/// A query that is like nothing that was indexed reads everything, as long as its row has repairs left; heads of one layer see the same count.
#[test]
fn outliers_read_everything_within_their_rows_budget() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let case = Case { seed: 31, region: 300, num_queries: 64, ..Case::default() };
    let mut first = Head::new(case);
    first.state.index = with_floor(&first, 0.9);
    let mut random = Random(7);
    let far = query(&mut random, &case);
    let ask = |query: &[f32]| Ask { head: Some(&first), query: query.to_vec(), max_selected: 20, top_p: 1.0 };
    let asks: Vec<Ask> = (0..6).map(|_| ask(&far)).collect();
    let layer = Layer::new(&device, asks.clone(), 2, &[0, 1, 3])?;
    for (pass, repaired) in [[false, true, true], [false, false, true], [false, false, false]].into_iter().enumerate() {
        for (slot, answer) in layer.run()?.iter().enumerate() {
            let what = format!("pass {pass} slot {slot}");
            assert!(answer.search.is_outlier != 0, "{what}");
            assert_same(answer, &on_cpu(&asks[slot], repaired[slot / 2]), &what);
            check(answer, &asks[slot], &what);
        }
    }
    assert_eq!(layer.repairs.to_vec(&device)?, [0, 2, 4]);
    Ok(())
}

/// The same index with another floor.
fn with_floor(head: &Head, floor: f32) -> ctkvr_core::index::centroid_index::CentroidIndex {
    use ctkvr_core::index::centroid_index::{CentroidIndex, IndexFigures};
    let index = &head.state.index;
    let figures = IndexFigures { similarity_floor: floor, ..index.figures() };
    CentroidIndex::from_segments(index.segments().to_vec(), figures, index.tail().cloned())
}

#[test]
fn rows_without_an_index_choose_nothing() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let head = Head::new(Case { seed: 41, ..Case::default() });
    let mut random = Random(3);
    let ask = |head| Ask { head, query: query(&mut random, &Case::default()), max_selected: 20, top_p: 1.0 };
    let asks: Vec<Ask> = [None, Some(&head), None].map(ask).into();
    for (slot, answer) in Layer::new(&device, asks.clone(), 1, &[0, 0, 0])?.run()?.iter().enumerate() {
        if slot == 1 {
            assert_same(answer, &on_cpu(&asks[slot], false), "among others");
            continue;
        }
        assert_eq!((answer.search.num_candidates, answer.selected.len(), answer.tail_kind), (0, 0, 0));
        assert!(answer.tail_value.iter().all(|x| *x == 0.0) && answer.dropped.iter().all(|d| d.sum == 0.0));
    }
    Ok(())
}

/// What the host attends to is listed where it reads, the same list as for the device; the device chooses nothing of it and has the same tail.
#[test]
fn what_is_the_hosts_is_listed_and_left_to_it() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    for format in [KvFormat::F16, KvFormat::Q8] {
        let case = |seed| Case { seed, format, region: 600, ..Case::default() };
        let heads: Vec<Head> = [51, 52].map(case).into_iter().map(Head::new).collect();
        let layer = Layer::new(&device, asks(&heads, 9, 24, 1.0), 2, &[0])?;
        let expected = layer.run()?;
        let memory = SearchMemory::with_pinned_lists(&device, *layer.memory.sizes())?;
        let layouts: Vec<_> = layer.read(layer.search().layouts)?.into_iter().map(|of| of.on_host()).collect();
        let layouts = DeviceBuffer::from_slice(&device, &layouts)?;
        let search = LayerSearch { layouts: layouts.span(), lists: Lists::Pinned, ..layer.search() };
        device.compute().fill(search.searches, 0xff)?;
        memory.search(&device, device.compute(), &search)?;
        let (searches, chosen) = (layer.read(search.searches)?, memory.chosen());
        assert_eq!(layer.read(chosen.counts)?, [0, 0]);
        let row_len = memory.sizes().group * memory.sizes().head_dim;
        let (kinds, lse, value) = (layer.read(chosen.tail_kinds)?, layer.read(chosen.tail_lse)?, layer.read(chosen.tail_value)?);
        for (slot, expected) in expected.iter().enumerate() {
            assert!(!expected.candidates.is_empty() && expected.search.chooses == 1, "seed {}", heads[slot].case.seed);
            let search = SlotSearch { num_selected: expected.search.num_selected, chooses: 1, ..searches[slot] };
            assert_eq!((searches[slot].num_selected, searches[slot].chooses, search), (0, 0, expected.search));
            assert_eq!(memory.listed(slot)[..expected.candidates.len()], expected.candidates);
            assert_eq!((kinds[slot], expected.tail_kind), (1, 1), "given");
            assert_eq!(value[slot * row_len..(slot + 1) * row_len], expected.tail_value);
            let group = memory.sizes().group;
            assert_eq!(lse[slot * group..(slot + 1) * group], expected.tail_lse);
        }
    }
    Ok(())
}

mod on_the_stand_in {
    use super::*;

    #[test]
    fn memory_is_what_its_sizes_say() -> Result<()> {
        let session = session();
        let device = crate::retrieval::open()?;
        let most = HeadSizes { region: 1000, num_centroids: 70, num_probes: 5, num_clusters: 130 };
        let sizes = SearchSizes { slots: 6, num_kv_heads: 3, group: 5, head_dim: 96, most };
        let before = session.count("used_memory");
        let memory = SearchMemory::new(&device, sizes)?;
        assert_eq!((session.count("used_memory") - before) as usize, sizes.bytes());
        assert!(memory.sizes().hold(&most));
        assert!(!memory.sizes().hold(&HeadSizes { num_clusters: 131, ..most }));
        Ok(())
    }
}
