//! What every retrieval method promises, tried on all of them: CTkvr, the baselines, and the one of the example.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_baselines::{BaselineOptions, NAMES, named};
use ctkvr_core::plain_head::{PlainBuild, PlainHead, PlainRows};
use ctkvr_core::retriever::{
    BuildInput, Candidates, HeadQuery, HeadSearch, HeadSize, HeadState, Proposal, ProposedTail, Retriever, Scratch,
};
use ctkvr_core::{BuildOptions, Ctkvr, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions, HeadAttention, Result, StepOptions};
use ctkvr_kernels::testing::{Random, tables};

#[allow(dead_code, reason = "its own program runs the rest")]
#[path = "../../ctkvr-core/examples/own_retriever.rs"]
mod own_retriever;

const D: usize = 16;
const GROUP: usize = 2;
const NUM_TOKENS: usize = 700;
const OPTIONS: BuildOptions = BuildOptions { num_queries: 24, append_size: 48 };
/// Lengths of the text at a build and at two growths.
const BUILT_AT: usize = 600;
const GROWN_AT: [usize; 2] = [640, 690];
static GO: AtomicBool = AtomicBool::new(false);

/// A method, and the settings with which it reads everything; `None` where there are none.
struct Case {
    method: Arc<dyn Retriever>,
    everything: Option<Arc<dyn Retriever>>,
}

fn ctkvr(list_len: usize, num_probes: usize, tail: bool, retrieval_head_share: f64) -> Arc<dyn Retriever> {
    let defaults = CtkvrOptions::default();
    let build = CtkvrBuildOptions { list_len, tail, cluster_size: 8, retrieval_head_share, ..defaults.build };
    let search = CtkvrSearchOptions { num_probes, cluster_probes: 2, ..defaults.search };
    Arc::new(Ctkvr { options: CtkvrOptions { build, search } })
}

/// All heads are retrieval heads, which read so many of their clusters.
fn reading_clusters(retrieval_cluster_share: f64) -> Arc<dyn Retriever> {
    let defaults = CtkvrOptions::default();
    let build = CtkvrBuildOptions { list_len: 40, cluster_size: 8, retrieval_head_share: 1.0, ..defaults.build };
    let search = CtkvrSearchOptions { num_probes: 3, cluster_probes: 2, retrieval_cluster_share, ..defaults.search };
    Arc::new(Ctkvr { options: CtkvrOptions { build, search } })
}

fn cases() -> Vec<Case> {
    let baseline = |name, max_selected| {
        let options = BaselineOptions { max_selected, hash_bits: 4, hash_tables: 30, dense_layers: false };
        named(name, &options).unwrap_or_else(|| panic!("no method is called {name}"))
    };
    let mut cases = vec![
        Case { method: ctkvr(40, 3, true, 0.0), everything: Some(ctkvr(1 << 30, 24, false, 0.0)) },
        Case { method: ctkvr(40, 3, false, 0.0), everything: None },
        // A share that leaves less than a cluster out reads every one.
        Case { method: reading_clusters(0.25), everything: Some(reading_clusters(0.9999)) },
        // Every key is scored.
        Case { method: ctkvr(40, 3, true, 1.0), everything: Some(ctkvr(40, 3, true, 1.0)) },
        Case {
            method: Arc::new(own_retriever::LargestKeys { keep: 40 }),
            everything: Some(Arc::new(own_retriever::LargestKeys { keep: 0 })),
        },
    ];
    for name in NAMES {
        // Streaming never reads everything, and MagicPIG estimates it: ctkvr-cpu's tests/attention/selectors.rs says how well.
        let everything = (!["streaming", "magicpig"].contains(&name)).then(|| baseline(name, 0));
        cases.push(Case { method: baseline(name, 40), everything });
    }
    cases
}

/// One head's text.
struct Text {
    head: PlainHead,
    queries: Vec<f32>,
}

impl Text {
    fn new(isa: &str) -> Self {
        let mut random = Random(7);
        let (keys, values) = (random.reals(NUM_TOKENS * D, 2), random.reals(NUM_TOKENS * D, 2));
        let head = PlainHead::new(&PlainRows { keys: &keys, values: &values, head_dim: D, group: GROUP, isa }).expect("stored");
        let mut queries = random.reals(NUM_TOKENS * GROUP * D, 2);
        for i in GROUP * D..queries.len() {
            queries[i] = 0.9 * queries[i - GROUP * D] + 0.3 * queries[i];
        }
        Self { head, queries }
    }

    /// The queries of some positions.
    fn queries(&self, positions: Range<usize>) -> &[f32] {
        &self.queries[positions.start * GROUP * D..positions.end * GROUP * D]
    }

    /// What a build at `num_tokens` is made from.
    fn input<'a>(&'a self, num_tokens: usize, queries: &'a [f32]) -> BuildInput<'a> {
        let build = PlainBuild { step: step(0), options: OPTIONS, layer: 3, num_tokens, queries, cancel: &GO };
        self.head.build_input(&build).expect("stored")
    }

    fn build(&self, method: &dyn Retriever, num_tokens: usize) -> Result<HeadState> {
        let input = self.input(num_tokens, self.queries(num_tokens - OPTIONS.num_queries..num_tokens));
        let head = method.build(&input)?;
        let mut states = [HeadState { head, end: input.region.end, made_at: num_tokens, grown_at: num_tokens }];
        method.settle(&mut states);
        let [state] = states;
        Ok(state)
    }

    /// Grown over what is stored at `num_tokens`; `None` of a method that does not grow.
    fn extended(&self, state: &HeadState, num_tokens: usize) -> Result<Option<HeadState>> {
        // One in four, as a decode keeps them.
        let kept = (state.grown_at..num_tokens).step_by(4);
        let queries: Vec<f32> = kept.flat_map(|position| self.queries(position..position + 1)).copied().collect();
        let input = self.input(num_tokens, &queries);
        let new = |head| HeadState { head, end: input.region.end, made_at: num_tokens, grown_at: num_tokens };
        Ok(state.head.extended(&input)?.map(new))
    }

    /// Queries unlike each other.
    fn asked(&self) -> impl Iterator<Item = &[f32]> {
        [3, 200, 599, 650].into_iter().map(|position| self.queries(position..position + 1))
    }

    fn attend(&self, method: &dyn Retriever, state: &HeadState, query: &[f32], max_selected: usize) -> HeadAttention {
        self.head.attend(query, NUM_TOKENS, &step(max_selected), Some((method, state))).expect("a query of this head")
    }
}

fn step(max_selected: usize) -> StepOptions {
    StepOptions { num_sink_tokens: 4, recent_window: 32, max_selected, ..StepOptions::default() }
}

fn search(method: &dyn Retriever, state: &HeadState, text: &Text, query: &[f32], scratch: &mut Scratch) -> Proposal {
    let scaled: Vec<f32> = query.iter().map(|x| x / (D as f32).sqrt()).collect();
    let query = HeadQuery { query, scaled: &scaled, group: GROUP, max_selected: 40, kernels: text.head.kernels() };
    let mut out = Proposal::default();
    method.search(&mut [HeadSearch { head: &*state.head, query, scratch, out: &mut out }]);
    out
}

/// Everything that can be seen of a state, to the bit.
fn seen(method: &dyn Retriever, state: &HeadState, text: &Text) -> Vec<(Vec<u32>, usize, Vec<u32>)> {
    let one = |query: &[f32]| {
        let proposal = search(method, state, text, query, &mut Scratch::default());
        let HeadAttention { output, lse, mass, counters } = text.attend(method, state, query, 40);
        let numbers = output.iter().chain(&lse).chain(&mass).map(|x| x.to_bits());
        (proposal.positions, counters.values_read as usize, numbers.collect())
    };
    text.asked().map(one).collect()
}

/// Runs a check on every method and every instruction set.
fn on_all(check: impl Fn(&Case, &Text, &str)) {
    for kernels in tables(D) {
        let text = Text::new(kernels.name);
        for case in cases() {
            check(&case, &text, &format!("{:?} on {}", case.method, kernels.name));
        }
    }
}

#[test]
fn a_search_proposes_ascending_positions_of_the_region() {
    on_all(|case, text, what| {
        let method = &*case.method;
        method.check().expect("good options");
        // A region of one key, of a few, and of many.
        for num_tokens in [37, 60, BUILT_AT] {
            let state = text.build(method, num_tokens).expect("built");
            let mut scratch = Scratch::default();
            for query in text.asked() {
                let out = search(method, &state, text, query, &mut scratch);
                assert!(out.positions.is_sorted_by(|a, b| a < b), "{what}");
                assert!(out.positions.iter().all(|&p| (4..state.end).contains(&(p as usize))), "{what}");
                assert!(out.candidates == Candidates::Listed || out.positions.is_empty(), "{what}");
                if out.tail == ProposedTail::Given {
                    assert_eq!((out.tail_lse.len(), out.tail_value.len()), (GROUP, GROUP * D), "{what}");
                }
                let again = search(method, &state, text, query, &mut scratch);
                assert_eq!(again.positions, out.positions, "{what}: scratch carries nothing over");
            }
        }
    });
}

#[test]
fn a_state_is_no_larger_than_was_said() {
    on_all(|case, text, what| {
        for num_tokens in [37, 60, BUILT_AT] {
            let state = text.build(&*case.method, num_tokens).expect("built");
            let size = HeadSize { num_keys: num_tokens - 36, head_dim: D, group: GROUP, options: OPTIONS };
            let (bytes, needed) = (state.head.bytes(), case.method.bytes_needed(&size));
            assert!(bytes <= needed, "{what} of {num_tokens}: {bytes} of {needed}");
        }
    });
}

#[test]
fn a_cut_is_as_if_nothing_had_been_appended() {
    on_all(|case, text, what| {
        let method = &*case.method;
        let built = text.build(method, BUILT_AT).expect("built");
        assert!(built.truncated(BUILT_AT - 1).is_none(), "{what}: it was not there yet");
        let before = seen(method, &built, text);
        let same = built.truncated(NUM_TOKENS).expect("nothing has changed since");
        assert_eq!(seen(method, &same, text), before, "{what}");
        let mut states = vec![built];
        for num_tokens in GROWN_AT {
            let Some(grown) = text.extended(&states[states.len() - 1], num_tokens).expect("grown") else {
                assert!(!method.grows(), "{what}");
                return;
            };
            assert_eq!(seen(method, &states[0], text), before, "{what}: growing changes the new state only");
            states.push(grown);
        }
        assert!(method.grows(), "{what}");
        for (older, state) in states.iter().enumerate() {
            for grown in &states[older..] {
                // Back to just when the older one was made, and to the last token before the next one.
                for len in [state.made_at, states.get(older + 1).map_or(NUM_TOKENS, |next| next.made_at - 1)] {
                    let cut = grown.truncated(len).expect("it was there");
                    assert_eq!((cut.end, cut.made_at, cut.grown_at), (state.end, state.made_at, state.grown_at), "{what}");
                    assert_eq!(seen(method, &cut, text), seen(method, state, text), "{what} at {len}");
                }
            }
        }
        // And grows as it did.
        let again = text.extended(&states[2].truncated(GROWN_AT[0]).expect("it was there"), GROWN_AT[1]).expect("grown");
        assert_eq!(seen(method, &again.expect("grows"), text), seen(method, &states[2], text), "{what}");
    });
}

#[test]
fn what_is_encoded_comes_back_to_the_bit() {
    on_all(|case, text, what| {
        let method = &*case.method;
        let built = text.build(method, BUILT_AT).expect("built");
        let grown = text.extended(&built, GROWN_AT[0]).expect("grown");
        for state in std::iter::once(built).chain(grown) {
            let mut bytes = Vec::new();
            state.head.encode(&mut bytes);
            let input = text.input(state.made_at, &[]);
            let head = method.decode(&bytes, &input).expect("decoded");
            let decoded = HeadState { head, ..state.clone() };
            assert_eq!(seen(method, &decoded, text), seen(method, &state, text), "{what}");
            let mut twice = Vec::new();
            decoded.head.encode(&mut twice);
            assert_eq!(twice, bytes, "{what}");
            // It also goes on as the other would.
            let next = |state: &HeadState| text.extended(state, GROWN_AT[1]).expect("grown").map(|s| seen(method, &s, text));
            assert_eq!(next(&decoded), next(&state), "{what}");
            // What is cut short is refused, wherever.
            for len in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
                assert!(method.decode(&bytes[..len], &input).is_err(), "{what}: {len} of {} bytes", bytes.len());
            }
        }
    });
}

#[test]
fn reading_everything_is_dense_attention() {
    on_all(|case, text, what| {
        let Some(method) = case.everything.as_deref() else { return };
        for num_tokens in [37, 60, BUILT_AT] {
            let state = text.build(method, num_tokens).expect("built");
            for query in text.asked() {
                let dense = text.head.attend(query, NUM_TOKENS, &step(0), None).expect("dense");
                let all = text.attend(method, &state, query, 0);
                assert_eq!(all.counters.values_read, NUM_TOKENS as u64, "{what}");
                // The same sums in another order: 700 values of at most 2, less than 16 roundings deep, and scores of at most 16 * 4 / 4.
                for (a, b) in all.output.iter().zip(&dense.output) {
                    assert!((a - b).abs() < 1e-4, "{what}: {a} for {b}");
                }
                for (a, b) in all.lse.iter().zip(&dense.lse) {
                    assert!((a - b).abs() < 1e-4, "{what}: {a} for {b}");
                }
            }
        }
    });
}

#[test]
fn a_build_serves_its_own_settings_and_no_other_method() {
    let cases = cases();
    for (i, case) in cases.iter().enumerate() {
        for (j, other) in cases.iter().enumerate() {
            assert_eq!(case.method.same_build(&*other.method), i == j, "{:?} and {:?}", case.method, other.method);
        }
    }
}

#[test]
fn a_build_stops_when_it_is_cancelled_or_ends() {
    on_all(|case, text, what| {
        let cancel = AtomicBool::new(true);
        let outcome = case.method.build(&BuildInput { cancel: &cancel, ..text.input(BUILT_AT, text.queries(580..BUILT_AT)) });
        assert!(outcome.is_ok() || outcome.err() == Some(ctkvr_core::Error::Cancelled), "{what}");
    });
}
