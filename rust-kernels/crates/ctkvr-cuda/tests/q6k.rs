//! Q6_K from the model's file to products and answers: strips that only the device has.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::sync::Arc;

use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_cuda::launch::outputs::Outputs;
use ctkvr_cuda::matrix::{DeviceMatrix, HostMatrix};
use ctkvr_cuda::stand_in::session;
use ctkvr_cuda::{CudaExecutor, CudaOptions, Device, DeviceBuffer};
use ctkvr_engine::{Engine, EngineOptions, Executor};
use ctkvr_engine_suite::helpers::{NO_CANCEL, full_sequence, kl_divergence, load, logits};
use ctkvr_engine_suite::tiny_model::{TinyModel, VOCAB_SIZE};
use ctkvr_engine_suite::widened_model::widen;
use ctkvr_kernels::BLOCK;
use ctkvr_kernels::testing::Random;
use ctkvr_model::{Matrices, Matrix, Model};
use llama_cpp_sys_2 as sys;

fn tiny() -> TinyModel {
    TinyModel { kind: sys::GGML_TYPE_Q6_K, ..TinyModel::new("llama") }
}

/// Drawn rows of k activations: their bytes, and what they stand for, f64 `[rows, k]`. Without mins nobody reads sums.
fn drawn(rows: usize, k: usize, random: &mut Random) -> (Vec<u8>, Vec<f64>) {
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let codes: Vec<i8> = (0..k).map(|_| random.integer(127) as i8).collect();
        let scales = random.values(k / BLOCK, 0.01);
        values.extend(codes.iter().enumerate().map(|(i, code)| f64::from(*code) * f64::from(scales[i / BLOCK])));
        bytes.extend(codes.iter().map(|code| *code as u8));
        bytes.extend(scales.iter().chain(&vec![f32::NAN; k / BLOCK]).flat_map(|x| x.to_le_bytes()));
    }
    (bytes, values)
}

/// Products with the file's weights as ggml widens them: alone, and as one with another matrix.
#[test]
fn a_matrix_of_the_file_is_multiplied_as_it_is() {
    const ROWS: usize = 3;
    let _session = session();
    let device = Device::open(0).unwrap();
    let file = tiny().write();
    let model = load(file.path());
    let matrices = Matrices::of(&model);
    let of = |name: &str| matrices.get(&model, name).unwrap();
    let names = ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.1.ffn_down.weight"];
    let check = |on_device: &DeviceMatrix, all: &[HostMatrix], what: &str| {
        let (k, n) = (on_device.k, on_device.n);
        let (bytes, values) = drawn(ROWS, k, &mut Random(5));
        let activations = DeviceBuffer::from_slice(&device, &bytes).unwrap();
        let room = Outputs { rounded: activations.span(), ..Outputs::NONE };
        let out = DeviceBuffer::<f32>::new(&device, ROWS * n).unwrap();
        on_device.multiply(&device, &room, out.span(), (ROWS, n)).unwrap();
        let widened: Vec<Vec<f32>> = all.iter().flat_map(|of| (0..of.matrix.num_rows).map(|r| of.matrix.row(r))).collect();
        assert_eq!(widened.len(), n);
        for (i, out) in out.to_vec(&device).unwrap().chunks_exact(n).enumerate() {
            for (r, (actual, weights)) in out.iter().zip(&widened).enumerate() {
                let products = weights.iter().zip(&values[i * k..]).map(|(w, x)| f64::from(*w) * x);
                let (sum, magnitude) = products.fold((0.0, 0.0), |(sum, all), x| (sum + x, all + x.abs()));
                // As tests/kernels/linear.rs counts them, and one of ggml's for each weight.
                let roundings = 1 + 2 * (k / BLOCK).div_ceil(4) + 3 + 1;
                let budget = 1.01 * roundings as f64 * f64::from(f32::EPSILON) / 2.0 * magnitude;
                let error = (f64::from(*actual) - sum).abs();
                assert!(error <= budget, "{what}: row {i}, output {r}: {actual}, not {sum}: {error:e} > {budget:e}");
            }
        }
    };
    let alone = |of: HostMatrix, what: &str| check(&DeviceMatrix::new(&device, &of).unwrap(), &[of], what);
    for name in names {
        alone(HostMatrix { matrix: of(name), bias: None }, name);
    }
    let Matrix { info, bytes, num_rows, len } = of(names[0]);
    let part = Matrix { info, bytes: &bytes[..37 * (bytes.len() / num_rows)], num_rows: 37, len };
    alone(HostMatrix { matrix: part, bias: None }, "a part of a strip");
    let both = [names[0], names[1]].map(|name| HostMatrix { matrix: of(name), bias: None });
    check(&DeviceMatrix::joined(&device, &both).unwrap().expect("alike"), &both, "joined");
}

fn engine(model: &Arc<Model>, executor: Box<dyn Executor>) -> Engine {
    Engine::new(Arc::clone(model), executor, EngineOptions { prefill_chunk: 64 }).unwrap()
}

/// Both sides round activations to 8 bits: the device in blocks of 32, ggml's products of Q6_K in blocks of 256. The same model with its weights in
/// f16 rounds none; from its distributions the device's are, on the mean, no
/// farther than the CPU's (measured: .0028 and .0054).
#[test]
fn answers_are_as_near_as_the_cpus() {
    let _session = session();
    let file = TinyModel { tied: false, ..tiny() }.write();
    let widened = widen(file.path());
    let (model, unrounded) = (load(file.path()), load(widened.path()));
    let on_device = CudaExecutor::load(Arc::clone(&model), CudaOptions::default(), &mut |_| ()).unwrap();
    let on_cpu = |model: &Arc<Model>| {
        let loading = Loading { progress: &mut |_| (), cancel: &NO_CANCEL };
        Box::new(CpuExecutor::load(Arc::clone(model), CpuOptions::default(), loading).unwrap())
    };
    let reference = engine(&unrounded, on_cpu(&unrounded));
    let engines = [engine(&model, Box::new(on_device)), engine(&model, on_cpu(&model))];
    let sequences = engines.each_ref().map(|engine| full_sequence(engine, 256));
    let of_reference = full_sequence(&reference, 256);
    let text: Vec<i32> = (0..130).map(|i: usize| ((i * 7919 + i * i * 31) % VOCAB_SIZE) as i32).collect();
    // A prompt is products of many rows, each token behind it of one.
    let (prompt, behind) = text.split_at(90);
    let mut sums = [0.0; 2];
    for tokens in std::iter::once(prompt).chain(behind.chunks(1)) {
        let expected = logits(&reference, of_reference, tokens);
        for ((sum, engine), sequence) in sums.iter_mut().zip(&engines).zip(sequences) {
            *sum += kl_divergence(&expected, &logits(engine, sequence, tokens));
        }
    }
    let [device, cpu] = sums.map(|sum| sum / (1 + behind.len()) as f64);
    assert!(device <= cpu, "mean KLs of {device:e} and, on the CPU, {cpu:e}");
}
