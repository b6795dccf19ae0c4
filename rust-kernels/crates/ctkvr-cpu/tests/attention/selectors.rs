//! The attention of steps as an executor runs it, against plain f64 attention: prefill in any chunks, decode with each selector, on every
//! instruction set of this machine, with one thread and several.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::common::{CpuAttention, Text, options, step};
use ctkvr_baselines::testing::Settings;
use ctkvr_core::{AttentionShape, Error, Phase, SequenceId};
use ctkvr_kernels::{Kernels, KvFormat};

const SHAPE: AttentionShape = AttentionShape { num_layers: 2, num_q_heads: 6, num_kv_heads: 2, head_dim: 16, local: None };

/// f64 causal attention of one row over all positions up to its own.
fn dense(text: &Text, layer: usize, position: usize) -> Vec<f64> {
    let (d, group) = (SHAPE.head_dim, SHAPE.group_size());
    let mut out = Vec::new();
    for head in 0..SHAPE.num_q_heads {
        let g = head / group;
        let q = &text.q[layer][(position * SHAPE.num_q_heads + head) * d..][..d];
        let row =
            |x: &[f32], p: usize| x[(p * SHAPE.num_kv_heads + g) * d..][..d].iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let scores: Vec<f64> = (0..=position)
            .map(|p| row(&text.k[layer], p).iter().zip(q).map(|(a, &b)| a * f64::from(b)).sum::<f64>() / (d as f64).sqrt())
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut o = vec![0.0; d];
        for (p, w) in weights.iter().enumerate() {
            row(&text.v[layer], p).iter().zip(&mut o).for_each(|(v, o)| *o += w / sum * v);
        }
        out.extend(o);
    }
    out
}

/// Scores are at most 2 * 2 * 16 / 4 = 16 in size, with 17 roundings of products: 16 * 17 * 2^-24 = 1.7e-5 in the exponent, so the
/// same relative error in each weight; values are at most 2; sums of up to 1,000 terms add 1,000 * 2^-24 * 2 = 1.2e-4.
const BUDGET: f64 = 2.0 * (1.7e-5 * 2.0 + 1.2e-4);

/// Products in bf16 add the rounding of the weights, 2^-9 of each and of none of their sum; scores are of values that bf16 holds, times
/// 1/4, and so exact products as in f32.
const BF16_BUDGET: f64 = BUDGET + 2.0 / 512.0;

fn assert_dense(output: &[Vec<f32>], row: usize, text: &Text, position: usize, what: &str) {
    assert_within(BUDGET, output, row, text, position, what);
}

fn assert_prefilled(kernels: &Kernels, output: &[Vec<f32>], row: usize, text: &Text, position: usize) {
    let budget = if kernels.bf16.is_some() { BF16_BUDGET } else { BUDGET };
    assert_within(budget, output, row, text, position, kernels.name);
}

fn assert_within(budget: f64, output: &[Vec<f32>], row: usize, text: &Text, position: usize, what: &str) {
    let n = SHAPE.num_q_heads * SHAPE.head_dim;
    for (layer, out) in output.iter().enumerate() {
        for (i, (a, b)) in out[row * n..(row + 1) * n].iter().zip(dense(text, layer, position)).enumerate() {
            assert!((f64::from(*a) - b).abs() <= budget, "{what}: layer {layer} position {position} value {i}: {a} for {b}");
        }
    }
}

fn prefilled(attention: &CpuAttention, threads: usize, text: &Text, chunks: &[usize], selector: Settings) -> SequenceId {
    let id = attention.create_sequence(2000, KvFormat::F16, selector.into()).expect("created");
    let mut at = 0;
    for n in chunks {
        step(attention, threads, &[(id, text, at..at + n, Phase::Prefill)], false).expect("prefill");
        at += n;
    }
    id
}

#[test]
fn prefill_and_dense_decode_match_f64_on_every_instruction_set() {
    let text = Text::new(SHAPE, 1, 700);
    for kernels in Kernels::available() {
        if !SHAPE.head_dim.is_multiple_of(kernels.lanes) {
            continue;
        }
        for threads in [1, 3] {
            let attention = CpuAttention::with_isa(SHAPE, threads, kernels.name).expect("kernels fit");
            let id = attention.create_sequence(700, KvFormat::F16, options("full").into()).expect("created");
            let mut at = 0;
            for n in [1, 255, 2, 300, 100] {
                let (out, _) = step(&attention, threads, &[(id, &text, at..at + n, Phase::Prefill)], false).expect("prefill");
                for i in [0, n / 2, n - 1] {
                    assert_prefilled(kernels, &out, i, &text, at + i);
                }
                at += n;
            }
            for position in at..at + 3 {
                let rows = [(id, &text, position..position + 1, Phase::Decode)];
                let (out, counters) = step(&attention, threads, &rows, true).expect("decode");
                assert_dense(&out, 0, &text, position, kernels.name);
                let c = counters[0].expect("decode counts");
                let heads = (SHAPE.num_layers * SHAPE.num_kv_heads) as u64;
                assert_eq!(
                    (c.heads, c.keys_read, c.values_read),
                    (heads, heads * (position as u64 + 1), heads * (position as u64 + 1))
                );
                assert!((c.measured_mass / (heads as f64 * 3.0) - 1.0).abs() < 1e-4);
            }
        }
    }
}

/// All lists full, all probes, everything selected: the selector's whole path must give the dense result.
#[test]
fn exact_settings_equal_dense() {
    let text = Text::new(SHAPE, 2, 600);
    for kernels in Kernels::available() {
        if !SHAPE.head_dim.is_multiple_of(kernels.lanes) {
            continue;
        }
        for max_selected in [0, 10_000] {
            let exact =
                Settings { num_centroids: 8, list_len: 1 << 30, num_probes: 8, max_selected, tail: false, ..options("ctkvr") };
            let attention = CpuAttention::with_isa(SHAPE, 2, kernels.name).expect("kernels fit");
            let id = prefilled(&attention, 2, &text, &[590], exact);
            attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
            assert_eq!(attention.indexed_range(id), Ok((4, 558)));
            for position in 590..594 {
                let (out, counters) =
                    step(&attention, 2, &[(id, &text, position..position + 1, Phase::Decode)], true).expect("decode");
                assert_dense(&out, 0, &text, position, kernels.name);
                let c = counters[0].expect("decode counts");
                assert_eq!(c.selected, 554 * c.heads);
                assert!(c.measured_mass / (c.heads as f64 * 3.0) > 0.9999);
            }
        }
    }
}

#[test]
fn retrieval_covers_more_mass_than_the_window_and_its_estimate_is_close() {
    let text = Text::new(SHAPE, 3, 1100);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let mut mass = Vec::new();
    for kind in ["streaming", "ctkvr", "exactTopK"] {
        let id = prefilled(&attention, 2, &text, &[512, 512], options(kind));
        let report = attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
        assert_eq!(report.indexed_tokens, 1024 - 32 - 4);
        let (_, counters) = step(&attention, 2, &[(id, &text, 1024..1025, Phase::Decode)], true).expect("decode");
        let c = counters[0].expect("decode counts");
        let per_head = c.heads as f64 * SHAPE.group_size() as f64;
        mass.push(c.measured_mass / per_head);
        if kind == "ctkvr" {
            let estimate = c.estimated_mass / per_head;
            assert!((estimate - c.measured_mass / per_head).abs() < 0.05, "estimate {estimate} for {}", c.measured_mass / per_head);
            assert_eq!(c.selected, 32 * c.heads);
            assert_eq!(c.centroids_probed, 3 * c.heads);
        }
    }
    assert!(mass[0] < mass[1] && mass[1] <= mass[2] + 1e-6, "streaming, ctkvr, oracle: {mass:?}");
}

/// Heads that score every key read what the oracle reads; with no limit of values, everything.
#[test]
fn exact_heads_score_every_key() {
    let text = Text::new(SHAPE, 10, 1100);
    let num_heads = (SHAPE.num_layers * SHAPE.num_kv_heads) as u64;
    let region = 1024 - 32 - 4;
    for kernels in Kernels::available() {
        if !SHAPE.head_dim.is_multiple_of(kernels.lanes) {
            continue;
        }
        let attention = CpuAttention::with_isa(SHAPE, 3, kernels.name).expect("kernels fit");
        let decoded_by = |threads: usize, retrieval_head_share: f64, max_selected: usize| {
            let selector = Settings { retrieval_head_share, max_selected, list_len: 40, cluster_probes: 0, ..options("ctkvr") };
            let id = prefilled(&attention, threads, &text, &[1024], selector);
            let report = attention.build_index(id, threads, &AtomicBool::new(false)).expect("built");
            let (out, counters) = step(&attention, threads, &[(id, &text, 1024..1025, Phase::Decode)], true).expect("decode");
            (out, counters[0].expect("decode counts"), report.index_bytes)
        };
        let decoded = |retrieval_head_share, max_selected| decoded_by(2, retrieval_head_share, max_selected);
        let (out, all, _) = decoded(1.0, 0);
        assert_dense(&out, 0, &text, 1024, kernels.name);
        assert_eq!((all.candidates, all.selected), (num_heads * region, num_heads * region));
        let (_, none, bytes) = decoded(0.0, 32);
        assert!(none.candidates <= num_heads * 3 * 40);
        let (_, one, fewer_bytes) = decoded(0.25, 32);
        assert!(one.candidates > region && one.candidates <= region + (num_heads - 1) * 3 * 40, "{} candidates", one.candidates);
        assert_eq!(one.selected, num_heads * 32);
        assert!(one.measured_mass > none.measured_mass);
        assert!(fewer_bytes < bytes, "an exact head keeps no lists");
        let (out, oracle, _) = decoded(1.0, 32);
        for threads in [1, 3] {
            assert!(out == decoded_by(threads, 1.0, 32).0, "{} weighed and averaged by {threads} threads", kernels.name);
        }
        let estimate = oracle.estimated_mass / (num_heads as f64 * SHAPE.group_size() as f64);
        let mass = oracle.measured_mass / (num_heads as f64 * SHAPE.group_size() as f64);
        // Everything was scored: the estimate is off by f32 rounding of 1,000 weights alone.
        assert!((estimate - mass).abs() < 1e-4, "{estimate} for {mass}");
    }
}

/// A sequence that samples audits one (layer, KV head) a step, in turn; together they are what an audit of every head says.
#[test]
fn a_sampled_audit_covers_every_head_in_turn() {
    let text = Text::new(SHAPE, 11, 1100);
    let num_heads = SHAPE.num_layers * SHAPE.num_kv_heads;
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let selector = Settings { mass_sampling: true, ..options("ctkvr") };
    let id = prefilled(&attention, 2, &text, &[1024], selector);
    let (_, counters) = step(&attention, 2, &[(id, &text, 1024..1025, Phase::Decode)], false).expect("a dense decode");
    assert_eq!(counters[0].expect("decode counts").audited_heads, 0, "before an index there is nothing to estimate");
    attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
    let fork = attention.fork_sequence(id).expect("forked");
    let (_, counters) = step(&attention, 2, &[(fork, &text, 1025..1026, Phase::Decode)], true).expect("audited decode");
    let all = counters[0].expect("decode counts");
    assert_eq!((all.audited_heads, all.audited_estimated_mass), (num_heads as u64, all.estimated_mass));
    let mut sampled = 0.0;
    for position in 1025..1025 + num_heads {
        let (_, counters) = step(&attention, 2, &[(id, &text, position..position + 1, Phase::Decode)], false).expect("decode");
        let c = counters[0].expect("decode counts");
        assert_eq!(c.audited_heads, 1);
        let largest = SHAPE.group_size() as f64;
        assert!(c.measured_mass > 0.0 && c.measured_mass <= largest && c.audited_estimated_mass <= c.estimated_mass);
        let difference = (c.audited_estimated_mass - c.measured_mass).abs();
        assert!(c.mass_error >= difference - 1e-6, "{} below the difference of the sums, {difference}", c.mass_error);
        sampled += c.mass_error;
    }
    assert!(all.mass_error < 0.1 * (num_heads * SHAPE.group_size()) as f64, "audit of all: {}", all.mass_error);
    assert!(sampled < 0.1 * (num_heads * SHAPE.group_size()) as f64, "sampled: {sampled}");
}

/// Fewer values where few candidates carry the weight, never more than `max_selected`, and the same index serves every share.
#[test]
fn top_p_selects_by_weight() {
    let text = Text::new(SHAPE, 12, 1100);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let id = prefilled(&attention, 2, &text, &[1024], options("exactTopK"));
    attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
    let decoded = |top_p: f64, max_selected: usize| {
        let fork = attention.fork_sequence(id).expect("forked");
        let selector = Settings { top_p, max_selected, ..options("exactTopK") };
        attention.set_selector(fork, selector.into()).expect("set");
        assert_eq!(attention.indexed_range(fork), Ok((4, 992)), "the index serves every share");
        let (_, counters) = step(&attention, 2, &[(fork, &text, 1024..1025, Phase::Decode)], true).expect("decode");
        counters[0].expect("decode counts")
    };
    let shares: Vec<_> = [0.2, 0.5, 0.9, 1.0].iter().map(|&p| decoded(p, 0)).collect();
    for pair in shares.windows(2) {
        assert!(pair[0].selected < pair[1].selected && pair[0].measured_mass < pair[1].measured_mass);
    }
    assert_eq!(shares[3].selected, shares[3].candidates);
    for c in &shares {
        assert!(c.mass_error < 1e-4 * (c.heads as usize * SHAPE.group_size()) as f64, "the oracle knows: {}", c.mass_error);
    }
    let capped = decoded(0.9, 32);
    assert!(capped.selected <= 32 * capped.heads && capped.selected > 0);
    let nothing = Settings { top_p: 0.0, ..options("exactTopK") };
    assert!(attention.set_selector(id, nothing.into()).is_err());
}

#[test]
fn several_sequences_in_one_step_do_not_meet() {
    let (a, b) = (Text::new(SHAPE, 4, 400), Text::new(SHAPE, 5, 400));
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let first = prefilled(&attention, 2, &a, &[300], options("full"));
    let second = attention.create_sequence(400, KvFormat::F16, options("full").into()).expect("created");
    let rows = [(first, &a, 300..301, Phase::Decode), (second, &b, 0..130, Phase::Prefill)];
    let (out, counters) = step(&attention, 2, &rows, false).expect("mixed step");
    assert_dense(&out, 0, &a, 300, "decode beside a prefill");
    assert_prefilled(attention.kernels(), &out, 1 + 129, &b, 129);
    assert!(counters[0].is_some() && counters[1].is_none());
    let rows = [(second, &b, 130..131, Phase::Decode), (first, &a, 301..302, Phase::Decode)];
    let (out, _) = step(&attention, 2, &rows, false).expect("two decodes");
    assert_dense(&out, 0, &b, 130, "first of two decodes");
    assert_dense(&out, 1, &a, 301, "second of two decodes");
}

#[test]
fn forks_and_rollbacks_leave_each_other_alone() {
    let (a, b) = (Text::new(SHAPE, 6, 400), Text::new(SHAPE, 7, 400));
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let id = prefilled(&attention, 2, &a, &[300], options("full"));
    let fork = attention.fork_sequence(id).expect("forked");
    step(&attention, 2, &[(fork, &b, 300..340, Phase::Prefill)], false).expect("the fork goes its own way");
    let (out, _) = step(&attention, 2, &[(id, &a, 300..301, Phase::Decode)], false).expect("decode");
    assert_dense(&out, 0, &a, 300, "the original after the fork wrote");
    step(&attention, 2, &[(id, &b, 301..390, Phase::Prefill)], false).expect("a turn that will be undone");
    attention.truncate(id, 301).expect("truncated");
    let (out, _) = step(&attention, 2, &[(id, &a, 301..302, Phase::Decode)], false).expect("decode");
    assert_dense(&out, 0, &a, 301, "after a rollback");
    attention.close_sequence(fork);
    assert_eq!(attention.len(fork), Err(Error::UnknownSequence(fork.0)));
}

#[test]
fn an_aborted_step_leaves_everything_as_before() {
    let text = Text::new(SHAPE, 8, 400);
    let attention = CpuAttention::new(SHAPE, 1).expect("kernels fit");
    let id = prefilled(&attention, 1, &text, &[300], options("full"));
    let before = attention.memory(id);
    attention.aborted_step(&[(id, &text, 300..390, Phase::Prefill)]).expect("opened");
    assert_eq!(attention.len(id), Ok(300));
    assert_eq!(attention.memory(id), before);
    let (out, _) = step(&attention, 1, &[(id, &text, 300..301, Phase::Decode)], false).expect("decode");
    assert_dense(&out, 0, &text, 300, "after an aborted step");
}

#[test]
fn what_cannot_be_done_is_refused_with_the_numbers() {
    let text = Text::new(SHAPE, 9, 400);
    let attention = CpuAttention::new(SHAPE, 1).expect("kernels fit");
    let id = attention.create_sequence(100, KvFormat::F16, options("ctkvr").into()).expect("created");
    let refused = step(&attention, 1, &[(id, &text, 0..101, Phase::Prefill)], false).err();
    assert_eq!(refused, Some(Error::ContextExceeded { max_tokens: 100, needed: 101 }));
    let twice = [(id, &text, 0..1, Phase::Prefill), (id, &text, 1..2, Phase::Prefill)];
    assert!(step(&attention, 1, &twice, false).is_err(), "one sequence twice in a step");
    assert!(attention.create_sequence(10, KvFormat::F16, Settings { num_probes: 0, ..options("ctkvr") }.into()).is_err());
    let id = prefilled(&attention, 1, &text, &[300], options("ctkvr"));
    assert_eq!(attention.build_index(id, 1, &AtomicBool::new(true)).err(), Some(Error::Cancelled));
    assert_eq!(attention.indexed_range(id), Ok((0, 0)));
}

/// Decodes positions one by one, growing the index before each as the engine does; returns all outputs' bits.
fn generate(attention: &CpuAttention, id: SequenceId, text: &Text, positions: std::ops::Range<usize>) -> Vec<Vec<u32>> {
    let decode = |position: usize| {
        attention.grow_index(id, 2, &AtomicBool::new(false)).expect("grown");
        let (out, _) = step(attention, 2, &[(id, text, position..position + 1, Phase::Decode)], false).expect("decode");
        out.iter().flatten().map(|x| x.to_bits()).collect()
    };
    positions.map(decode).collect()
}

/// A prefilled sequence with an index.
fn indexed(attention: &CpuAttention, text: &Text, chunks: &[usize], selector: Settings) -> SequenceId {
    let id = prefilled(attention, 2, text, chunks, selector);
    attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
    id
}

#[test]
fn an_index_grows_over_what_is_generated() {
    let text = Text::new(SHAPE, 11, 1000);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let selector = Settings { centroids_per_list: 2, ..options("ctkvr") };
    let id = indexed(&attention, &text, &[600], selector);
    assert_eq!(attention.indexed_range(id), Ok((4, 568)));
    generate(&attention, id, &text, 600..700);
    // A head lags at most by the tokens of one round and its first half round: 48 * 3 / 2.
    let (start, end) = attention.indexed_range(id).expect("a range");
    assert!(start == 4 && end > 568 && end >= 700 - 32 - 72, "indexed up to {end}");
    let (_, counters) = step(&attention, 2, &[(id, &text, 700..701, Phase::Decode)], false).expect("decode");
    let c = counters[0].expect("decode counts");
    let window = c.keys_read - c.candidates;
    assert!(window <= c.heads * (4 + 32 + 72 + 1), "{window} keys outside the region");
}

/// With lists of everything, whatever block is nearest, everything is a candidate, also what came after that block.
#[test]
fn a_grown_index_with_full_lists_equals_dense() {
    let text = Text::new(SHAPE, 12, 800);
    for kernels in Kernels::available() {
        if !SHAPE.head_dim.is_multiple_of(kernels.lanes) {
            continue;
        }
        let attention = CpuAttention::with_isa(SHAPE, 2, kernels.name).expect("kernels fit");
        let exact = Settings { list_len: 1 << 30, num_probes: 2, max_selected: 0, tail: false, ..options("ctkvr") };
        let id = indexed(&attention, &text, &[500], exact);
        generate(&attention, id, &text, 500..640);
        for position in 640..644 {
            attention.grow_index(id, 2, &AtomicBool::new(false)).expect("grown");
            let rows = [(id, &text, position..position + 1, Phase::Decode)];
            let (out, _) = step(&attention, 2, &rows, false).expect("decode");
            assert_dense(&out, 0, &text, position, kernels.name);
        }
    }
}

#[test]
fn a_rollback_leaves_what_never_having_appended_would() {
    let (text, other) = (Text::new(SHAPE, 13, 1000), Text::new(SHAPE, 14, 1000));
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let selector = Settings { num_centroids: 64, centroids_per_list: 2, ..options("ctkvr") };
    // To the end of the prompt, between two growths, and into a later turn.
    for (len, turn) in [(600, 0), (655, 0), (690, 0), (750, 40)] {
        let make = || {
            let id = indexed(&attention, &text, &[600], selector.clone());
            generate(&attention, id, &text, 600..len.min(690));
            if turn > 0 {
                step(&attention, 2, &[(id, &text, 690..690 + turn, Phase::Prefill)], false).expect("a turn");
                attention.build_index(id, 2, &AtomicBool::new(false)).expect("extended");
                generate(&attention, id, &text, 690 + turn..len);
            }
            id
        };
        let (kept, cut) = (make(), make());
        generate(&attention, cut, &other, len..len + 90);
        attention.truncate(cut, len).expect("truncated");
        assert_eq!(attention.indexed_range(cut), attention.indexed_range(kept), "cut to {len}");
        let (a, b) = (generate(&attention, kept, &text, len..len + 8), generate(&attention, cut, &text, len..len + 8));
        assert!(a == b, "outputs after a cut to {len} differ");
    }
}

/// As long as the first block is held, a cut to the midst of a growth finds the queries that it then grows by.
#[test]
fn a_far_rollback_grows_again_as_it_did() {
    let (text, other) = (Text::new(SHAPE, 20, 1000), Text::new(SHAPE, 21, 1000));
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let selector = Settings { num_centroids: 48, append_size: 16, ..options("ctkvr") };
    let make = || {
        let id = indexed(&attention, &text, &[600], selector.clone());
        generate(&attention, id, &text, 600..621);
        id
    };
    let (kept, cut) = (make(), make());
    // 44 queries, of one in four tokens, are as many centroids: with the first block's 48, fewer than twice as many.
    generate(&attention, cut, &other, 621..621 + 4 * 44);
    attention.truncate(cut, 621).expect("truncated");
    assert_eq!(attention.indexed_range(cut), attention.indexed_range(kept));
    assert!(generate(&attention, kept, &text, 621..660) == generate(&attention, cut, &text, 621..660), "outputs differ");
}

#[test]
fn a_rollback_to_before_the_index_leaves_none() {
    let text = Text::new(SHAPE, 15, 700);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let id = indexed(&attention, &text, &[600], options("ctkvr"));
    attention.truncate(id, 599).expect("truncated");
    assert_eq!(attention.indexed_range(id), Ok((0, 0)));
    assert!(attention.num_recent_queries(id).expect("a number") < 24, "what was cut off is not held");
}

#[test]
fn a_fork_grows_alone() {
    let (text, other) = (Text::new(SHAPE, 16, 1000), Text::new(SHAPE, 17, 1000));
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let id = indexed(&attention, &text, &[600], options("ctkvr"));
    generate(&attention, id, &text, 600..640);
    let (fork, alone) = (attention.fork_sequence(id).expect("forked"), attention.fork_sequence(id).expect("forked"));
    let expected = generate(&attention, alone, &text, 640..740);
    let mut actual = Vec::new();
    for at in (640..740).step_by(20) {
        generate(&attention, fork, &other, at..at + 20);
        actual.extend(generate(&attention, id, &text, at..at + 20));
    }
    assert!(actual == expected, "a fork's tokens changed the original's outputs");
}

/// A turn's queries become centroids; how the engine cuts the turn into chunks makes no difference.
#[test]
fn a_turn_read_in_any_chunks_gives_the_same_index() {
    let text = Text::new(SHAPE, 18, 1000);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let outputs = [&[100][..], &[1, 7, 64, 28], &[50, 50]].map(|chunks| {
        let id = indexed(&attention, &text, &[600], options("ctkvr"));
        generate(&attention, id, &text, 600..630);
        let mut at = 630;
        for n in chunks {
            step(&attention, 2, &[(id, &text, at..at + n, Phase::Prefill)], false).expect("prefill");
            at += n;
        }
        attention.build_index(id, 2, &AtomicBool::new(false)).expect("extended");
        assert_eq!(attention.indexed_range(id), Ok((4, 730 - 32)));
        generate(&attention, id, &text, 730..760)
    });
    assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2], "outputs differ");
}

/// Memory stays bounded, and so does what a cut can bring back: beyond that there is no index, rather than another one.
#[test]
fn old_blocks_are_dropped() {
    let text = Text::new(SHAPE, 19, 1900);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    // Clusters would be made of every position.
    let id = indexed(&attention, &text, &[600], Settings { tail: false, ..options("ctkvr") });
    generate(&attention, id, &text, 600..900);
    let bytes = attention.memory(id).expect("memory").index_bytes;
    generate(&attention, id, &text, 900..1800);
    let later = attention.memory(id).expect("memory").index_bytes;
    // Twice the first block's 24 centroids at most.
    assert!(later <= bytes + bytes / 2, "{bytes} bytes grew to {later}");
    // Half as many centroids as the first block had are held beyond those that probes look at, of one in four tokens.
    let cut = attention.fork_sequence(id).expect("forked");
    attention.truncate(cut, 1800 - 24 / 2 * 4 + 1).expect("truncated");
    assert!(attention.indexed_range(cut).expect("a range").1 > 1600);
    attention.truncate(id, 700).expect("truncated");
    assert_eq!(attention.indexed_range(id), Ok((0, 0)));
}

const BASELINES: [&str; 4] = ["snapkv", "quest", "magicpig", "keyClusters"];

/// Hashes of one bit in many tables: every key that is not opposite to the query is drawn, with a probability of nearly 1.
fn drawing_all(selector: Settings) -> Settings {
    Settings { hash_bits: 1, hash_tables: 300, ..selector }
}

/// With no limit, each baseline reads the whole region: regions of one key, less and more than a page or cluster, and many of them.
#[test]
fn baselines_that_read_everything_equal_dense() {
    let text = Text::new(SHAPE, 11, 600);
    for kernels in Kernels::available() {
        if !SHAPE.head_dim.is_multiple_of(kernels.lanes) {
            continue;
        }
        for kind in BASELINES {
            for len in [4 + 32 + 1, 4 + 32 + 15, 4 + 32 + 17, 590] {
                let selector = drawing_all(Settings { max_selected: 0, ..options(kind) });
                let attention = CpuAttention::with_isa(SHAPE, 2, kernels.name).expect("kernels fit");
                let id = prefilled(&attention, 2, &text, &[len], selector);
                attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
                assert_eq!(attention.indexed_range(id), Ok((4, len - 32)));
                for position in len..len + 2 {
                    let rows = [(id, &text, position..position + 1, Phase::Decode)];
                    let (out, counters) = step(&attention, 2, &rows, true).expect("decode");
                    let c = counters[0].expect("decode counts");
                    let what = format!("{} {kind:?} of {len}", kernels.name);
                    if kind == "magicpig" {
                        // Centred, two keys are opposite to each other and one of them may be to the query.
                        assert!(c.selected * 20 >= c.heads * (len as u64 - 36) * 19 || len < 60, "{what}: {}", c.selected);
                        continue;
                    }
                    assert_dense(&out, 0, &text, position, &what);
                    assert_eq!((c.candidates, c.selected), ((len as u64 - 36) * c.heads, (len as u64 - 36) * c.heads), "{what}");
                    assert!(c.measured_mass / (c.heads as f64 * 3.0) > 0.9999, "{what}");
                }
            }
        }
    }
}

/// A sample of nearly everything gives nearly the dense result. Each weight is e^-ln(w + 1e-4) of the true one with w within 1e-4 of 1 for
/// keys at 160 degrees to the query or less ((1 - 160/180)^..: 300 tables, (8/9)^299 * 34 = 2e-14); those beyond have the least weights.
/// So weights are off by 1e-4 each, values are at most 2, and the normalisation doubles it.
#[test]
fn a_sample_of_everything_is_nearly_dense() {
    let text = Text::new(SHAPE, 12, 600);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let id = prefilled(&attention, 2, &text, &[590], drawing_all(options("magicpig")));
    attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
    let (out, counters) = step(&attention, 2, &[(id, &text, 590..591, Phase::Decode)], true).expect("decode");
    for (layer, out) in out.iter().enumerate() {
        for (i, (a, b)) in out.iter().zip(dense(&text, layer, 590)).enumerate() {
            assert!((f64::from(*a) - b).abs() <= BUDGET + 2.0 * 2.0 * 1e-4, "layer {layer} value {i}: {a} for {b}");
        }
    }
    let c = counters[0].expect("decode counts");
    let (mass, estimate) = (c.measured_mass / (c.heads as f64 * 3.0), c.estimated_mass / (c.heads as f64 * 3.0));
    assert!(mass > 0.999 && (mass - estimate).abs() < 1e-3, "mass {mass}, estimated {estimate}");
}

#[test]
fn baselines_keep_their_budget_and_count_what_they_read() {
    let text = Text::new(SHAPE, 13, 1100);
    let region = 1024 - 32 - 4u64;
    let row = 2 * SHAPE.head_dim as u64;
    for kernels in Kernels::available() {
        if !SHAPE.head_dim.is_multiple_of(kernels.lanes) {
            continue;
        }
        let attention = CpuAttention::with_isa(SHAPE, 2, kernels.name).expect("kernels fit");
        let decoded = |selector: Settings| {
            let id = prefilled(&attention, 2, &text, &[512, 512], selector);
            let empty = attention.memory(id).expect("open").index_bytes;
            let report = attention.build_index(id, 2, &AtomicBool::new(false)).expect("built");
            assert_eq!(report.indexed_tokens as u64, region);
            let (_, counters) = step(&attention, 2, &[(id, &text, 1024..1025, Phase::Decode)], true).expect("decode");
            (counters[0].expect("decode counts"), report.index_bytes - empty)
        };
        let (streaming, none) = decoded(options("streaming"));
        assert_eq!(none, 0);
        for kind in BASELINES {
            let (c, index_bytes) = decoded(Settings { hash_bits: 6, hash_tables: 40, ..options(kind) });
            let what = format!("{} {kind:?}: {c:?}", kernels.name);
            assert!(index_bytes > 0, "{what}");
            assert_eq!(c.candidates, c.selected, "{what}");
            assert!(c.selected > 0 && (kind == "magicpig" || c.selected <= 32 * c.heads), "{what}");
            assert_eq!(c.keys_read, streaming.keys_read + c.candidates, "{what}");
            assert_eq!(c.values_read, streaming.values_read + c.selected, "{what}");
            // What is read of the index, at least: positions, summaries of every page, the chosen buckets, every cluster's mean key.
            let least = match kind {
                "snapkv" => c.selected * 4,
                "quest" => c.heads * region.div_ceil(16) * 2 * row,
                "magicpig" => c.candidates * 4 * 2,
                _ => c.heads * 8 * row + c.selected * 4,
            };
            let index_read = c.bytes_read - (c.keys_read + c.values_read) * row;
            assert!(index_read >= least, "{what}: {index_read} of {least}");
            if kind == "quest" || kind == "snapkv" {
                assert_eq!(index_read, least, "{what}");
            }
            assert!(c.measured_mass >= streaming.measured_mass, "{what}");
            let (mass, estimate) = (c.measured_mass / (c.heads as f64 * 3.0), c.estimated_mass / (c.heads as f64 * 3.0));
            match kind {
                // An estimate of everything: off by its sample's variance.
                "magicpig" => assert!((estimate - mass).abs() < 0.1, "{what}"),
                // Of what it knows of: the clusters that are neither read nor estimated are not counted.
                "keyClusters" => assert!(estimate < 1.0 && estimate > mass - 0.1, "{what}"),
                _ => assert!((estimate - 1.0).abs() < 1e-9, "{what}"),
            }
        }
        // Layers that the authors leave dense: both of Quest's, the first of MagicPIG's.
        let per_layer = SHAPE.num_kv_heads as u64 * region;
        let (quest, none) = decoded(Settings { dense_layers: true, ..options("quest") });
        assert_eq!((quest.selected, none), (2 * per_layer, 0));
        let sparse = Settings { hash_bits: 6, hash_tables: 40, ..options("magicpig") };
        let (pig, _) = decoded(Settings { dense_layers: true, ..sparse });
        assert!(pig.selected > per_layer && pig.selected < 2 * per_layer, "{pig:?}");
    }
}

/// Head by head gives what one go gives, first builds and later ones, and begins anew when the sequence has changed.
#[test]
fn an_index_may_be_built_in_parts() {
    let text = Text::new(SHAPE, 16, 700);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let go = AtomicBool::new(false);
    let num_heads = SHAPE.num_layers * SHAPE.num_kv_heads;
    let part = |id: SequenceId| attention.build_index_part(id, Duration::ZERO, 1, &go).expect("a part").heads_left;
    let in_parts =
        |id: SequenceId| assert_eq!((0..num_heads).map(|_| part(id)).collect::<Vec<_>>(), (0..num_heads).rev().collect::<Vec<_>>());
    let decode = |id: SequenceId, position: usize| {
        let (out, counters) = step(&attention, 2, &[(id, &text, position..position + 1, Phase::Decode)], false).expect("decode");
        attention.truncate(id, position).expect("truncated");
        (out, counters[0].expect("decode counts"))
    };
    for kind in ["ctkvr", "quest"] {
        let [whole, parts] = [(); 2].map(|()| prefilled(&attention, 2, &text, &[500], options(kind)));
        // Of both, as its query takes the oldest one's place.
        let step_back = |id: SequenceId| {
            step(&attention, 2, &[(id, &text, 500..501, Phase::Prefill)], false).expect("a token");
            attention.truncate(id, 500).expect("taken back");
        };
        step_back(whole);
        attention.build_index(whole, 2, &go).expect("built");
        assert_eq!(part(parts), num_heads - 1);
        assert_eq!(attention.indexed_range(parts), Ok((0, 0)), "not before it is whole");
        assert!(attention.memory(parts).expect("open").index_bytes > 0);
        step_back(parts);
        in_parts(parts);
        assert_eq!(attention.indexed_range(parts), attention.indexed_range(whole));
        assert_eq!(decode(parts, 500), decode(whole, 500), "{kind:?}");
        for id in [whole, parts] {
            step(&attention, 2, &[(id, &text, 500..600, Phase::Prefill)], false).expect("another turn");
        }
        attention.build_index(whole, 2, &go).expect("built");
        in_parts(parts);
        assert_eq!(attention.indexed_range(parts), attention.indexed_range(whole));
        assert_eq!(decode(parts, 600), decode(whole, 600), "{kind:?}: the next turn");
    }
}

/// What is built stays with forks, goes with what is truncated, and is made anew for another selector.
#[test]
fn baselines_fork_truncate_and_give_way() {
    let (a, b) = (Text::new(SHAPE, 14, 500), Text::new(SHAPE, 15, 500));
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let go = AtomicBool::new(false);
    for kind in BASELINES {
        // More queries are held than SnapKV looks at: what a rollback overwrites is not missed.
        let selector = Settings { hash_bits: 4, hash_tables: 30, num_centroids: 150, append_size: 256, ..options(kind) };
        let decode = |id: SequenceId, text: &Text, position: usize| {
            let (out, counters) = step(&attention, 2, &[(id, text, position..position + 1, Phase::Decode)], false).expect("decode");
            attention.truncate(id, position).expect("truncated");
            (out, counters[0].expect("decode counts"))
        };
        let id = prefilled(&attention, 2, &a, &[300], selector.clone());
        attention.build_index(id, 2, &go).expect("built");
        let before = decode(id, &a, 300);
        let fork = attention.fork_sequence(id).expect("forked");
        assert_eq!(decode(fork, &a, 300), before, "{kind:?}: a fork reads the same");
        step(&attention, 2, &[(fork, &b, 300..400, Phase::Prefill)], false).expect("the fork goes its own way");
        attention.build_index(fork, 2, &go).expect("built");
        assert_eq!(attention.indexed_range(fork), Ok((4, 368)));
        assert_eq!(decode(id, &a, 300), before, "{kind:?}: the original after the fork built anew");
        step(&attention, 2, &[(id, &b, 300..350, Phase::Prefill)], false).expect("a turn that will be undone");
        attention.truncate(id, 300).expect("truncated");
        assert_eq!(decode(id, &a, 300), before, "{kind:?}: after a rollback");
        // What is chosen at decode may change; what was chosen at the build may not.
        let wider = Settings { max_selected: 64, ..selector.clone() };
        attention.set_selector(id, wider.clone().into()).expect("set");
        let built = attention.indexed_range(id).expect("open").1 > 0;
        assert_eq!(built, kind != "snapkv", "{kind:?}");
        attention.build_index(id, 2, &go).expect("built");
        let fresh = prefilled(&attention, 2, &a, &[300], wider);
        attention.build_index(fresh, 2, &go).expect("built");
        assert_eq!(decode(id, &a, 300), decode(fresh, &a, 300), "{kind:?}: another budget");
        attention.set_selector(id, Settings { method: "streaming", ..selector.clone() }.into()).expect("set");
        assert_eq!(attention.indexed_range(id), Ok((0, 0)), "{kind:?}");
        attention.set_selector(id, selector.into()).expect("set");
        attention.build_index(id, 2, &go).expect("built");
        assert_eq!(decode(id, &a, 300), before, "{kind:?}: back again");
        attention.truncate(id, 200).expect("truncated");
        assert_eq!(attention.indexed_range(id), Ok((0, 0)), "{kind:?}: the index covered what is gone");
        assert_eq!(attention.build_index(id, 1, &AtomicBool::new(true)).err(), Some(Error::Cancelled), "{kind:?}");
    }
}

#[test]
fn hash_settings_are_refused_with_their_bounds() {
    let attention = CpuAttention::new(SHAPE, 1).expect("kernels fit");
    let refused = |selector: Settings| attention.create_sequence(10, KvFormat::F16, selector.into()).err().map(|e| e.to_string());
    let pig = options("magicpig");
    assert_eq!(refused(Settings { hash_bits: 16, ..pig.clone() }), Some("hashBits must be from 1 to 15, got 16".to_owned()));
    assert_eq!(refused(Settings { hash_tables: 0, ..pig }), Some("hashTables must be from 1 to 1500, got 0".to_owned()));
}
