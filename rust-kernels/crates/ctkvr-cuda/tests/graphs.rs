//! A decoded token is one graph launch, whatever its position; a graph is made once for a kind of step.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use ctkvr_baselines::testing::Settings;
use ctkvr_core::{Phase, SequenceId};
use ctkvr_cuda::stand_in::{Session, session};
use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine::{Engine, EngineOptions, StepEntry, StepOutput};
use ctkvr_engine_suite::helpers::{NO_CANCEL, load};
use ctkvr_engine_suite::tiny_model::TinyModel;
use ctkvr_kernels::KvFormat;

fn settings() -> Settings {
    Settings {
        num_sink_tokens: 4,
        recent_window: 32,
        dense_below: 64,
        num_centroids: 32,
        max_selected: 16,
        mass_sampling: false,
        ..Settings::full()
    }
}

/// A sequence of 200 tokens with an index of the method.
fn read(engine: &Engine, method: &'static str) -> SequenceId {
    let sequence = engine.create_sequence(600, KvFormat::F16, Settings { method, ..settings() }.into()).unwrap();
    let tokens: Vec<i32> = (0..200).map(|i| i * 7 % 50).collect();
    let entry = StepEntry { sequence, tokens: &tokens, phase: Phase::Prefill, output: StepOutput::None };
    engine.step(&[entry], false, &NO_CANCEL).unwrap();
    engine.build_index(sequence, Duration::from_secs(600), &NO_CANCEL).unwrap();
    sequence
}

/// Decodes a token of each sequence; launches of kernels and of graphs, and graphs made.
fn decode(session: &Session, engine: &Engine, sequences: &[SequenceId]) -> [i64; 3] {
    let counts = || ["cuLaunchKernel", "cuGraphLaunch", "cuGraphInstantiateWithFlags"].map(|name| session.count(name).max(0));
    let entry =
        |sequence: &SequenceId| StepEntry { sequence: *sequence, tokens: &[3], phase: Phase::Decode, output: StepOutput::Logits };
    let before = counts();
    engine.step(&sequences.iter().map(entry).collect::<Vec<_>>(), false, &NO_CANCEL).unwrap();
    let after = counts();
    [0, 1, 2].map(|i| after[i] - before[i])
}

#[test]
fn a_token_is_one_launch_of_a_graph() {
    let session = session();
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    let executor = CudaExecutor::load(Arc::clone(&model), CudaOptions::default(), &mut |_| ()).unwrap();
    let engine = Engine::new(model, Box::new(executor), EngineOptions { prefill_chunk: 64 }).unwrap();
    let [first, second] = [(); 2].map(|()| read(&engine, "ctkvr"));
    let captured = decode(&session, &engine, &[first]);
    assert!(captured[0] > 0 && captured[1..] == [1, 1], "{captured:?}");
    // Pages and splits of attention come and go.
    for _ in 0..80 {
        let [launches, graphs, made] = decode(&session, &engine, &[first]);
        assert_eq!(graphs, 1);
        assert_eq!(launches > 0, made > 0, "what is launched one by one is captured");
    }
    assert_eq!(decode(&session, &engine, &[first]), [0, 1, 0]);
    // Another batch is another graph; the old one stays.
    let both = decode(&session, &engine, &[first, second]);
    assert_eq!(both[1..], [1, 1]);
    assert_eq!(decode(&session, &engine, &[first, second]), [0, 1, 0]);
}

/// What the host has to do in the middle of a layer cannot be in a graph.
#[test]
fn a_method_without_kernels_is_launched_one_by_one() {
    let session = session();
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    let executor = CudaExecutor::load(Arc::clone(&model), CudaOptions::default(), &mut |_| ()).unwrap();
    let engine = Engine::new(model, Box::new(executor), EngineOptions { prefill_chunk: 64 }).unwrap();
    let sequence = read(&engine, "quest");
    let [launches, graphs, made] = decode(&session, &engine, &[sequence]);
    assert!(launches > 0 && graphs == 0 && made == 0);
}
