//! A sequence's distributions are the same bits alone on one thread, and beside others, with its prompt in pieces, on several threads: on
//! small models of our own, with every selector. ctkvr-cpu/tests/attention/same_bits.rs has random histories of the attention alone.

use std::sync::Arc;
use std::time::Duration;

use ctkvr_baselines::testing::Settings;
use ctkvr_core::{Phase, SequenceId};
use ctkvr_engine::{Engine, Measures, StepEntry, StepOutput};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{Model, SamplerOptions};
use llama_cpp_sys_2 as sys;

use crate::Suite;
use crate::helpers::{NO_CANCEL, alone, load};
use crate::tiny_model::{TinyModel, VOCAB_SIZE};

const KINDS: [&str; 8] = ["ctkvr", "full", "streaming", "exactTopK", "snapkv", "quest", "magicpig", "keyClusters"];
const ANSWER_LEN: usize = 24;

fn selector(kind: &'static str) -> Settings {
    Settings {
        method: kind,
        num_sink_tokens: 4,
        recent_window: 16,
        num_centroids: 16,
        append_size: 16,
        list_len: 24,
        num_probes: 2,
        max_selected: 24,
        cluster_size: 8,
        cluster_probes: 2,
        retrieval_head_share: 0.25,
        repair_share: 0.1,
        hash_bits: 3,
        hash_tables: 20,
        dense_layers: false,
        ..Settings::full()
    }
}

/// One sequence: its prompt, and how it is answered.
struct Asked {
    prompt: Vec<i32>,
    kind: &'static str,
    seed: u32,
}

impl Asked {
    fn all() -> Vec<Self> {
        let prompt = |i: usize| (0..60 + 37 * i).map(|k| ((i * 131 + k * 7919 + k * k * 31) % VOCAB_SIZE) as i32).collect();
        KINDS.iter().enumerate().map(|(i, kind)| Self { prompt: prompt(i), kind: *kind, seed: i as u32 }).collect()
    }

    fn open(&self, engine: &Engine) -> SequenceId {
        let id = engine.create_sequence(512, KvFormat::F16, selector(self.kind).into()).unwrap();
        engine.set_sampler(id, SamplerOptions { temperature: 0.9, seed: self.seed, ..SamplerOptions::greedy() }).unwrap();
        id
    }
}

/// What a token drew, and the distribution it was drawn from, as bits.
type Drawn = (i32, Vec<u32>);

/// A piece of a prompt.
fn piece(sequence: SequenceId, tokens: &[i32]) -> StepEntry<'_> {
    StepEntry { sequence, tokens, phase: Phase::Prefill, output: StepOutput::None }
}

/// A token of an answer.
fn token(sequence: SequenceId, token: &i32) -> StepEntry<'_> {
    StepEntry { sequence, tokens: std::slice::from_ref(token), phase: Phase::Decode, output: StepOutput::SampleAndLogits }
}

/// Runs one step; what it gave those that drew.
fn step(engine: &Engine, plan: &[StepEntry], audit: bool) -> Vec<Option<Drawn>> {
    let result = engine.step(plan, Measures { audit, ..Measures::NONE }, &NO_CANCEL).unwrap();
    let bits = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect();
    result.sequences.into_iter().map(|s| Some((s.token_id?, bits(s.logits?)))).collect()
}

/// An answer on its own: the prompt at one go but for its last token, which is decoded; then token by token.
fn answered_alone(engine: &Engine, asked: &Asked) -> Vec<Drawn> {
    let id = asked.open(engine);
    let (last, prompt) = asked.prompt.split_last().unwrap();
    step(engine, &[piece(id, prompt)], false);
    engine.build_index(id, Duration::MAX, &NO_CANCEL).unwrap();
    let mut next = *last;
    let mut answer = Vec::new();
    for _ in 0..ANSWER_LEN {
        let drawn = step(engine, &[token(id, &next)], false).remove(0).unwrap();
        next = drawn.0;
        answer.push(drawn);
    }
    engine.close_sequence(id);
    answer
}

/// All of them side by side: while some answer, prompts of others come in pieces of `piece_len` tokens, and indexes are built head by head.
fn answered_together(engine: &Engine, all: &[Asked], piece_len: usize) -> Vec<Vec<Drawn>> {
    struct Going {
        id: SequenceId,
        stored: usize,
        is_built: bool,
        next: i32,
        answer: Vec<Drawn>,
    }
    let open = |asked: &Asked| Going {
        id: asked.open(engine),
        stored: 0,
        is_built: false,
        next: *asked.prompt.last().unwrap(),
        answer: Vec::new(),
    };
    let mut going: Vec<Going> = all.iter().map(open).collect();
    for round in 0.. {
        for (asked, state) in all.iter().zip(&mut going) {
            if state.stored + 1 == asked.prompt.len() && !state.is_built {
                state.is_built = engine.build_index(state.id, Duration::ZERO, &NO_CANCEL).unwrap().heads_left == 0;
            }
        }
        let mut entries: Vec<(usize, StepEntry)> = Vec::new();
        for (i, (asked, state)) in all.iter().zip(&going).enumerate() {
            let left = asked.prompt.len() - 1 - state.stored;
            match left {
                1.. => entries.push((i, piece(state.id, &asked.prompt[state.stored..][..left.min(piece_len)]))),
                0 if state.is_built && state.answer.len() < ANSWER_LEN => entries.push((i, token(state.id, &state.next))),
                _ => (),
            }
        }
        if entries.is_empty() && going.iter().all(|state| state.answer.len() == ANSWER_LEN) {
            break;
        }
        if entries.is_empty() {
            continue;
        }
        // Neither always the same neighbours nor always in one place.
        let shift = round % entries.len();
        entries.rotate_left(shift);
        entries.truncate((round % 5 + 1).max(entries.len() / 2));
        let plan: Vec<StepEntry> = entries.iter().map(|(_, entry)| *entry).collect();
        let lengths: Vec<(usize, usize)> = entries.iter().map(|(i, entry)| (*i, entry.tokens.len())).collect();
        let results = step(engine, &plan, round % 3 == 0);
        for ((i, len), drawn) in lengths.into_iter().zip(results) {
            match drawn {
                Some(drawn) => {
                    going[i].next = drawn.0;
                    going[i].answer.push(drawn);
                }
                None => going[i].stored += len,
            }
        }
    }
    going.into_iter().map(|state| state.answer).collect()
}

fn check(suite: &Suite, model: &Arc<Model>) {
    let all = Asked::all();
    let reference = suite.engine(model, 1, 512);
    let expected: Vec<Vec<Drawn>> = all.iter().map(|asked| answered_alone(&reference, asked)).collect();
    for (threads, chunk, piece_len) in [(1, 512, 300), (1, 512, 3), (2, 64, 7), (2, 512, 128), (3, 33, 50), (1, 512, 1), (2, 5, 1)]
    {
        let engine = suite.engine(model, threads, chunk);
        let alone: Vec<Vec<Drawn>> = all.iter().map(|asked| answered_alone(&engine, asked)).collect();
        let together = answered_together(&engine, &all, piece_len);
        for (i, asked) in all.iter().enumerate() {
            let what = |way: &str| format!("{:?} {way}, {threads} threads, chunks of {chunk}, pieces of {piece_len}", asked.kind);
            for (way, answers) in [("alone", &alone), ("together", &together)] {
                for (k, (expected, actual)) in expected[i].iter().zip(&answers[i]).enumerate() {
                    assert_eq!(expected.0, actual.0, "{}: token {k}", what(way));
                    assert!(expected.1 == actual.1, "{}: the distribution of token {k}", what(way));
                }
            }
        }
    }
}

pub fn answers_are_the_same_bits_beside_others_in_pieces_and_on_threads(suite: &Suite) {
    let _alone = alone();
    for (architecture, kind) in [("llama", sys::GGML_TYPE_F32), ("qwen2", sys::GGML_TYPE_Q8_0), ("llama", sys::GGML_TYPE_Q4_0)] {
        let file = TinyModel { kind, ..TinyModel::new(architecture) }.write();
        check(suite, &load(file.path()));
    }
}
