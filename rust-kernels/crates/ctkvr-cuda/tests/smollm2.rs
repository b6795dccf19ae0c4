//! A real model on the device's executor, kernels on the CPU behind the stand-in driver: its tokens are those of the CPU's executor. Needs
//! `CTKVR_TEST_MODEL`; `CTKVR_TEST_PROMPT` tokens (600 by default) are read before.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ctkvr_baselines::testing::Settings;
use ctkvr_core::{Phase, SequenceId};
use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine::{Engine, EngineOptions, StepEntry, StepOutput};
use ctkvr_engine_suite::helpers::{kl_divergence, load, most_probable, some_text, test_model};
use ctkvr_kernels::KvFormat;
use ctkvr_model::Model;

static NO_CANCEL: AtomicBool = AtomicBool::new(false);
const STEPS: usize = 32;
const METHODS: [&str; 2] = ["full", "ctkvr"];
const FORMATS: [KvFormat; 2] = [KvFormat::F16, KvFormat::Q8];

fn cpu(model: &Arc<Model>) -> Engine {
    let loading = Loading { progress: &mut |_| (), cancel: &NO_CANCEL };
    let executor = CpuExecutor::load(Arc::clone(model), CpuOptions::default(), loading).unwrap();
    Engine::new(Arc::clone(model), Box::new(executor), EngineOptions { prefill_chunk: 128 }).unwrap()
}

fn device(model: &Arc<Model>) -> Engine {
    ctkvr_cuda::stand_in::load();
    let executor = CudaExecutor::load(Arc::clone(model), CudaOptions::default(), &mut |_| ()).unwrap();
    Engine::new(Arc::clone(model), Box::new(executor), EngineOptions { prefill_chunk: 128 }).unwrap()
}

/// Few enough read that choosing matters after a few hundred tokens.
fn settings(method: &'static str) -> Settings {
    let short = Settings { num_sink_tokens: 4, recent_window: 32, dense_below: 64, max_selected: 96, num_centroids: 96, ..Settings::full() };
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

/// Four sequences at once (two methods, two formats) against the same on the CPU: every greedy token is the same. A token may differ only
/// where the CPU's two best logits are as near as the two sides' logits are apart; then the CPU's goes on.
#[test]
fn greedy_tokens_are_those_of_the_cpu() {
    let Some(path) = test_model() else { return };
    let model = load(&path);
    let prompt = &model.tokenizer().tokenize(&some_text(6000), false).unwrap()[..num_prompt()];
    let (cpu, device) = (cpu(&model), device(&model));
    let started = Instant::now();
    let read_all = |engine: &Engine| -> (Vec<SequenceId>, Vec<i32>) {
        let cases = METHODS.iter().flat_map(|method| FORMATS.map(|format| (*method, format)));
        cases.map(|(method, format)| read(engine, prompt, format, method)).unzip()
    };
    let (on_device, first) = read_all(&device);
    println!("{} tokens read 4 times in {:.1} s", prompt.len(), started.elapsed().as_secs_f64());
    let (on_cpu, expected) = read_all(&cpu);
    assert_eq!(first, expected);
    let (mut tokens, mut same, mut worst) = (expected, 0, 0f64);
    for step in 0..STEPS {
        let (ours, theirs) = (decode(&device, &on_device, &tokens), decode(&cpu, &on_cpu, &tokens));
        for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            worst = worst.max(kl_divergence(theirs, ours));
            let (got, expected) = (most_probable(ours), most_probable(theirs));
            if got == expected {
                same += 1;
            } else {
                let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                let near = theirs[expected as usize] - theirs[got as usize];
                assert!(near <= 2.0 * apart && apart < 0.1, "step {step}, sequence {i}: {got} for {expected}, {near} of {apart}");
            }
        }
        tokens = theirs.iter().map(|logits| most_probable(logits)).collect();
    }
    println!("{same} of {} tokens the same, KL at most {worst:.2e}, {:.1} s", 4 * STEPS, started.elapsed().as_secs_f64());
    assert!(worst < 1e-3, "KL {worst}");
}
