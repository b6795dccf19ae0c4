//! What a sequence's rows become does not depend on what else is in their steps, on how a prompt was cut, or on the number of threads, to the
//! bit. Everything is read, so that the attention has no choice; what is shown is the rest of a step.

use ctkvr_core::{Phase, SequenceId};
use ctkvr_engine::{Engine, Measures, StepEntry, StepOutput};
use llama_cpp_sys_2 as sys;

use crate::Suite;
use crate::helpers::{NO_CANCEL, alone, full_sequence, load};
use crate::tiny_model::{Random, TinyModel, VOCAB_SIZE, gemma3_windows};

/// A sequence that a history feeds: a prompt, then tokens one by one.
struct Text {
    tokens: Vec<i32>,
    prompt: usize,
    fed: usize,
    sequence: SequenceId,
    /// Of each token whose logits were asked for: the last of the prompt, and those behind.
    logits: Vec<Vec<f32>>,
}

impl Text {
    fn new(engine: &Engine, random: &mut Random) -> Self {
        let (prompt, decodes) = (1 + random.number() as usize % 40, random.number() as usize % 5);
        let tokens = (0..prompt + decodes).map(|_| (random.number() as usize % VOCAB_SIZE) as i32).collect();
        Self { tokens, prompt, fed: 0, sequence: full_sequence(engine, 64), logits: Vec::new() }
    }

    /// The next step's entry: at most `most` tokens of the prompt, or one behind it.
    fn entry(&self, most: usize) -> Option<StepEntry<'_>> {
        let is_prompt = self.fed < self.prompt;
        let end = if is_prompt { self.prompt.min(self.fed + most) } else { self.fed + 1 };
        let output = if end >= self.prompt { StepOutput::Logits } else { StepOutput::None };
        let phase = if is_prompt { Phase::Prefill } else { Phase::Decode };
        (self.fed < self.tokens.len()).then(|| StepEntry {
            sequence: self.sequence,
            tokens: &self.tokens[self.fed..end],
            phase,
            output,
        })
    }
}

/// Feeds texts side by side, those of a step and the pieces of their prompts at random.
fn run(engine: &Engine, texts: &mut [Text], random: &mut Random, most: usize) {
    while texts.iter().any(|text| text.fed < text.tokens.len()) {
        let here: Vec<bool> = texts.iter().map(|_| texts.len() == 1 || !random.number().is_multiple_of(3)).collect();
        let mut pieces = || 1 + random.number() as usize % most;
        let plan: Vec<(usize, StepEntry)> =
            texts.iter().enumerate().filter(|(i, _)| here[*i]).filter_map(|(i, text)| Some((i, text.entry(pieces())?))).collect();
        if plan.is_empty() {
            continue;
        }
        let entries: Vec<StepEntry> = plan.iter().map(|(_, entry)| *entry).collect();
        let results = engine.step(&entries, Measures::NONE, &NO_CANCEL).unwrap().sequences;
        let fed: Vec<(usize, usize)> = plan.iter().map(|(i, entry)| (*i, entry.tokens.len())).collect();
        for ((i, count), result) in fed.into_iter().zip(results) {
            texts[i].fed += count;
            texts[i].logits.extend(result.logits);
        }
    }
}

pub fn a_sequence_alone_whole_and_on_one_thread_is_the_same(suite: &Suite) {
    check(
        suite,
        vec![
            TinyModel { kind: sys::GGML_TYPE_Q4_K, ..TinyModel::new("llama") },
            TinyModel { kind: sys::GGML_TYPE_Q8_0, ..TinyModel::new("qwen2") },
            TinyModel { kind: sys::GGML_TYPE_F16, ..TinyModel::new("qwen3") },
            TinyModel { kind: sys::GGML_TYPE_F32, ..TinyModel::new("llama") },
            TinyModel { kind: sys::GGML_TYPE_Q8_0, ..TinyModel::new("olmo2") },
            TinyModel { kind: sys::GGML_TYPE_Q4_K, ..TinyModel::new("granite") },
        ],
    );
}

/// The same of models that not every executor runs.
pub fn also_of_layers_with_windows_and_without_rotation(suite: &Suite) {
    check(
        suite,
        vec![
            TinyModel { kind: sys::GGML_TYPE_Q8_0, numbers: gemma3_windows(7, 2), ..TinyModel::new("gemma3") },
            TinyModel { kind: sys::GGML_TYPE_Q4_K, numbers: gemma3_windows(20, 3), ..TinyModel::new("gemma3") },
            TinyModel { kind: sys::GGML_TYPE_F32, ..TinyModel::new("smollm3") },
            TinyModel { kind: sys::GGML_TYPE_Q4_K, long_rope: Some(32), ..TinyModel::new("phi3") },
        ],
    );
}

fn check(suite: &Suite, models: Vec<TinyModel>) {
    let _alone = alone();
    for (index, tiny) in models.into_iter().enumerate() {
        let file = tiny.write();
        let model = load(file.path());
        let alone = suite.engine(&model, 1, 512);
        for seed in 1..=6 {
            let several = suite.engine(&model, 1 + seed as usize % 4, [512, 7, 24][seed as usize % 3]);
            let start = seed * 97 + index as u32;
            let mut random = Random(start);
            let mut together: Vec<Text> = (0..1 + random.number() % 4).map(|_| Text::new(&several, &mut random)).collect();
            run(&several, &mut together, &mut Random(start + 1000), 9);
            for mut text in together {
                let logits = std::mem::take(&mut text.logits);
                let mut single = Text { fed: 0, sequence: full_sequence(&alone, 64), logits: Vec::new(), ..text };
                run(&alone, std::slice::from_mut(&mut single), &mut Random(start), 1000);
                let what = format!("model {index}, seed {seed}, a prompt of {}", single.prompt);
                assert!(!single.logits.is_empty() && single.logits == logits, "{what}");
            }
        }
    }
}
