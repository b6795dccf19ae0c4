//! A real model on the device's executor, kernels on the CPU behind the stand-in driver: its tokens are those of the CPU's executor. Needs
//! `CTKVR_TEST_MODEL`; `CTKVR_TEST_PROMPT` tokens (600 by default) are read before.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctkvr_baselines::testing::Settings;
use ctkvr_core::{Phase, SequenceId};
use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine::{Engine, EngineOptions, StepEntry, StepOutput};
use ctkvr_engine_suite::helpers::{NO_CANCEL, kl_divergence, load, most_probable, some_text, test_model};
use ctkvr_kernels::KvFormat;
use ctkvr_model::Model;

const STEPS: usize = 32;
/// Both sides round activations to 8 bits, and a sum in another order tips roundings, layer after layer: measured, mean KLs of .0028 to .0043,
/// and tokens that differ are at most .15 apart.
const NEAR: f32 = 0.25;
const MEAN_KL: f64 = 0.01;
const METHODS: [&str; 2] = ["full", "ctkvr"];
const FORMATS: [KvFormat; 2] = [KvFormat::F16, KvFormat::Q8];

fn cpu(model: &Arc<Model>) -> Engine {
    let loading = Loading { progress: &mut |_| (), cancel: &NO_CANCEL };
    let executor = CpuExecutor::load(Arc::clone(model), CpuOptions::default(), loading).unwrap();
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

fn num_prompt() -> usize {
    std::env::var("CTKVR_TEST_PROMPT").map_or(600, |n| n.parse().unwrap())
}

/// A sequence with the prompt read, its index built, and its first token.
fn read(engine: &Engine, prompt: &[i32], format: KvFormat, method: &'static str) -> (SequenceId, i32) {
    let sequence = engine.create_sequence(2048, format, settings(method).into()).unwrap();
    let entry = StepEntry { sequence, tokens: prompt, phase: Phase::Prefill, output: StepOutput::Logits };
    let first = engine.step(&[entry], false, &NO_CANCEL).unwrap().sequences.remove(0).logits.unwrap();
    engine.build_index(sequence, Duration::from_secs(3600), &NO_CANCEL).unwrap();
    (sequence, most_probable(&first))
}

/// Takes one token to each sequence; their logits.
fn decode(engine: &Engine, sequences: &[SequenceId], tokens: &[i32]) -> Vec<Vec<f32>> {
    let tokens: Vec<[i32; 1]> = tokens.iter().map(|token| [*token]).collect();
    let entries: Vec<StepEntry> = sequences
        .iter()
        .zip(&tokens)
        .map(|(sequence, tokens)| StepEntry { sequence: *sequence, tokens, phase: Phase::Decode, output: StepOutput::Logits })
        .collect();
    engine.step(&entries, false, &NO_CANCEL).unwrap().sequences.into_iter().map(|of| of.logits.unwrap()).collect()
}

/// How one sequence's tokens compare.
#[derive(Debug, Default)]
struct Compared {
    same: usize,
    /// Mean KL divergence of the device's distributions from the CPU's, nats.
    mean_kl: f64,
    /// What the CPU's logits prefer its token by, where the device's is another one.
    near: Vec<f32>,
}

#[test]
fn greedy_tokens_are_those_of_the_cpu() {
    compare(0);
}

#[test]
fn greedy_tokens_of_hybrid_layers_are_those_of_the_cpu() {
    compare(usize::MAX);
}

#[test]
fn greedy_tokens_of_some_hybrid_layers_are_those_of_the_cpu() {
    compare(10);
}

/// Four sequences at once (two methods, two formats) against the same on the CPU, which says how they go on: every greedy token is the same,
/// but for near ties.
fn compare(hybrid_layers: usize) {
    let Some(path) = test_model() else { return };
    let model = load(&path);
    let prompt = &model.tokenizer().tokenize(&some_text(6000), false).unwrap()[..num_prompt()];
    let (cpu, device) = (cpu(&model), device(&model, hybrid_layers));
    let started = Instant::now();
    let cases: Vec<_> = METHODS.iter().flat_map(|method| FORMATS.map(|format| (*method, format))).collect();
    let read_all = |engine: &Engine| -> (Vec<SequenceId>, Vec<i32>) {
        cases.iter().map(|(method, format)| read(engine, prompt, *format, method)).unzip()
    };
    let (on_device, first) = read_all(&device);
    println!("{} tokens read 4 times in {:.1} s", prompt.len(), started.elapsed().as_secs_f64());
    let (on_cpu, expected) = read_all(&cpu);
    assert_eq!(first, expected);
    let (mut tokens, mut compared) =
        (expected, vec![(); cases.len()].into_iter().map(|()| Compared::default()).collect::<Vec<_>>());
    for _ in 0..STEPS {
        let (ours, theirs) = (decode(&device, &on_device, &tokens), decode(&cpu, &on_cpu, &tokens));
        for ((ours, theirs), compared) in ours.iter().zip(&theirs).zip(&mut compared) {
            compared.mean_kl += kl_divergence(theirs, ours) / STEPS as f64;
            let (got, expected) = (most_probable(ours), most_probable(theirs));
            compared.same += usize::from(got == expected);
            if got != expected {
                compared.near.push(theirs[expected as usize] - theirs[got as usize]);
            }
        }
        tokens = theirs.iter().map(|logits| most_probable(logits)).collect();
    }
    println!("{:.1} s", started.elapsed().as_secs_f64());
    for ((method, format), compared) in cases.iter().zip(&compared) {
        println!("{method} {format:?}: {compared:?} of {STEPS}");
    }
    for ((method, format), compared) in cases.iter().zip(&compared) {
        assert!(compared.near.iter().all(|near| *near < NEAR), "{method} {format:?}: {compared:?}");
        assert!(compared.mean_kl < MEAN_KL, "{method} {format:?}: {compared:?}");
    }
}
