//! What tests of engines share.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctkvr_baselines::testing::Settings;
use ctkvr_core::{Phase, SequenceId};
use ctkvr_engine::{Engine, Measures, StepEntry, StepOutput};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{Model, RopeOverrides};

pub static NO_CANCEL: AtomicBool = AtomicBool::new(false);

/// Held by tests that use every core: side by side, their threads would wait for each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The real model that tests may use, or `None` with the reason printed.
pub fn test_model() -> Option<PathBuf> {
    let path = std::env::var_os("CTKVR_TEST_MODEL").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: CTKVR_TEST_MODEL names no model file");
    }
    path
}

pub fn load(path: &Path) -> Arc<Model> {
    Arc::new(Model::load(path, RopeOverrides::default()).unwrap())
}

pub fn full_sequence(engine: &Engine, max_tokens: usize) -> SequenceId {
    engine.create_sequence(max_tokens, KvFormat::F16, Settings::full().into()).unwrap()
}

/// Appends tokens and returns the logits of the last.
pub fn logits(engine: &Engine, sequence: SequenceId, tokens: &[i32]) -> Vec<f32> {
    let phase = if tokens.len() == 1 { Phase::Decode } else { Phase::Prefill };
    let entry = StepEntry { sequence, tokens, phase, output: StepOutput::Logits };
    engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap().sequences.remove(0).logits.unwrap()
}

/// KL divergence of the next-token distributions, nats.
pub fn kl_divergence(reference: &[f32], other: &[f32]) -> f64 {
    let log_probabilities = |logits: &[f32]| {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        logits.iter().map(move |logit| f64::from(logit - largest) - total.ln()).collect::<Vec<_>>()
    };
    let (p, q) = (log_probabilities(reference), log_probabilities(other));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

pub fn most_probable(logits: &[f32]) -> i32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as i32
}

/// A text that never changes, repeated to any length: what is measured on it stays comparable.
pub fn some_text(num_bytes: usize) -> String {
    let once = include_str!("../some-text.txt");
    once.chars().cycle().take(num_bytes).collect()
}
