//! One head on plain arrays as its tokens go on: growth, cuts, forks, repair, and the image of its index.

use std::sync::atomic::AtomicBool;

use ctkvr_core::{
    AppendInput, BuildOptions, CentroidChoice, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions, Error, HeadIndex,
    HeadIndexOptions, HeadInput, ImageInput, Phase, SegmentInfo, StepOptions, TailInfo, spread_queries,
};
use proptest::prelude::*;

const D: usize = 16;
const GROUP: usize = 2;
const BUILT_AT: usize = 120;
const NUM_TOKENS: usize = 700;
static GO: AtomicBool = AtomicBool::new(false);

/// Keys, values and slowly drifting queries of every position.
struct Text {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
}

/// Values of -2 to 2 (SplitMix64).
fn random(seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64)
        .map(|i| {
            let mut z = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 2.0
        })
        .collect()
}

impl Text {
    fn new(seed: u64) -> Self {
        let mut queries = random(3 * seed + 2, NUM_TOKENS * GROUP * D);
        for i in GROUP * D..queries.len() {
            queries[i] = 0.9 * queries[i - GROUP * D] + 0.3 * queries[i];
        }
        Self { keys: random(3 * seed, NUM_TOKENS * D), values: random(3 * seed + 1, NUM_TOKENS * D), queries }
    }

    fn query(&self, position: usize) -> &[f32] {
        &self.queries[position * GROUP * D..(position + 1) * GROUP * D]
    }
}

fn options() -> HeadIndexOptions {
    let defaults = CtkvrOptions::default();
    HeadIndexOptions {
        step: StepOptions { num_sink_tokens: 4, recent_window: 20, max_selected: 24, ..StepOptions::default() },
        build: BuildOptions { num_queries: 32, append_size: 24 },
        ctkvr: CtkvrOptions {
            build: CtkvrBuildOptions { centroids_per_list: 2, list_len: 16, cluster_size: 8, ..defaults.build },
            search: CtkvrSearchOptions { num_probes: 3, cluster_probes: 2, ..defaults.search },
        },
    }
}

fn build(text: &Text, options: &HeadIndexOptions) -> HeadIndex {
    let (keys, values) = (&text.keys[..BUILT_AT * D], &text.values[..BUILT_AT * D]);
    let queries = &text.queries[..BUILT_AT * GROUP * D];
    let input = HeadInput { keys, values, queries, head_dim: D, group: GROUP, options, isa: "" };
    HeadIndex::build(&input, &GO).expect("built")
}

fn append(head: &mut HeadIndex, text: &Text, num_new: usize, phase: Phase) {
    let (first, end) = (head.num_tokens(), head.num_tokens() + num_new);
    let rows = |of: &'_ [f32], n: usize| of[first * n..end * n].to_vec();
    let (keys, values, queries) = (rows(&text.keys, D), rows(&text.values, D), rows(&text.queries, GROUP * D));
    head.append(&AppendInput { keys: &keys, values: &values, queries: &queries, phase }, &GO).expect("appended");
}

/// What happens to a head after its build.
#[derive(Debug, Clone, Copy)]
enum Event {
    Decode(usize),
    Prefill(usize),
    Extend,
    Insert,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1usize..60).prop_map(Event::Decode),
        2 => (1usize..40).prop_map(Event::Prefill),
        2 => Just(Event::Extend),
        1 => Just(Event::Insert),
    ];
    prop::collection::vec(event, 1..9)
}

/// Lets events happen; appends come in pieces of at most `piece`.
fn live(head: &mut HeadIndex, text: &Text, events: &[Event], piece: usize) {
    let append_all = |head: &mut HeadIndex, num_new: usize, phase: Phase| {
        let end = head.num_tokens() + num_new;
        while head.num_tokens() < end {
            append(head, text, piece.min(end - head.num_tokens()), phase);
        }
    };
    for &event in events {
        match event {
            Event::Decode(n) => append_all(head, n, Phase::Decode),
            Event::Prefill(n) => append_all(head, n, Phase::Prefill),
            Event::Extend => head.extend(&GO).expect("extended"),
            Event::Insert => head.insert(text.query(head.num_tokens() - 1), &GO).expect("inserted"),
        }
    }
}

/// The events that happen before more than `most` tokens are stored, the last one cut short.
fn until(events: &[Event], most: usize) -> Vec<Event> {
    let (mut len, mut happened) = (BUILT_AT, Vec::new());
    for event in events {
        let left = most - len;
        if added(event) > left {
            happened.push(match event {
                Event::Decode(_) => Event::Decode(left),
                _ => Event::Prefill(left),
            });
            break;
        }
        len += added(event);
        happened.push(*event);
    }
    happened
}

fn added(event: &Event) -> usize {
    match event {
        Event::Decode(n) | Event::Prefill(n) => *n,
        Event::Extend | Event::Insert => 0,
    }
}

type Attention = (Vec<u32>, Vec<u32>, Vec<u32>);
type Visible = (usize, Vec<SegmentInfo>, Vec<Vec<u32>>, Option<TailInfo>, Vec<Attention>);

/// Everything a user can see of an index, floats as bits.
fn visible(head: &HeadIndex, text: &Text) -> Visible {
    let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    let lists = (0..head.num_centroids()).map(|c| head.list(c).expect("a list")).collect();
    let attend = |position: usize| {
        let (candidates, _) = head.select(text.query(position)).expect("selected");
        let attention = head.attend(text.query(position)).expect("attended");
        (candidates, bits(attention.output), bits(attention.lse))
    };
    (head.num_tokens(), head.segments(), lists, head.tail(), [30, 200, 400, 699].map(attend).into())
}

/// All of a text's events, simply.
fn run(text: &Text, events: &[Event], piece: usize) -> HeadIndex {
    let mut head = build(text, &options());
    live(&mut head, text, events, piece);
    head
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn how_appends_are_cut_changes_nothing(events in events(), piece in 1usize..40) {
        let text = Text::new(1);
        prop_assert!(run(&text, &events, piece).save() == run(&text, &events, usize::MAX).save());
    }

    #[test]
    fn a_cut_leaves_what_never_having_appended_would(events in events(), at in 0.0f64..1.0) {
        let (text, other) = (Text::new(2), Text::new(3));
        let total: usize = events.iter().map(added).sum();
        let len = BUILT_AT + (at * total as f64) as usize;
        let mut kept = run(&text, &until(&events, len), usize::MAX);
        let mut cut = run(&text, &events, usize::MAX);
        cut.truncate(len).expect("cut");
        if cut.num_centroids() == 0 {
            // More was dropped since than is remembered: no index, rather than another one.
            prop_assert!(cut.segments().is_empty());
            return Ok(());
        }
        prop_assert_eq!(visible(&cut, &text), visible(&kept, &text));
        // And both go on alike.
        for head in [&mut cut, &mut kept] {
            append(head, &other, 30, Phase::Decode);
            append(head, &other, 9, Phase::Prefill);
            head.extend(&GO).expect("extended");
        }
        prop_assert_eq!(visible(&cut, &text), visible(&kept, &text));
    }

    #[test]
    fn forks_do_not_see_each_other(events in events(), theirs in events()) {
        let (text, other) = (Text::new(4), Text::new(5));
        let head = run(&text, &events, usize::MAX);
        let before = (head.save(), visible(&head, &text));
        let mut fork = head.fork();
        live(&mut fork, &other, &theirs, 7);
        fork.truncate(BUILT_AT).expect("cut");
        prop_assert!((head.save(), visible(&head, &text)) == before);
    }

    #[test]
    fn an_image_comes_back_bit_for_bit_and_goes_on(events in events()) {
        let text = Text::new(6);
        let mut head = run(&text, &events, usize::MAX);
        let image = head.save();
        let mut loaded = load(&image, &text, head.num_tokens()).expect("loaded");
        prop_assert!(loaded.save() == image);
        prop_assert_eq!(visible(&loaded, &text), visible(&head, &text));
        for head in [&mut loaded, &mut head] {
            append(head, &text, 50, Phase::Decode);
            head.extend(&GO).expect("extended");
        }
        prop_assert!(loaded.save() == head.save());
    }
}

fn load(image: &[u8], text: &Text, num_tokens: usize) -> Result<HeadIndex, Error> {
    let (keys, values) = (&text.keys[..num_tokens * D], &text.values[..num_tokens * D]);
    HeadIndex::load(&ImageInput { image, keys, values, isa: "" })
}

#[test]
fn it_grows_at_its_boundaries_over_what_lies_before_them() {
    let text = Text::new(7);
    let mut head = build(&text, &options());
    append(&mut head, &text, 23, Phase::Decode);
    assert_eq!(head.region(), 4..BUILT_AT - 20);
    append(&mut head, &text, 48, Phase::Decode);
    let block = |made_at, num_centroids| SegmentInfo { end: made_at - 20, made_at, num_centroids };
    // Positions 120, 124 ... are kept: six in 24.
    assert_eq!(head.segments(), [block(120, 32), block(144, 6), block(168, 6)]);
    append(&mut head, &text, 10, Phase::Prefill);
    assert_eq!(head.region(), 4..168 - 20, "a prefill grows nothing by itself");
    head.extend(&GO).expect("extended");
    // 60 centroids would be more than 3/2 of 32: the first block is no longer probed.
    assert_eq!(head.segments(), [block(144, 6), block(168, 6), block(201, 6 + 10)]);
    append(&mut head, &text, 24, Phase::Decode);
    assert_eq!(head.segments().last(), Some(&block(225, 6)));
}

/// A first block that is small because the text was does not make the bounds small.
#[test]
fn without_a_number_of_centroids_the_first_segment_stays_as_long_as_the_largest_would() {
    let text = Text::new(16);
    let by_region = HeadIndexOptions { build: BuildOptions { num_queries: 0, ..options().build }, ..options() };
    let mut head = build(&text, &by_region);
    let numbers = |head: &HeadIndex| head.segments().iter().map(|b| b.num_centroids).collect::<Vec<_>>();
    assert_eq!(numbers(&head), [BUILT_AT], "a query for every token, fewer than the least number of centroids");
    for turn in 1..=3 {
        append(&mut head, &text, 140, Phase::Prefill);
        head.extend(&GO).expect("extended");
        assert_eq!(numbers(&head), [&[BUILT_AT][..], &vec![128; turn]].concat());
    }
    let early = head.fork();
    append(&mut head, &text, 20, Phase::Prefill);
    head.extend(&GO).expect("extended");
    let before = head.save();
    // 120 + 3 * 128 + 20 = 524 of 576. With one more turn they are 652: the first is held, no longer probed, until they are more than 768.
    assert_eq!(numbers(&head), [BUILT_AT, 128, 128, 128, 20]);
    append(&mut head, &text, 128, Phase::Prefill);
    head.extend(&GO).expect("extended");
    assert_eq!(numbers(&head), [128, 128, 128, 20, 128]);
    head.truncate(560).expect("cut");
    assert!(head.save() == before, "a cut finds the first block again");
    head.truncate(540).expect("cut");
    assert_eq!(numbers(&head), numbers(&early));
}

#[test]
fn candidates_are_the_lists_and_what_came_after_the_nearest_block() {
    let text = Text::new(8);
    let mut head = build(&text, &options());
    append(&mut head, &text, 24, Phase::Decode);
    let (old, new) = (head.list(0).expect("a list"), head.list(35).expect("a list"));
    let union = |parts: &[Vec<u32>]| {
        let mut all: Vec<u32> = parts.concat();
        all.sort_unstable();
        all.dedup();
        all
    };
    let since: Vec<u32> = (100..124).collect();
    assert_eq!(head.candidates(&[0, 35]).expect("candidates"), union(&[old.clone(), new.clone(), since]));
    assert_eq!(head.candidates(&[35, 0]).expect("candidates"), union(&[old, new]));
}

#[test]
fn a_repair_adds_one_centroid_that_finds_itself() {
    let text = Text::new(9);
    let mut head = build(&text, &options());
    append(&mut head, &text, 10, Phase::Decode);
    let query: Vec<f32> = random(77, GROUP * D);
    head.insert(&query, &GO).expect("inserted");
    assert_eq!(head.segments().last(), Some(&SegmentInfo { end: 110, made_at: 130, num_centroids: 1 }));
    let probes = head.probe(&query).expect("probed");
    assert!(probes[0].1 == 32 && probes[0].0 > 0.99, "{probes:?}");
    append(&mut head, &text, 14, Phase::Decode);
    assert_eq!(head.segments().last().map(|b| b.num_centroids), Some(6), "kept queries still have their turn");
}

#[test]
fn segments_cover_what_is_indexed_and_a_step_widens_by_the_heaviest_clusters() {
    let text = Text::new(14);
    let mut head = build(&text, &options());
    append(&mut head, &text, 100, Phase::Decode);
    head.extend(&GO).expect("extended");
    let tail = head.tail().expect("a tail");
    let mut next = head.region().start;
    for segment in &tail.segments {
        assert_eq!(segment.start, next);
        next += segment.cluster_of.len();
    }
    assert!(tail.segments.len() > 4 && next == head.region().end, "{next} of {:?}", head.region());
    let query = text.query(150);
    let centroids: Vec<u32> = head.probe(query).expect("probed").into_iter().map(|p| p.1).collect();
    let union = head.candidates(&centroids).expect("candidates");
    let widened = head.widen(query, &union).expect("widened");
    assert_eq!(head.select(query).expect("selected").0, widened);
    let (all, none) = (head.region().map(|p| p as u32).collect::<Vec<_>>(), (vec![f32::NEG_INFINITY; GROUP], vec![0.0; GROUP * D]));
    assert_eq!(head.tail_at(query, &all).expect("nothing is left"), none);
    let (more, less) = (head.tail_at(query, &union).expect("a rest").0, head.tail_at(query, &widened).expect("a rest").0);
    assert!(more.iter().zip(&less).all(|(more, less)| more > less));
    for candidates in [&[3][..], &[9, 9], &[9, 8], &[100_000]] {
        let refused = head.tail_at(query, candidates).expect_err("no candidates");
        assert!(matches!(refused, Error::InvalidOption { option: "candidates", .. }), "{refused}");
        assert_eq!(head.widen(query, candidates), Err(refused));
    }
}

#[test]
fn old_blocks_are_dropped_and_a_cut_beyond_leaves_no_index_until_the_next_turn() {
    let text = Text::new(10);
    let mut head = build(&text, &options());
    append(&mut head, &text, 500, Phase::Decode);
    assert!(head.num_centroids() <= 48);
    let mut near = head.fork();
    near.truncate(600).expect("cut");
    assert_eq!(near.region(), 4..600 - 20);
    head.truncate(200).expect("cut");
    assert_eq!((head.num_centroids(), head.region()), (0, 4..4));
    assert!(head.probe(text.query(200)).expect("probed").is_empty());
    assert!(head.insert(text.query(200), &GO).is_err());
    let image = head.save();
    assert!(load(&image, &text, 200).expect("loaded").save() == image);
    append(&mut head, &text, 40, Phase::Decode);
    assert_eq!(head.region(), 4..4);
    head.extend(&GO).expect("built anew");
    assert_eq!(head.segments(), [SegmentInfo { end: 220, made_at: 240, num_centroids: 10 }]);
}

#[test]
fn spread_centroids_are_those_that_spread_queries_names() {
    let text = Text::new(11);
    let mut spread = options();
    spread.ctkvr.build.centroids = CentroidChoice::Spread;
    let head = build(&text, &spread);
    let chosen = spread_queries(&text.queries[..BUILT_AT * GROUP * D], GROUP, D, 32);
    for (c, position) in chosen.into_iter().enumerate() {
        let probes = head.probe(text.query(position)).expect("probed");
        // One centroid of a list of two is named, the nearer one.
        assert!(probes[0].1 == c as u32 && probes[0].0 > 0.99, "centroid {c} for position {position}: {probes:?}");
    }
}

#[test]
fn a_refused_append_changes_nothing() {
    let text = Text::new(12);
    let mut head = build(&text, &options());
    append(&mut head, &text, 20, Phase::Decode);
    let before = head.save();
    let rows = vec![1.0; 10 * D];
    let mut queries = vec![1.0; 10 * GROUP * D];
    let stop = AtomicBool::new(true);
    let cancelled = head.append(&AppendInput { keys: &rows, values: &rows, queries: &queries, phase: Phase::Decode }, &stop);
    assert_eq!(cancelled, Err(Error::Cancelled));
    assert!(head.save() == before);
    queries[40] = f32::NAN;
    let refused = head.append(&AppendInput { keys: &rows, values: &rows, queries: &queries, phase: Phase::Decode }, &GO);
    assert_eq!(refused, Err(Error::NonFinite { op: "headIndex", what: "queries", index: 40 }));
    let short = head.append(&AppendInput { keys: &rows, values: &rows[1..], queries: &queries, phase: Phase::Decode }, &GO);
    assert!(matches!(short, Err(Error::ShapeMismatch { what: "values", .. })));
    assert!(head.truncate(141).is_err());
    assert!(head.save() == before);
}

/// A small image with every kind of section.
fn small_image() -> (Vec<u8>, Text, usize) {
    let text = Text::new(13);
    let mut few = HeadIndexOptions { build: BuildOptions { num_queries: 5, append_size: 8 }, ..options() };
    few.ctkvr.build.list_len = 6;
    let mut head = build(&text, &few);
    append(&mut head, &text, 9, Phase::Decode);
    (head.save(), text, head.num_tokens())
}

#[test]
fn a_changed_image_is_refused_whatever_byte_it_is() {
    let (image, text, num_tokens) = small_image();
    assert!(image.len().is_multiple_of(64));
    for at in 0..image.len() {
        let mut damaged = image.clone();
        damaged[at] ^= 1 << (at % 8);
        let refused = load(&damaged, &text, num_tokens).err();
        assert!(matches!(refused, Some(Error::BadIndexImage { .. })), "byte {at}: {refused:?}");
    }
    for len in (0..image.len()).step_by(7) {
        assert!(matches!(load(&image[..len], &text, num_tokens).err(), Some(Error::BadIndexImage { .. })), "cut to {len}");
    }
    let longer = [&image[..], &[0; 64]].concat();
    assert!(matches!(load(&longer, &text, num_tokens).err(), Some(Error::BadIndexImage { field: "size", .. })));
    for version in [2, 4] {
        let mut other = image.clone();
        other[8] = version;
        let expected = Error::BadIndexImage { field: "version", expected: "3".into(), actual: version.to_string() };
        assert_eq!(load(&other, &text, num_tokens).err(), Some(expected));
    }
    assert!(matches!(load(b"GGUF", &text, num_tokens).err(), Some(Error::BadIndexImage { .. })));
    assert!(matches!(load(&image, &text, num_tokens - 1).err(), Some(Error::ShapeMismatch { what: "keys", .. })));
}

/// Made up on purpose: the checksum fits, the sizes do not. Refused, or an index whose answers are nonsense but stay in bounds.
#[test]
fn a_forged_image_is_refused_or_harmless() {
    let (image, text, num_tokens) = small_image();
    let mut loaded = 0;
    for at in 16..image.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut forged = image.clone();
            forged[at] = value;
            let checksum = crc32fast::hash(&forged[16..]);
            forged[12..16].copy_from_slice(&checksum.to_le_bytes());
            match load(&forged, &text, num_tokens) {
                Ok(head) => {
                    loaded += 1;
                    head.attend(text.query(3)).expect("attended");
                }
                Err(Error::BadIndexImage { .. } | Error::ShapeMismatch { what: "keys", .. } | Error::InvalidOption { .. }) => {}
                Err(other) => panic!("byte {at} as {value}: {other}"),
            }
        }
    }
    assert!(loaded > 0, "codes may be anything");
}
