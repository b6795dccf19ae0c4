//! CTkvr's search and the choice among its candidates: nine launches of a layer.

use std::collections::BTreeSet;

use crate::retrieval::head::{Case, Head, Numbers, query};
use crate::retrieval::{Answer, Ask, Layer, open, oracle};
use crate::{counted, traffic};
use ctkvr_core::index::centroid_index::{CentroidIndex, IndexFigures};
use ctkvr_cuda::launch::attend::{self, Attend, SlotReads, partial_len, splits_of};
use ctkvr_cuda::launch::search_work::{SearchWay, SearchWork};
use ctkvr_cuda::launch::traffic::{SlotShape, Traffic};
use ctkvr_cuda::launch::{clusters, join, probe, score, select};
use ctkvr_cuda::stand_in::ledger::{Counted, Memory};
use ctkvr_cuda::stand_in::{Session, session};
use ctkvr_cuda::{Device, DeviceBuffer, Result};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PageLayout};

/// Says what a layer's memory is.
fn tell(session: &Session, layer: &Layer) {
    let search = layer.search();
    for image in layer.images() {
        image.numbers().for_each(|span| session.memory(span, Memory::Stored));
        session.memory(image.pointers(), Memory::Bookkeeping);
    }
    layer.pages().for_each(|span| session.memory(span, Memory::Stored));
    layer.page_tables().for_each(|span| session.memory(span, Memory::Bookkeeping));
    let (clusters, select) = (layer.memory.clusters(&search), layer.memory.select(&search));
    session.memory(search.heads, Memory::Bookkeeping);
    session.memory(search.layouts, Memory::Bookkeeping);
    session.memory(search.searches, Memory::Bookkeeping);
    for span in [search.repairs, search.repair_budgets, clusters.tickets, select.counts, select.tail_kinds] {
        session.memory(span, Memory::Bookkeeping);
    }
}

/// A slot's search in numbers, from the head itself and what the search came to.
fn work(layer: &Layer, slot: usize, answer: &Answer) -> Result<SearchWork> {
    let ask = &layer.asks[slot];
    let Some(head) = ask.head else { return Ok(SearchWork::default()) };
    let (index, case) = (&head.state.index, &head.case);
    let segments = index.tail().map_or(&[][..], |tail| tail.segments());
    let mut work = SearchWork {
        way: if case.scores_all { SearchWay::ScoresAll } else { SearchWay::Probes },
        region: index.end() - index.start(),
        clusters: segments.iter().map(|segment| segment.num_clusters()).sum(),
        clusters_in_q8: segments.iter().filter(|s| s.means().format() == KvFormat::Q8).map(|s| s.num_clusters()).sum(),
        cluster_segments: segments.len(),
        repairs: answer.search.repairs != 0,
        candidates: answer.search.num_candidates as usize,
        selected: answer.selected.len(),
        chooses: answer.search.chooses != 0,
        by_share: answer.search.chooses != 0 && ask.top_p < 1.0,
        ..SearchWork::default()
    };
    if case.scores_all {
        return Ok(work);
    }
    let (mut offsets, mut pieces) = (BTreeSet::new(), BTreeSet::new());
    for &probe in &answer.probes {
        let Place { segment: s, own: c } = place(index.active().iter().map(|segment| segment.num_centroids()), probe);
        let (segment, list) = (&index.active()[s], index.active()[s].list_of(c));
        let (_, bounds) = segment.lists.parts();
        offsets.extend([(s, list), (s, list + 1)]);
        let bytes = bounds[list] as usize..bounds[list + 1] as usize;
        pieces.extend((bytes.start / join::LIST_PIECE..bytes.end.div_ceil(join::LIST_PIECE)).map(|piece| (s, piece)));
    }
    work.centroids = index.active().iter().map(|segment| segment.num_centroids()).sum();
    work.probed = answer.probes.len();
    (work.list_offsets, work.list_pieces) = (offsets.len(), pieces.len());
    work.united = oracle::union(answer, head).len();
    let (mut offsets, mut words) = (BTreeSet::new(), BTreeSet::new());
    for &cluster in &answer.heaviest {
        let Place { segment: s, own: c } = place(segments.iter().map(|segment| segment.num_clusters()), cluster);
        offsets.extend([(s, c), (s, c + 1)]);
        let members = segments[s].members(c);
        let first = segments[s].start - index.start();
        words.extend(members.iter().map(|member| (first + *member as usize) / 32));
        work.members += members.len();
    }
    work.heaviest = answer.heaviest.len();
    (work.member_offsets, work.member_words) = (offsets.len(), words.len());
    let group = case.group;
    let lse = layer.read(layer.memory.clusters(&layer.search()).tail_lse)?;
    work.heads_with_rest = lse[slot * group..(slot + 1) * group].iter().filter(|lse| lse.is_finite()).count();
    Ok(work)
}

/// Where a centroid or cluster is whose number counts through all segments.
struct Place {
    segment: usize,
    /// Its number there.
    own: usize,
}

/// `nums`: how many each segment has.
fn place(nums: impl Iterator<Item = usize>, id: u32) -> Place {
    let mut own = id as usize;
    for (segment, num) in nums.enumerate() {
        if own < num {
            return Place { segment, own };
        }
        own -= num;
    }
    panic!("{id} is in no segment")
}

fn shape(layer: &Layer) -> SlotShape {
    let sizes = layer.memory.sizes();
    SlotShape { layout: PageLayout { head_dim: sizes.head_dim, format: layer.search().format }, group: sizes.group }
}

fn score_kernel(shape: &SlotShape) -> String {
    let format = if shape.layout.format == KvFormat::F16 { "f16" } else { "q8" };
    format!("score_{format}_h{}", shape.group.next_power_of_two().min(8))
}

/// A launch's traffic for one slot.
type OfSlot<'a> = &'a dyn Fn(&SearchWork) -> Traffic;

/// Runs a layer and compares every launch. Each slot's search, in numbers.
fn check(session: &Session, layer: &Layer, what: &str) -> Result<Vec<SearchWork>> {
    tell(session, layer);
    session.forget_counted();
    let answers = layer.run()?;
    let works = answers.iter().enumerate().map(|(slot, answer)| work(layer, slot, answer));
    let all = works.collect::<Result<Vec<SearchWork>>>()?;
    let shape = shape(layer);
    let score_kernel = score_kernel(&shape);
    let launches: [(&str, OfSlot); 9] = [
        ("probe", &|work| probe::traffic(&shape, work)),
        ("score_clusters", &|work| clusters::scores_traffic(&shape, work)),
        ("join_lists", &join::lists_traffic),
        ("weigh_clusters", &|work| clusters::weights_traffic(&shape, work)),
        ("list_marked", &join::marked_traffic),
        (&score_kernel, &|work| score::traffic(&shape, work)),
        ("sum_weights", &|work| select::weights_traffic(&shape, work)),
        ("select_largest", &|work| select::choice_traffic(&shape, work)),
        ("rest_values", &|work| clusters::rest_traffic(&shape, work)),
    ];
    for (kernel, of_slot) in launches {
        let counted = session.counted(kernel);
        assert_eq!(counted.launches, 1, "{kernel}");
        let expected: Traffic = all.iter().map(of_slot).sum();
        assert_eq!(traffic(&counted), expected, "{what}: {kernel} of {all:?}");
        // An address, layout, state, head; counters of the row; tables of segments and of pages.
        let segments = layer.images().iter().map(|image| image.pointers().len()).sum::<usize>();
        let pages = layer.page_tables().map(|table| table.len() * size_of::<u64>()).sum::<usize>();
        let most = all.len() * (8 + 40 + 48 + 16) + segments + pages;
        assert!(counted.bookkeeping as usize <= most, "{what}: {kernel}: {counted:?}, at most {most}");
    }
    Ok(all)
}

/// Heads with and without clusters, that score every key, that read everything, and rows without an index, side by side.
#[test]
fn searches_of_every_kind() -> Result<()> {
    let session = session();
    let device = open()?;
    let mut random = Random(71);
    let formats = [KvFormat::F16, KvFormat::Q8];
    for (i, (head_dim, group)) in [(64, 3), (96, 1), (128, 4), (64, 16), (128, 7), (64, 9)].into_iter().enumerate() {
        let regions = [[33, 500], [257, 1100], [256, 700], [40, 1030], [31, 2300], [600, 129]][i];
        let growths: &[usize] = if i % 2 == 0 { &[41, 90] } else { &[] };
        let base = Case {
            seed: 200 + i as u64,
            format: formats[i % 2],
            numbers: Numbers::Real,
            head_dim,
            group,
            growths,
            ..Case::default()
        };
        let heads: Vec<Head> = regions
            .into_iter()
            .flat_map(|region| {
                [
                    Case { region, ..base },
                    Case { region, tail: false, per_list: 3, list_len: 17, ..base },
                    Case { region, scores_all: true, ..base },
                    Case { region, scores_all: true, tail: false, ..base },
                    Case { region, cluster_size: 2, cluster_probes: 40, num_probes: 20, num_queries: 300, ..base },
                    // Means in 8 bits, where there are enough.
                    Case { region, cluster_size: 1, cluster_format: KvFormat::Q8, ..base },
                    Case { region, cluster_size: 3, cluster_format: KvFormat::Q8, scores_all: true, ..base },
                ]
            })
            .map(Head::new)
            .collect();
        for (max_selected, top_p) in [(0, 1.0), (1, 1.0), (20, 1.0), (300, 0.5), (0, 0.9)] {
            let mut asks: Vec<Ask> = heads
                .iter()
                .map(|head| Ask { head: Some(head), query: query(&mut random, &head.case), max_selected, top_p })
                .collect();
            asks.insert(3, Ask { head: None, query: query(&mut random, &base), max_selected, top_p });
            let num_slots = asks.len();
            let layer = Layer::new(&device, asks, num_slots, &[0])?;
            check(&session, &layer, &format!("{base:?} {max_selected} {top_p}"))?;
        }
    }
    Ok(())
}

/// Queries that are like nothing that was indexed read everything.
#[test]
fn repairs() -> Result<()> {
    let session = session();
    let device = open()?;
    let case = Case { seed: 31, region: 300, num_queries: 64, ..Case::default() };
    // Each slot has its own: what two of them share would be read once.
    let heads = [31, 32, 33, 34].map(|seed| {
        let mut head = Head::new(Case { seed, ..case });
        let index = &head.state.index;
        let figures = IndexFigures { similarity_floor: 0.9, ..index.figures() };
        head.state.index = CentroidIndex::from_segments(index.segments().to_vec(), figures, index.tail().cloned());
        head
    });
    let far = query(&mut Random(7), &case);
    let asks = heads.iter().map(|head| Ask { head: Some(head), query: far.clone(), max_selected: 20, top_p: 1.0 }).collect();
    let layer = Layer::new(&device, asks, 2, &[0, 1])?;
    check(&session, &layer, "repairs")?;
    assert_eq!(layer.repairs.to_vec(&device)?, [0, 2]);
    Ok(())
}

/// For whoever asks with --nocapture.
fn print_counted(session: &Session, kernels: &[&str]) {
    println!("| kernel | stored | passed | written | by blocks | asked | in sectors |\n|---|---|---|---|---|---|---|");
    for kernel in kernels {
        let Counted { stored, passed, written, by_blocks, asked, sectors, .. } = session.counted(kernel);
        println!("| `{kernel}` | {stored} | {passed} | {written} | {by_blocks} | {asked} | {sectors} |");
    }
}

/// What a whole layer's search and attention read of keys, values and index, each byte once.
#[test]
fn a_layer_reads_little_again() -> Result<()> {
    let session = session();
    let device =
        Device::open_with(0, &[attend::FAMILY, clusters::FAMILY, join::FAMILY, probe::FAMILY, score::FAMILY, select::FAMILY])?;
    let base = Case { seed: 300, numbers: Numbers::Real, head_dim: 128, group: 4, region: 1500, growths: &[90], ..Case::default() };
    let heads = [base, Case { scores_all: true, ..base }, Case { tail: false, ..base }].map(Head::new);
    for max_selected in [0, 64] {
        let mut random = Random(8);
        let mut ask = |head| Ask { head: Some(head), query: query(&mut random, &base), max_selected, top_p: 1.0 };
        let asks = heads.iter().map(&mut ask).collect();
        let layer = Layer::new(&device, asks, 3, &[0])?;
        let all = check(&session, &layer, "a layer")?;
        let (shape, chosen, search) = (shape(&layer), layer.memory.chosen(), layer.search());
        let reads: Vec<SlotReads> = all
            .iter()
            .zip(&heads)
            .map(|(work, head)| SlotReads { entries: head.len - work.region + work.selected, listed: work.selected })
            .collect();
        let max_splits = reads.iter().map(|reads| splits_of(reads.entries)).max().unwrap_or(0);
        let partials = DeviceBuffer::new(&device, all.len() * max_splits * partial_len(shape.group, shape.layout.head_dim))?;
        let attend = Attend {
            queries: search.queries,
            layouts: search.layouts,
            positions: chosen.positions,
            counts: chosen.counts,
            partials: partials.span(),
            layout: shape.layout,
            group: shape.group,
            max_splits,
        };
        attend.launch(&device, device.compute())?;
        device.compute().wait()?;
        let attended = session.counted("attend_f16_d128_h8");
        assert_eq!(traffic(&attended), reads.iter().map(|reads| reads.traffic(&shape)).sum(), "{max_selected}");
        let score_kernel = score_kernel(&shape);
        let kernels = [
            "probe",
            "score_clusters",
            "join_lists",
            "weigh_clusters",
            "list_marked",
            &score_kernel,
            "sum_weights",
            "select_largest",
            "rest_values",
            "attend_f16_d128_h8",
        ];
        print_counted(&session, &kernels);
        let counted = counted(&session, &kernels);
        let again: usize = all.iter().map(|work| work.read_again(&shape)).sum();
        assert_eq!(counted.fresh as usize, counted.stored as usize - again, "{max_selected}: {counted:?}");
    }
    Ok(())
}
