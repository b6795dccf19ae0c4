//! A real model on the device's executor, kernels on the CPU behind the stand-in driver. Its distributions are as near to those of the CPU's
//! executor as those of the CPU with ggml's products are, and its tokens the same wherever rounding does not decide them: both go on with a
//! text that they have read before. Needs `CTKVR_TEST_MODEL`; `CTKVR_TEST_PROMPT` tokens (600 by default) are read before.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctkvr_baselines::testing::Settings;
use ctkvr_core::{Phase, SequenceId};
use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine::{Engine, EngineOptions, Measures, StepEntry, StepOutput};
use ctkvr_engine_suite::helpers::{NO_CANCEL, kl_divergence, load, most_probable, some_text, test_model};
use ctkvr_kernels::KvFormat;
use ctkvr_model::Model;

const STEPS: usize = 32;
/// Both sides round activations to 8 bits, and a sum in another order tips roundings, layer after layer. How much that comes to is measured with
/// the CPU's executor itself and other products, whose sums have another order. The device may be as far off, twice for its luck. Tokens of
/// a new text that differ are told, not bounded: after 600 tokens both prefer another one where the CPU's logits are .49 apart.
const TIMES_THE_CPUS: f64 = 2.0;
/// Logits by which the CPU must prefer each token of a text that tokens must be equal in: twice the .49.
const CLEAR: f32 = 1.0;
const METHODS: [&str; 2] = ["full", "ctkvr"];
const FORMATS: [KvFormat; 2] = [KvFormat::F16, KvFormat::Q8];

fn cpu(model: &Arc<Model>, options: CpuOptions) -> Engine {
    let loading = Loading { progress: &mut |_| (), cancel: &NO_CANCEL };
    let executor = CpuExecutor::load(Arc::clone(model), options, loading).unwrap();
    Engine::new(Arc::clone(model), Box::new(executor), EngineOptions { prefill_chunk: 128 }).unwrap()
}

fn device(model: &Arc<Model>, hybrid_layers: usize) -> Engine {
    ctkvr_cuda::stand_in::load();
    let options = CudaOptions { hybrid_layers, ..CudaOptions::default() };
    let executor = CudaExecutor::load(Arc::clone(model), options, &mut |_| ()).unwrap();
    Engine::new(Arc::clone(model), Box::new(executor), EngineOptions { prefill_chunk: 128 }).unwrap()
}

/// Few enough read that choosing matters after a few hundred tokens.
fn settings(method: &'static str) -> Settings {
    let short = Settings {
        num_sink_tokens: 4,
        recent_window: 32,
        dense_below: 64,
        max_selected: 192,
        num_centroids: 96,
        ..Settings::full()
    };
    Settings { method, ..short }
}

/// What is read before tokens are decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Prompt {
    NewText,
    /// As many tokens of it, again and again. What follows is known if keys that many tokens before are found.
    Again {
        period: usize,
    },
}

impl Prompt {
    fn tokens(self, model: &Model) -> Vec<i32> {
        let num_tokens = std::env::var("CTKVR_TEST_PROMPT").map_or(600, |n| n.parse().unwrap());
        let text = model.tokenizer().tokenize(&some_text(6000), false).unwrap();
        match self {
            Self::NewText => text[..num_tokens].to_vec(),
            Self::Again { period } => text[..period].iter().copied().cycle().take(num_tokens).collect(),
        }
    }

    /// The longest text read again whose every token the CPU prefers clearly, in all its cases: no rounding decides there.
    fn clear(the_cpu: &Engine) -> Self {
        let clear = (80..=300).rev().step_by(20).map(|period| Self::Again { period }).find(|prompt| {
            let (sequences, mut logits) = read_all(the_cpu, &prompt.cases());
            let is_clear = (0..STEPS).all(|_| {
                let tokens: Vec<i32> = logits.iter().map(|logits| most_probable(logits)).collect();
                let is_clear = logits.iter().zip(&tokens).all(|(logits, token)| margin(logits, *token) >= CLEAR);
                logits = decode(the_cpu, &sequences, &tokens);
                is_clear
            });
            sequences.into_iter().for_each(|sequence| the_cpu.close_sequence(sequence));
            is_clear
        });
        clear.expect("rounding decides in all texts")
    }

    /// Sequences of one format are read once, for all methods: those are neighbours.
    fn cases(self) -> Vec<Case> {
        FORMATS.map(|format| METHODS.map(|method| Case { prompt: self, format, method })).concat()
    }
}

/// By how much `logits` prefer `token` to all others.
fn margin(logits: &[f32], token: i32) -> f32 {
    let others = logits.iter().enumerate().filter(|(id, _)| *id != token as usize);
    logits[token as usize] - others.map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max)
}

/// How one sequence is read and decoded.
#[derive(Clone, Copy, Debug)]
struct Case {
    prompt: Prompt,
    format: KvFormat,
    method: &'static str,
}

/// A sequence of each method with the prompt read, once for all of them, and indexes built; the logits of the prompt's last token.
fn read(engine: &Engine, prompt: &[i32], format: KvFormat) -> (Vec<SequenceId>, Vec<f32>) {
    let sequence = engine.create_sequence(2048, format, settings("ctkvr").into()).unwrap();
    let entry = StepEntry { sequence, tokens: prompt, phase: Phase::Prefill, output: StepOutput::Logits };
    let first = engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap().sequences.remove(0).logits.unwrap();
    let sequences = METHODS.map(|method| {
        let fork = engine.fork_sequence(sequence).unwrap();
        engine.set_selector(fork, settings(method).into()).unwrap();
        engine.build_index(fork, Duration::from_secs(3600), &NO_CANCEL).unwrap();
        fork
    });
    engine.close_sequence(sequence);
    (sequences.to_vec(), first)
}

/// Reads the prompts of all cases; their sequences, and the logits of each one's next token.
fn read_all(engine: &Engine, cases: &[Case]) -> (Vec<SequenceId>, Vec<Vec<f32>>) {
    let (mut sequences, mut first) = (Vec::new(), Vec::new());
    for case in cases.iter().step_by(METHODS.len()) {
        let (ids, logits) = read(engine, &case.prompt.tokens(engine.model()), case.format);
        first.extend(ids.iter().map(|_| logits.clone()));
        sequences.extend(ids);
    }
    (sequences, first)
}

/// Takes one token to each sequence; their logits.
fn decode(engine: &Engine, sequences: &[SequenceId], tokens: &[i32]) -> Vec<Vec<f32>> {
    let tokens: Vec<[i32; 1]> = tokens.iter().map(|token| [*token]).collect();
    let entries: Vec<StepEntry> = sequences
        .iter()
        .zip(&tokens)
        .map(|(sequence, tokens)| StepEntry { sequence: *sequence, tokens, phase: Phase::Decode, output: StepOutput::Logits })
        .collect();
    engine.step(&entries, Measures::NONE, &NO_CANCEL).unwrap().sequences.into_iter().map(|of| of.logits.unwrap()).collect()
}

/// How one sequence's tokens compare to the CPU's.
#[derive(Debug, Default)]
struct Compared {
    same: usize,
    /// Mean KL divergence of the distributions from the CPU's, nats.
    mean_kl: f64,
    /// What the CPU's logits prefer its token by, where this one's is another.
    near: Vec<f32>,
}

impl Compared {
    fn add(&mut self, ours: &[f32], theirs: &[f32]) {
        self.mean_kl += kl_divergence(theirs, ours) / STEPS as f64;
        let (got, expected) = (most_probable(ours), most_probable(theirs));
        self.same += usize::from(got == expected);
        if got != expected {
            self.near.push(theirs[expected as usize] - theirs[got as usize]);
        }
    }
}

/// An engine that reads and decodes what the CPU's does.
struct Beside {
    name: &'static str,
    engine: Engine,
    sequences: Vec<SequenceId>,
    /// Logits of the next token, of each case.
    ours: Vec<Vec<f32>>,
    /// One for each case.
    compared: Vec<Compared>,
}

impl Beside {
    /// Of the cases with this prompt.
    fn mean_kl(&self, cases: &[Case], prompt: Prompt) -> f64 {
        let of_prompt = cases.iter().zip(&self.compared).filter(|(case, _)| case.prompt == prompt);
        let kls: Vec<f64> = of_prompt.map(|(_, compared)| compared.mean_kl).collect();
        kls.iter().sum::<f64>() / kls.len() as f64
    }
}

#[test]
fn the_device_gives_the_cpus_tokens() {
    compare(0);
}

#[test]
fn hybrid_layers_give_the_cpus_tokens() {
    compare(usize::MAX);
}

#[test]
fn some_hybrid_layers_give_the_cpus_tokens() {
    compare(10);
}

/// Eight sequences at once (two prompts, two formats, two methods) against the same on the CPU, which says how they go on.
fn compare(hybrid_layers: usize) {
    let Some(path) = test_model() else { return };
    let model = load(&path);
    let the_cpu = cpu(&model, CpuOptions::default());
    let prompts = [Prompt::NewText, Prompt::clear(&the_cpu)];
    let cases = prompts.map(Prompt::cases).concat();
    let (on_cpu, mut theirs) = read_all(&the_cpu, &cases);
    let ggml = CpuOptions { packed: None, ..CpuOptions::default() };
    let mut all = [("device", device(&model, hybrid_layers)), ("CPU, ggml's products", cpu(&model, ggml))].map(|(name, engine)| {
        let started = Instant::now();
        let (sequences, ours) = read_all(&engine, &cases);
        println!("{name}: prompts read in {:.1} s", started.elapsed().as_secs_f64());
        Beside { name, engine, sequences, ours, compared: cases.iter().map(|_| Compared::default()).collect() }
    });
    for _ in 0..STEPS {
        for Beside { ours, compared, .. } in &mut all {
            compared.iter_mut().zip(&*ours).zip(&theirs).for_each(|((compared, ours), theirs)| compared.add(ours, theirs));
        }
        let tokens: Vec<i32> = theirs.iter().map(|logits| most_probable(logits)).collect();
        theirs = decode(&the_cpu, &on_cpu, &tokens);
        for Beside { engine, sequences, ours, .. } in &mut all {
            *ours = decode(engine, sequences, &tokens);
        }
    }
    for Beside { name, compared, .. } in &all {
        for (Case { prompt, format, method }, compared) in cases.iter().zip(compared) {
            println!("{name}: {prompt:?}, {format:?}, {method}: {compared:?} of {STEPS}");
        }
    }
    for prompt in prompts {
        let mean_kls = all.each_ref().map(|beside| beside.mean_kl(&cases, prompt));
        println!("{prompt:?}: mean KL {:.5}, of the CPU with ggml's products {:.5}", mean_kls[0], mean_kls[1]);
        assert!(prompt != Prompt::NewText || mean_kls[0] < TIMES_THE_CPUS * mean_kls[1], "{mean_kls:?}");
    }
    for (case, compared) in cases.iter().zip(&all[0].compared) {
        assert!(case.prompt == Prompt::NewText || compared.same == STEPS, "{case:?}: {compared:?} of {STEPS}");
    }
}
