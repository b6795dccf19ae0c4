//! States that the device builds, beside those that the core builds from the same keys, values and queries.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::built::Pages;
use crate::retrieval::head::{Case, Head, Numbers, OUR_HEAD, options, query};
use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::retriever::{BuildInput, HeadRetriever, HeadState};
use ctkvr_core::sequence::head_plan::HeadPlan;
use ctkvr_core::{BuildOptions, Error};
use ctkvr_cuda::Device;
use ctkvr_cuda::device_builder::{BuildBounds, BuildMemory, DeviceBuilder, HeadBuild};
use ctkvr_cuda::launch::{build_clusters, build_lists};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{Kernels, KvFormat, KvSide};
use half::f16;

const BUILD: BuildOptions = BuildOptions { num_queries: 60, append_size: 64 };
static GO: AtomicBool = AtomicBool::new(false);

fn open() -> Device {
    Device::open_with(0, &[build_clusters::FAMILY, build_lists::FAMILY]).expect("the stand-in's device")
}

/// A table whose products are fused, as a device's are: every one but the plain one.
fn fused(head_dim: usize) -> &'static Kernels {
    Kernels::available().into_iter().find(|k| k.name != "scalar" && head_dim.is_multiple_of(k.lanes)).expect("this machine's own")
}

/// Keys and values, whose own state nobody asks for.
fn stored(case: Case) -> Head {
    let head = Head::new(Case { num_queries: 1, list_len: 1, tail: false, ..case });
    Head { case, ..head }
}

/// Queries as the engine holds them: f16.
fn queries(random: &mut Random, case: &Case, count: usize) -> Vec<f32> {
    (0..count).flat_map(|_| query(random, case)).map(|x| f16::from_f32(x).to_f32()).collect()
}

/// A build or a growth of one head.
struct Step {
    plan: HeadPlan,
    /// What the core makes of it, and what it goes on from.
    before: Option<CtkvrHead>,
}

impl Step {
    fn new(region: Range<usize>, queries: Vec<f32>, len: usize, before: Option<&CtkvrHead>) -> Self {
        let state = |head: &CtkvrHead| {
            let (end, made_at, grown_at) = (head.index.end(), head.index.made_at(), head.index.grown_at());
            HeadState { head: Arc::new(head.clone()), end, made_at, grown_at }
        };
        let plan = HeadPlan { head: OUR_HEAD, region, queries, len, grown_at: len, before: before.map(state) };
        Self { plan, before: before.cloned() }
    }

    /// By the core, of keys and values on the host.
    fn by_core(&self, stored: &Head, case: &Case) -> Result<CtkvrHead, Error> {
        let HeadPlan { region, queries, len, grown_at, .. } = &self.plan;
        let input = BuildInput {
            kernels: fused(case.head_dim),
            layer: 0,
            keys: stored.kv().keys(0, *len),
            values: stored.kv().values(0, *len),
            region: region.clone(),
            queries,
            group: case.group,
            grown_at: *grown_at,
            options: BUILD,
            cancel: &GO,
        };
        match &self.before {
            None => CtkvrHead::build(&input, options(case)),
            Some(before) => before.grown(&input),
        }
    }
}

/// Where steps are taken.
#[derive(Clone, Copy)]
struct Bench<'a> {
    device: &'a Device,
    stored: &'a Head,
    pages: &'a Pages,
    bounds: BuildBounds,
    cancel: &'a AtomicBool,
}

impl<'a> Bench<'a> {
    fn new(device: &'a Device, stored: &'a Head, pages: &'a Pages) -> Self {
        Self { device, stored, pages, bounds: BuildBounds::default(), cancel: &GO }
    }

    /// Some steps at once.
    fn build(&self, steps: &[&Step]) -> Result<Vec<CtkvrHead>, Error> {
        let case = &self.stored.case;
        let builder = DeviceBuilder {
            device: self.device,
            kernels: fused(case.head_dim),
            num_threads: 2,
            layout: self.stored.shape().head_layout(case.format),
            group: case.group,
            pages: self.pages.address(),
            on_host: self.pages.is_on_host(),
            cancel: self.cancel,
        };
        let options = options(case);
        let builds: Vec<HeadBuild> =
            steps.iter().map(|step| HeadBuild { plan: &step.plan, before: step.before.as_ref(), options, build: BUILD }).collect();
        let mut memory = BuildMemory::within(self.bounds);
        assert_eq!(memory.heads_at_once(&builder, &builds), if self.bounds.heads_bytes == 0 { 1 } else { builds.len() });
        builder.build(&mut memory, &builds)
    }

    fn build_one(&self, step: &Step) -> CtkvrHead {
        self.build(&[step]).expect("built").remove(0)
    }
}

/// Positions of all lists that both have, of all.
fn common(actual: &CtkvrHead, expected: &CtkvrHead) -> (usize, usize) {
    let (mut both, mut all) = (0, 0);
    for (a, b) in actual.index.segments().iter().zip(expected.index.segments()) {
        for list in 0..b.lists.len() {
            let positions = |lists: &ctkvr_core::index::posting_lists::PostingLists| {
                let mut positions = Vec::new();
                lists.for_each(list, |p| positions.push(p));
                positions
            };
            let (a, b) = (positions(&a.lists), positions(&b.lists));
            assert_eq!(a.len(), b.len(), "list {list}");
            both += b.iter().filter(|p| a.binary_search(p).is_ok()).count();
            all += b.len();
        }
    }
    (both, all)
}

fn sharpness(head: &CtkvrHead) -> f32 {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    f32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]])
}

/// The same clusters bit by bit, the same centroids, and lists that differ in no more than one position of `one_of`: where weights nearly tie. What
/// the sample tells may differ by as much.
fn check(actual: &CtkvrHead, expected: &CtkvrHead, one_of: usize, what: &str) {
    let (a, b) = (&actual.index, &expected.index);
    assert_eq!(a.segments().len(), b.segments().len(), "{what}");
    for (a, b) in a.segments().iter().zip(b.segments()) {
        let of = |s: &ctkvr_core::index::centroid_segment::CentroidSegment| (s.start, s.end, s.made_at, s.grown_at, s.per_list);
        assert_eq!(of(a), of(b), "{what}");
        assert_eq!(a.pooled, b.pooled, "{what}");
        assert_eq!(a.lists.len(), b.lists.len(), "{what}");
    }
    let segments = |head: &CtkvrHead| head.index.tail().map(|tail| tail.segments().to_vec());
    assert_eq!(segments(actual), segments(expected), "{what}: clusters");
    let (both, all) = common(actual, expected);
    assert!((all - both) * one_of <= all, "{what}: of {all} positions of lists {both} are the core's");
    let (a, b, rounding) = (a.figures(), b.figures(), 2e-3);
    assert_eq!((a.num_base, a.known_from, a.similarity_floor), (b.num_base, b.known_from, b.similarity_floor), "{what}");
    assert!((a.volatility - b.volatility).abs() <= rounding * b.volatility.max(1e-3), "{what}: {a:?} for {b:?}");
    let sharpness = [sharpness(actual), sharpness(expected)];
    assert!((sharpness[0] - sharpness[1]).abs() <= rounding * sharpness[1], "{what}: sharpness {sharpness:?}");
    let corrections = |head: &CtkvrHead| head.index.tail().map_or(Vec::new(), |tail| tail.corrections().to_vec());
    for (a, b) in corrections(actual).iter().zip(corrections(expected)) {
        assert!((a - b).abs() <= rounding, "{what}: corrections {a} for {b}");
    }
}

/// Built, grown, grown over nothing new, taught one query, and grown without centroids.
#[test]
fn a_heads_life_beside_the_cores() {
    let session = session();
    let device = open();
    let cases = [
        Case { numbers: Numbers::Small, group: 1, ..Case::default() },
        Case { numbers: Numbers::Real, ..Case::default() },
        Case { numbers: Numbers::Real, head_dim: 96, group: 2, per_list: 3, list_len: 0, cluster_size: 32, ..Case::default() },
        Case { numbers: Numbers::Real, head_dim: 128, group: 4, format: KvFormat::Q8, ..Case::default() },
        // Of 396 positions as many clusters, in 8 bits; what is added later has too few.
        Case { numbers: Numbers::Real, cluster_size: 1, cluster_format: KvFormat::Q8, ..Case::default() },
        Case { numbers: Numbers::Real, head_dim: 256, group: 2, tail: false, ..Case::default() },
    ];
    for (round, case) in cases.into_iter().enumerate() {
        let seed = 300 + round as u64;
        let case = Case { seed, region: 600, ..case };
        session.order(ORDERS[round % 3]);
        let mut random = Random(seed);
        let head = stored(case);
        let pages = Pages::of(&device, &head).expect("a copy");
        let bench = Bench::new(&device, &head, &pages);
        // Rounding of q8 keys to f16 reorders more of what nearly ties. Whole numbers of one query head are exact.
        let one_of = match (case.numbers, case.format) {
            (Numbers::Small, _) => usize::MAX,
            (_, KvFormat::F16) => 1000,
            (_, KvFormat::Q8) => 50,
        };
        let start = case.sinks;
        let mut states: Option<[CtkvrHead; 2]> = None;
        for (end, count, what) in
            [(400, 60, "first"), (470, 5, "growth"), (470, 2, "nothing new"), (470, 1, "a query"), (600, 7, "more")]
        {
            let queries = queries(&mut random, &case, count);
            let step = |before: Option<&CtkvrHead>| Step::new(start..end, queries.clone(), end + case.window, before);
            let [core, ours] = [0, 1].map(|i| step(states.as_ref().map(|states| &states[i])));
            let what = format!("seed {seed}, {what}, {case:?}");
            let expected = core.by_core(&head, &case).expect("built");
            let actual = bench.build_one(&ours);
            check(&actual, &expected, one_of, &what);
            if case.cluster_format == KvFormat::Q8 {
                let formats = actual.index.tail().map(|tail| tail.segments()[0].means().format());
                assert_eq!(formats, Some(KvFormat::Q8), "{what}");
            }
            states = Some([expected, actual]);
        }
        let bare = states.expect("built").map(|state| state.as_retrieval_head());
        let step = |before| Step::new(start..620, queries(&mut Random(seed), &case, 3), 620, Some(before));
        let actual = bench.build_one(&step(&bare[1]));
        check(&actual, &step(&bare[0]).by_core(&head, &case).expect("built"), usize::MAX, &format!("seed {seed}, bare"));
    }
}

/// Heads of different sizes at once are what they are alone.
#[test]
fn heads_do_not_depend_on_their_company() {
    let _session = session();
    let device = open();
    let case = Case { seed: 320, numbers: Numbers::Real, region: 500, ..Case::default() };
    let head = stored(case);
    let pages = Pages::of(&device, &head).expect("a copy");
    let bench = Bench::new(&device, &head, &pages);
    let mut random = Random(320);
    let first = Step::new(4..404, queries(&mut random, &case, 40), 424, None);
    let alone = bench.build_one(&first);
    let growth = Step::new(4..504, queries(&mut random, &case, 9), 524, Some(&alone));
    let short = Step::new(4..70, queries(&mut random, &case, 70), 70, None);
    let empty = Step::new(4..4, queries(&mut random, &case, 3), 24, None);
    let steps = [&growth, &short, &first, &empty];
    let together = bench.build(&steps).expect("built");
    for (i, (step, state)) in steps.into_iter().zip(&together).enumerate() {
        let alone = bench.build_one(step);
        assert_eq!(alone.index, state.index, "step {i}");
        assert_eq!(sharpness(&alone), sharpness(state), "step {i}");
        // Weights of 7 lists of the longest region at a time; and then no more than of one list.
        for weight_bytes in [7 * 500 * 4, 0] {
            let bounds = BuildBounds { weight_bytes, heads_bytes: 0 };
            let little = Bench { bounds, ..bench }.build_one(step);
            assert_eq!(little.index, state.index, "step {i} with {weight_bytes} bytes of weights");
        }
    }
}

/// Pages in host memory, as those of hybrid layers are, give the same states.
#[test]
fn a_build_over_the_bus_is_the_same() {
    let _session = session();
    let device = open();
    for format in [KvFormat::F16, KvFormat::Q8] {
        let case = Case { seed: 325, region: 500, format, ..Case::default() };
        let head = stored(case);
        let [near, far] = [Pages::of(&device, &head), Pages::on_host(&device, &head)].map(|pages| pages.expect("a copy"));
        let step = |before| Step::new(4..500, queries(&mut Random(325), &case, 20), 520, before);
        let [first, second] = [&near, &far].map(|pages| Bench::new(&device, &head, pages).build_one(&step(None)));
        assert!(first.index == second.index && first.index.end() == 500, "{format:?}");
    }
}

#[test]
fn what_the_core_refuses_is_refused() {
    let _session = session();
    let device = open();
    for (format, on_host) in [(KvFormat::F16, false), (KvFormat::Q8, false), (KvFormat::F16, true), (KvFormat::Q8, true)] {
        let case = Case { seed: 330, region: 400, format, ..Case::default() };
        let head = stored(case);
        let pages = if on_host { Pages::on_host(&device, &head) } else { Pages::of(&device, &head) }.expect("a copy");
        let bench = Bench::new(&device, &head, &pages);
        let mut random = Random(330);
        let step = Step::new(4..404, queries(&mut random, &case, 20), 424, None);
        let cancelled = Bench { cancel: &AtomicBool::new(true), ..bench }.build(&[&step]).err();
        assert_eq!(cancelled, Some(Error::Cancelled));

        let mut spoilt = queries(&mut random, &case, 20);
        spoilt[777] = f32::NAN;
        let spoilt = Step::new(4..404, spoilt, 424, None);
        let error = bench.build(&[&step, &spoilt]).err();
        assert_eq!(error, Some(Error::NonFinite { op: "buildIndex", what: "queries", index: 777 }));
        // No f16, as no query of the engine's is.
        let large = Step::new(4..404, vec![1e6; 3 * 64], 424, None);
        let error = bench.build(&[&large]).err();
        assert_eq!(error, Some(Error::NonFinite { op: "buildIndex", what: "queries", index: 0 }));

        // A key of the second page: 300 positions from the region's start.
        let layout = head.shape().head_layout(format);
        let (row, scales) = layout.offsets(KvSide::Keys, (4 + 300) % 256);
        let in_page = |at: usize| head.shape().page_bytes(format) + head.offset() + at;
        match format {
            KvFormat::F16 => pages.overwrite(&device, in_page(row + 2 * 9), &f16::NAN.to_le_bytes()),
            KvFormat::Q8 => pages.overwrite(&device, in_page(scales), &f32::INFINITY.to_le_bytes()),
        }
        .expect("a copy");
        let error = bench.build(&[&step]).err();
        let index = 300 * 64 + if format == KvFormat::F16 { 9 } else { 0 };
        assert_eq!(error, Some(Error::NonFinite { op: "buildIndex", what: "keys", index }));
    }
}

mod on_the_stand_in {
    use super::*;

    /// Whatever allocation finds no memory, and whichever launch loses the device: an error of this kind, and no state.
    #[test]
    fn what_a_device_refuses_is_told() {
        let session = session();
        let case = Case { seed: 340, region: 200, ..Case::default() };
        let head = stored(case);
        let step = Step::new(4..204, queries(&mut Random(340), &case, 20), 224, None);
        {
            let device = open();
            let pages = Pages::of(&device, &head).expect("a copy");
            let bench = Bench::new(&device, &head, &pages);
            let mut refused = 0;
            let built = loop {
                session.set("fail_alloc_at", session.count("allocations") + 1 + refused);
                match bench.build(&[&step]) {
                    Ok(mut built) => break built.remove(0),
                    Err(error) => assert!(matches!(error, Error::OutOfMemory { .. }), "allocation {refused}: {error}"),
                }
                refused += 1;
            };
            // At least one for each kind of memory.
            assert!(refused >= 17, "{refused}");
            session.set("fail_alloc_at", 0);
            assert_eq!(bench.build_one(&step).index, built.index);
        }
        let device = open();
        let pages = Pages::of(&device, &head).expect("a copy");
        let before = session.count("launches");
        Bench::new(&device, &head, &pages).build_one(&step);
        let launches = session.count("launches") - before;
        assert!(launches > 8, "{launches}");
        drop((pages, device));
        for nth in 1..=launches {
            session.reset();
            let device = open();
            let pages = Pages::of(&device, &head).expect("a copy");
            session.set("lose_at_launch", nth);
            let error = Bench::new(&device, &head, &pages).build(&[&step]).err();
            assert!(matches!(error, Some(Error::DeviceLost { .. })), "launch {nth}: {error:?}");
        }
        session.reset();
    }
}
