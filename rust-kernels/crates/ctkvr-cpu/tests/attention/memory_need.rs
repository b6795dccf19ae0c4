//! A sequence never holds more than the need that was told of its settings and its tokens: random settings, prompts, answers, builds.
//!
//! A failure names its seed; `CTKVR_TEST_SEED=<seed>` begins with that case.

use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::{CpuAttention, METHODS, Text, options, step};
use ctkvr_baselines::testing::Settings;
use ctkvr_core::{AttentionShape, MemoryQuestion, Phase, SelectorOptions};
use ctkvr_kernels::KvFormat;
use ctkvr_kernels::testing::Random;

const NUM_CASES: u64 = 120;
static GO: AtomicBool = AtomicBool::new(false);

const SHAPES: [AttentionShape; 3] = [
    AttentionShape { num_layers: 2, num_q_heads: 6, num_kv_heads: 2, head_dim: 32, local: None },
    AttentionShape { num_layers: 1, num_q_heads: 3, num_kv_heads: 3, head_dim: 32, local: None },
    AttentionShape { num_layers: 1, num_q_heads: 7, num_kv_heads: 1, head_dim: 64, local: None },
];

fn settings(random: &mut Random) -> Settings {
    // Every other case is the one whose index grows.
    let kind = if random.index(2) == 0 { "ctkvr" } else { random.one_of(&METHODS) };
    Settings {
        num_centroids: random.one_of(&[0, 1, 8, 24, 200]),
        centroids_per_list: random.one_of(&[1, 2, 3]),
        append_size: random.one_of(&[1, 7, 48, 256]),
        list_len: random.one_of(&[0, 16, 64, 1 << 20]),
        num_sink_tokens: random.index(9),
        recent_window: 1 + random.index(64),
        max_selected: random.one_of(&[0, 32, 512]),
        tail: random.index(4) > 0,
        cluster_size: random.one_of(&[1, 8, 32]),
        cluster_format: random.one_of(&[KvFormat::F16, KvFormat::Q8]),
        retrieval_head_share: random.one_of(&[0.0, 0.3]),
        retrieval_cluster_share: random.one_of(&[0.5, 1.0]),
        repair_share: random.one_of(&[0.0, 0.05, 1.0]),
        dense_below: random.one_of(&[0, 0, 300]),
        hash_bits: 4,
        hash_tables: 12,
        ..options(kind)
    }
}

/// A prompt and an answer, twice or three times, each prompt with a build behind it.
fn check_case(seed: u64) {
    let random = &mut Random(seed);
    let (shape, format) = (random.one_of(&SHAPES), random.one_of(&[KvFormat::F16, KvFormat::Q8]));
    let selector: SelectorOptions = settings(random).into();
    let turns: Vec<(usize, usize)> = (0..1 + random.index(3)).map(|_| (8 + random.index(400), 60 + random.index(160))).collect();
    let total: usize = turns.iter().map(|(prompt, answer)| prompt + answer).sum();
    let max_tokens = total + random.one_of(&[0, 1, 1000]);
    let text = Text::new(shape, seed, total);
    let attention = CpuAttention::new(shape, 1).expect("an attention");
    let id = attention.create_sequence(max_tokens, format, selector.clone()).expect("a sequence");
    let check = |num_tokens: usize, when: &str| {
        let need = MemoryQuestion { shape, format, selector: &selector, max_tokens, num_tokens }.need();
        let held = attention.memory(id).expect("memory");
        assert!(
            held.kv_bytes <= need.kv_bytes && held.index_bytes <= need.index_bytes,
            "CTKVR_TEST_SEED={seed}: {held:?} held of {need:?} at {num_tokens} of {max_tokens} tokens, {when}; {shape:?} {format:?} {selector:?}"
        );
    };
    check(0, "empty");
    let mut len = 0;
    for (prompt, answer) in turns {
        let end = len + prompt;
        while len < end {
            let piece = len..end.min(len + 1 + random.index(prompt));
            step(&attention, 1, &[(id, &text, piece.clone(), Phase::Prefill)], false).expect("a piece");
            len = piece.end;
            check(len, "in a prompt");
        }
        attention.build_index(id, 1, &GO).expect("built");
        check(len, "built");
        for position in len..len + answer {
            attention.grow_index(id, 1, &GO).expect("grown");
            step(&attention, 1, &[(id, &text, position..position + 1, Phase::Decode)], false).expect("a token");
            check(position + 1, "in an answer");
        }
        len += answer;
    }
}

#[test]
fn a_sequence_never_holds_more_than_its_need() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let first = std::env::var("CTKVR_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now);
    for case in 0..NUM_CASES {
        check_case(first.wrapping_add(case));
    }
}
