//! Keys and values in 8 bits beside f16. Of values that both formats hold exactly, everything must come out the same to the last bit:
//! prefill, index, decode with each selector, forks and rollbacks. What 8 bits hold exactly, selectors.rs compares with f64 in f16.

use std::sync::atomic::AtomicBool;

use crate::common::{CpuAttention, METHODS, StepOutput, Text, options, step};
use ctkvr_baselines::testing::Settings;
use ctkvr_core::{AttentionShape, Error, Phase, SequenceId};
use ctkvr_kernels::{Kernels, KvFormat};

const SHAPE: AttentionShape = AttentionShape { num_layers: 1, num_q_heads: 6, num_kv_heads: 2, head_dim: 64, local: None };
/// Values that share a scale.
const BLOCK: usize = 32;
static GO: AtomicBool = AtomicBool::new(false);

/// Multiples of 1/64 up to 127/64, each block with one of that size: its scale is 1/64, its codes are the multiples.
fn exact_text(seed: u64, len: usize) -> Text {
    let mut text = Text::new(SHAPE, seed, len);
    for block in text.k.iter_mut().chain(&mut text.v).flat_map(|layer| layer.chunks_exact_mut(BLOCK)) {
        block.iter_mut().for_each(|x| *x = (*x * 63.5).round() / 64.0);
        block[7] = if block[7] < 0.0 { -127.0 / 64.0 } else { 127.0 / 64.0 };
    }
    text
}

/// MagicPIG with as few hashes as so few keys need.
fn few_hashes(kind: &'static str) -> Settings {
    Settings { hash_bits: 4, hash_tables: 30, ..options(kind) }
}

/// What one session says: a prompt in chunks, an index, decodes with audit, another one's turn on a fork, a rollback, and a decode again.
fn session(attention: &CpuAttention, format: KvFormat, selector: Settings, (a, b): (&Text, &Text)) -> Vec<StepOutput> {
    let id = attention.create_sequence(700, format, selector.into()).expect("created");
    let mut outputs = Vec::new();
    let mut run = |id: SequenceId, text: &Text, range: std::ops::Range<usize>, phase: Phase| {
        outputs.push(step(attention, 2, &[(id, text, range, phase)], true).expect("a step"));
    };
    let mut at = 0;
    for n in [1, 255, 2, 300] {
        run(id, a, at..at + n, Phase::Prefill);
        at += n;
    }
    attention.build_index(id, 2, &GO).expect("built");
    (at..at + 60).for_each(|position| run(id, a, position..position + 1, Phase::Decode));
    at += 60;
    let fork = attention.fork_sequence(id).expect("forked");
    run(fork, b, at..at + 40, Phase::Prefill);
    attention.build_index(fork, 2, &GO).expect("built");
    run(fork, b, at + 40..at + 41, Phase::Decode);
    run(id, a, at..at + 1, Phase::Decode);
    attention.truncate(id, at - 10).expect("truncated");
    run(id, b, at - 10..at - 9, Phase::Decode);
    for id in [id, fork] {
        let tokens = attention.len(id).expect("open").next_multiple_of(ctkvr_kernels::PAGE_SIZE);
        let bytes = attention.memory(id).expect("open").kv_bytes;
        let row_bytes = format.row_bytes(SHAPE.head_dim);
        assert_eq!(bytes, tokens * SHAPE.num_layers * SHAPE.num_kv_heads * 2 * row_bytes, "{format:?}");
        attention.close_sequence(id);
    }
    outputs
}

#[test]
fn what_both_formats_hold_exactly_gives_the_same_whatever_is_done() {
    let (a, b) = (exact_text(1, 700), exact_text(2, 700));
    for kernels in Kernels::available() {
        let attention = CpuAttention::with_isa(SHAPE, 2, kernels.name).expect("kernels fit");
        for kind in METHODS {
            let [f16, q8] = [KvFormat::F16, KvFormat::Q8].map(|f| session(&attention, f, few_hashes(kind), (&a, &b)));
            for (i, ((expected, counters), (out, own_counters))) in f16.iter().zip(&q8).enumerate() {
                assert_eq!(out, expected, "{} {kind:?}: step {i}", kernels.name);
                for (wide, own) in counters.iter().zip(own_counters) {
                    let (Some(mut wide), Some(own)) = (*wide, *own) else { continue };
                    // 64 f16, or 64 codes and two scales.
                    wide.bytes_read -= (wide.keys_read + wide.values_read) * (128 - 72);
                    assert_eq!(own, wide, "{} {kind:?}: step {i}", kernels.name);
                }
            }
        }
    }
}

#[test]
fn stored_keys_are_the_nearest_that_8_bits_hold() {
    let text = Text::new(SHAPE, 3, 300);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    let id = attention.create_sequence(300, KvFormat::Q8, options("full").into()).expect("created");
    step(&attention, 2, &[(id, &text, 0..300, Phase::Prefill)], false).expect("prefill");
    for (layer, kv_head) in [(0, 1), (0, 0)] {
        let stored = attention.stored_head(id, layer, kv_head).expect("stored");
        for (given, stored) in [(&text.k[layer], &stored.keys), (&text.v[layer], &stored.values)] {
            for (row, stored) in given.chunks_exact(2 * SHAPE.head_dim).zip(stored.chunks_exact(SHAPE.head_dim)) {
                let row = &row[kv_head * SHAPE.head_dim..(kv_head + 1) * SHAPE.head_dim];
                for (x, y) in row.chunks_exact(BLOCK).zip(stored.chunks_exact(BLOCK)) {
                    let scale = x.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
                    // Half a step, and the roundings of scale, inverse and products: 4 u of at most 127 steps.
                    assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() <= scale * (0.5 + 127.0 * 4.0 * 2f32.powi(-24))));
                }
            }
        }
    }
}

#[test]
fn heads_of_another_size_are_refused() {
    let attention = CpuAttention::new(AttentionShape { head_dim: 80, ..SHAPE }, 1).expect("kernels fit");
    let refused = attention.create_sequence(10, KvFormat::Q8, options("full").into()).err();
    assert!(matches!(refused, Some(Error::InvalidOption { option: "kvFormat", .. })), "{refused:?}");
    assert!(attention.create_sequence(10, KvFormat::F16, options("full").into()).is_ok());
}
