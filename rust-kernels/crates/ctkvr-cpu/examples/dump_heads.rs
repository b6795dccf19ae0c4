//! Writes keys, values and queries of a few heads of a real model, for packages/testkit/golden (its README names model and text):
//!
//!   cargo run --release -p ctkvr-cpu --example dump_heads -- model.gguf text.txt folder
//!
//! `heads.bin` holds, head after head, f16 little endian: keys `[NUM_TOKENS, head_dim]`, values, centroid queries `[NUM_CENTROIDS, group,
//! head_dim]` of the last stored tokens, and the queries of the `NUM_DECODES` tokens that follow. `heads.json` says which heads and sizes.
#![allow(clippy::print_stdout, reason = "a command line tool")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_baselines::testing::Settings;
use ctkvr_core::Phase;
use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_engine::{Engine, EngineOptions, Measures, StepEntry, StepOutput};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{Model, RopeOverrides};
use half::f16;

const NUM_TOKENS: usize = 320;
const NUM_CENTROIDS: usize = 64;
const NUM_DECODES: usize = 4;
/// (layer, KV head): early, middle, late.
const HEADS: [(usize, usize); 3] = [(2, 0), (14, 1), (27, 2)];

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, text, folder] = paths.as_slice() else { return Err("usage: dump_heads model.gguf text.txt folder".into()) };
    let go = AtomicBool::new(false);
    let model = Arc::new(Model::load(model, RopeOverrides::default())?);
    let shape = model.spec().attention_shape();
    let mut tokens = model.tokenizer().tokenize(&std::fs::read_to_string(text)?, false)?;
    let len = NUM_TOKENS + NUM_DECODES;
    if tokens.len() < len {
        return Err(format!("the text has {} tokens, {len} are needed", tokens.len()).into());
    }
    tokens.truncate(len);
    let options = CpuOptions { num_threads: 1, ..CpuOptions::default() };
    let executor = CpuExecutor::load(Arc::clone(&model), options, Loading { progress: &mut |_| (), cancel: &go })?;
    let builder = IndexBuilder { shape, kernels: executor.attention_kernels(), num_threads: 1 };
    let engine = Engine::new(model, Box::new(executor), EngineOptions::default())?;
    let sequence = engine.create_sequence(len, KvFormat::F16, Settings::full().into())?;
    let entry = StepEntry { sequence, tokens: &tokens, phase: Phase::Prefill, output: StepOutput::None };
    engine.step(&[entry], Measures::NONE, &go)?;
    let (d, row_len) = (shape.head_dim, shape.group_size() * shape.head_dim);
    let mut bytes = Vec::new();
    for (layer, kv_head) in HEADS {
        let head = engine.with_sequence(sequence, |sequence| builder.stored_head(sequence, layer, kv_head))??;
        let queries = &head.queries[head.queries.len() - (NUM_CENTROIDS + NUM_DECODES) * row_len..];
        for values in [&head.keys[..NUM_TOKENS * d], &head.values[..NUM_TOKENS * d], queries] {
            bytes.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
        }
    }
    std::fs::write(folder.join("heads.bin"), &bytes)?;
    let heads: Vec<String> =
        HEADS.iter().map(|(layer, kv_head)| format!("{{ \"layer\": {layer}, \"kvHead\": {kv_head} }}")).collect();
    let json = format!(
        "{{\n  \"numTokens\": {NUM_TOKENS},\n  \"numCentroids\": {NUM_CENTROIDS},\n  \"numDecodes\": {NUM_DECODES},\n  \"headDim\": {d},\n  \"groupSize\": {},\n  \"heads\": [{}]\n}}\n",
        shape.group_size(),
        heads.join(", "),
    );
    std::fs::write(folder.join("heads.json"), json)?;
    println!("{} bytes of {} heads", bytes.len(), HEADS.len());
    Ok(())
}
