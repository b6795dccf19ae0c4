//! What a step launches and copies: a decoded token is one graph, whatever its position, made once for a kind of step, and one copy to the
//! device; matrices that take the same rows are one product.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use ctkvr_baselines::testing::Settings;
use ctkvr_core::{Phase, SequenceId};
use ctkvr_cuda::joined::Joined;
use ctkvr_cuda::launch::outputs::Outputs;
use ctkvr_cuda::matrix::{DeviceMatrix, HostMatrix};
use ctkvr_cuda::stand_in::{Session, session};
use ctkvr_cuda::{CudaExecutor, CudaOptions, Device, DeviceBuffer};
use ctkvr_engine::{Engine, EngineOptions, Measures, StepEntry, StepOutput};
use ctkvr_engine_suite::helpers::{NO_CANCEL, load};
use ctkvr_engine_suite::tiny_model::TinyModel;
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{BLOCK, KvFormat};
use ctkvr_model::Matrices;

/// `GGML_TYPE_Q8_0`.
const Q8_0: u32 = 8;

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
    engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap();
    engine.build_index(sequence, Duration::from_secs(600), &NO_CANCEL).unwrap();
    sequence
}

/// Decodes a token of each sequence; launches of kernels and of graphs, and graphs made.
fn decode(session: &Session, engine: &Engine, sequences: &[SequenceId]) -> [i64; 3] {
    let counts = || ["cuLaunchKernel", "cuGraphLaunch", "cuGraphInstantiateWithFlags"].map(|name| session.count(name).max(0));
    let entry =
        |sequence: &SequenceId| StepEntry { sequence: *sequence, tokens: &[3], phase: Phase::Decode, output: StepOutput::Logits };
    let before = counts();
    engine.step(&sequences.iter().map(entry).collect::<Vec<_>>(), Measures::NONE, &NO_CANCEL).unwrap();
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

/// All that a token brings lies in one piece, however long prompts of before were, and what comes back of it in as few.
#[test]
fn a_token_is_one_copy_to_the_device() {
    let session = session();
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    let executor = CudaExecutor::load(Arc::clone(&model), CudaOptions::default(), &mut |_| ()).unwrap();
    let engine = Engine::new(model, Box::new(executor), EngineOptions { prefill_chunk: 64 }).unwrap();
    let sequences = [read(&engine, "ctkvr"), read(&engine, "full")];
    let copies = || ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"].map(|name| session.count(name));
    for batch in [&sequences[..1], &sequences[1..], &sequences[..]] {
        // Indexes come to the device, and room is made.
        decode(&session, &engine, batch);
        for output in [StepOutput::Logits, StepOutput::Sample].into_iter().cycle().take(20) {
            let entry = |sequence: &SequenceId| StepEntry { sequence: *sequence, tokens: &[3], phase: Phase::Decode, output };
            let before = copies();
            engine.step(&batch.iter().map(entry).collect::<Vec<_>>(), Measures::NONE, &NO_CANCEL).unwrap();
            let after = copies();
            assert_eq!(after[0] - before[0], 1, "{output:?} of {} sequences", batch.len());
            // Results with tokens; logits; and queries now and then.
            let most = if output == StepOutput::Logits { 3 } else { 2 };
            assert!(after[1] - before[1] <= most, "{output:?} of {} sequences", batch.len());
        }
    }
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

/// A joined product is the products of each, to the bit; matrices that cannot be joined are not.
#[test]
fn joined_matrices_give_what_each_gives() {
    let _session = session();
    let device = Device::open(0).unwrap();
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    let matrices = Matrices::of(&model);
    let of = |name: &str| HostMatrix { matrix: matrices.get(&model, name).unwrap(), bias: None };
    let (gate, up, down) = (of("blk.0.ffn_gate.weight"), of("blk.0.ffn_up.weight"), of("blk.0.ffn_down.weight"));
    let (k, n, rows) = (gate.matrix.len, gate.matrix.num_rows, 3);
    let mut random = Random(5);
    let mut rounded: Vec<u8> = Vec::new();
    for _ in 0..rows {
        rounded.extend((0..k).map(|_| random.integer(127) as i8 as u8));
        rounded.extend(random.values(k / BLOCK * 2, 0.01).into_iter().flat_map(f32::to_le_bytes));
    }
    let f16s: Vec<half::f16> = random.values(rows * k, 1.0).into_iter().map(half::f16::from_f32).collect();
    let (rounded, f16s) = (DeviceBuffer::from_slice(&device, &rounded).unwrap(), DeviceBuffer::from_slice(&device, &f16s).unwrap());
    let activations = Outputs { rounded: rounded.span(), f16: f16s.span(), ..Outputs::NONE };
    let product = |matrix: &DeviceMatrix| {
        let out = DeviceBuffer::<f32>::new(&device, rows * matrix.n).unwrap();
        matrix.multiply(&device, &activations, out.span(), (rows, matrix.n)).unwrap();
        out.to_vec(&device).unwrap()
    };
    // What `Joined` makes of some: the number of products, and whether rows are those of each, side by side.
    let joined = |all: &[HostMatrix]| {
        let apart: Vec<Vec<f32>> = all.iter().map(|of| product(&DeviceMatrix::new(&device, of).unwrap())).collect();
        let width: usize = all.iter().map(|of| of.matrix.num_rows).sum();
        let out = DeviceBuffer::<f32>::new(&device, rows * width).unwrap();
        let joined = Joined::new(&device, all).unwrap();
        joined.multiply(&device, &activations, out.span(), rows).unwrap();
        for (row, joined) in out.to_vec(&device).unwrap().chunks_exact(width).enumerate() {
            let of_row: Vec<f32> =
                apart.iter().flat_map(|of| &of[row * of.len() / rows..(row + 1) * of.len() / rows]).copied().collect();
            assert_eq!(joined, of_row, "row {row}");
        }
        joined.matrices().len()
    };
    let file = TinyModel { kind: Q8_0, ..TinyModel::new("llama") }.write();
    let quantised_model = load(file.path());
    let quantised_matrices = Matrices::of(&quantised_model);
    let quantised = |name: &str| HostMatrix { matrix: quantised_matrices.get(&quantised_model, name).unwrap(), bias: None };
    let [query, key, value] = ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"];
    assert_eq!(joined(&[of(query), of(key), of(value)]), 1);
    assert_eq!(joined(&[quantised(query), quantised(key), quantised(value)]), 1);
    // As files of K-quants often have it.
    assert_eq!(joined(&[quantised(query), quantised(key), of(value)]), 2);
    assert_eq!(joined(&[quantised(query), of(key), quantised(value)]), 3);

    let both = [gate, up];
    let apart: Vec<Vec<f32>> = both.iter().map(|of| product(&DeviceMatrix::new(&device, of).unwrap())).collect();
    let joined = product(&DeviceMatrix::joined(&device, &both).unwrap().expect("alike"));
    for (row, joined) in joined.chunks_exact(2 * n).enumerate() {
        assert_eq!(joined[..n], apart[0][row * n..(row + 1) * n], "gate of row {row}");
        assert_eq!(joined[n..], apart[1][row * n..(row + 1) * n], "up of row {row}");
    }
    let [gate, _] = both;
    assert!(DeviceMatrix::joined(&device, &[gate, down]).unwrap().is_none(), "other rows");
}
