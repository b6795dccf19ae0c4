//! Prints how fast a model prefills and decodes, and where the time goes:
//! `cargo run --release -p ctkvr-cpu --example throughput -- MODEL.gguf [PROMPT_TOKENS] [DECODE_TOKENS] [THREADS]`
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a program for a terminal")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ctkvr_baselines::testing::Settings;
use ctkvr_core::Phase;
use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_engine::{Engine, EngineOptions, Measures, StepEntry, StepOutput, StepTimings};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{Model, RopeOverrides, ggml_features, num_usable_threads, process_memory};

static NO_CANCEL: AtomicBool = AtomicBool::new(false);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(path) = arguments.first() else {
        eprintln!("usage: throughput MODEL.gguf [PROMPT_TOKENS] [DECODE_TOKENS] [THREADS]");
        std::process::exit(2);
    };
    let number = |index: usize, otherwise: usize| arguments.get(index).map_or(otherwise, |text| text.parse().unwrap());
    let (prompt_len, decode_len, threads) = (number(1, 2000), number(2, 64), number(3, num_usable_threads()));

    let started = Instant::now();
    let model = Arc::new(Model::load(Path::new(path), RopeOverrides::default()).unwrap());
    let options = CpuOptions { num_threads: threads, ..CpuOptions::default() };
    let loading = Loading { progress: &mut |_| (), cancel: &NO_CANCEL };
    let executor = CpuExecutor::load(Arc::clone(&model), options, loading).unwrap();
    println!(
        "{} {}: loaded in {:.2} s, {} MB copied, {threads} threads, ggml {}",
        model.info().architecture,
        model.info().quantisation,
        started.elapsed().as_secs_f64(),
        executor.copied_bytes() >> 20,
        ggml_features().unwrap().join(" "),
    );
    println!("attention kernels: {}", executor.attention_kernels().name);
    let engine = Engine::new(Arc::clone(&model), Box::new(executor), EngineOptions::default()).unwrap();
    let sequence = engine.create_sequence(prompt_len + decode_len, KvFormat::F16, Settings::full().into()).unwrap();
    let prompt: Vec<i32> = (0..prompt_len).map(|i| ((i * 7919) % model.spec().vocab_size) as i32).collect();

    let mut total = StepTimings::default();
    let entry = StepEntry { sequence, tokens: &prompt, phase: Phase::Prefill, output: StepOutput::Sample };
    let result = engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap();
    add(&mut total, result.timings);
    report("prefill", prompt_len, total);

    let mut token = result.sequences[0].token_id.unwrap();
    let mut total = StepTimings::default();
    for _ in 0..decode_len {
        let entry = StepEntry { sequence, tokens: &[token], phase: Phase::Decode, output: StepOutput::Sample };
        let result = engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap();
        add(&mut total, result.timings);
        token = result.sequences[0].token_id.unwrap();
    }
    report("decode", decode_len, total);
    let (memory, kv) = (process_memory(), engine.memory(sequence).unwrap().kv_bytes);
    println!("memory: {} MB at its peak, {} MB of keys and values", memory.peak_rss_bytes >> 20, kv >> 20);
}

fn add(total: &mut StepTimings, step: StepTimings) {
    total.total_ms += step.total_ms;
    total.linear_ms += step.linear_ms;
    total.stages.add(&step.stages);
    total.sampling_ms += step.sampling_ms;
}

fn report(stage: &str, tokens: usize, time: StepTimings) {
    let per_token = |ms: f64| ms / tokens as f64;
    println!(
        "{stage}: {tokens} tokens, {:.1} tokens/s; ms a token: {:.3} = linear {:.3} + attention {:.3} + retrieval {:.3} + sampling {:.3}",
        tokens as f64 / time.total_ms * 1e3,
        per_token(time.total_ms),
        per_token(time.linear_ms),
        per_token(time.stages.attention_ms()),
        per_token(time.stages.retrieval_ms()),
        per_token(time.sampling_ms),
    );
}
