//! The engine's tests on the CPU's executor, and that executor beside the reference.
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::sync::Arc;

use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_engine::{Engine, Executor};
use ctkvr_engine_suite::helpers::{NO_CANCEL, alone, full_sequence, kl_divergence, load, logits};
use ctkvr_engine_suite::tiny_model::{TinyModel, VOCAB_SIZE};
use ctkvr_engine_suite::{Suite, same_bits, snapshots};
use ctkvr_kernels::Kernels;
use ctkvr_model::Model;
use ctkvr_reference::ReferenceExecutor;
use llama_cpp_sys_2 as sys;

fn executor(model: &Arc<Model>, options: CpuOptions) -> Box<dyn Executor> {
    let loading = Loading { progress: &mut |_| (), cancel: &NO_CANCEL };
    Box::new(CpuExecutor::load(Arc::clone(model), options, loading).unwrap())
}

fn fastest(model: &Arc<Model>, num_threads: usize) -> Box<dyn Executor> {
    executor(model, CpuOptions { num_threads, ..CpuOptions::default() })
}

ctkvr_engine_suite::engine_tests!(Suite { make: &fastest, skip: &[] });

#[test]
fn a_sequence_alone_is_the_same_on_all_kernels() {
    for kernels in Kernels::available() {
        let make = |model: &Arc<Model>, num_threads| executor(model, CpuOptions { num_threads, ..CpuOptions::with(kernels) });
        same_bits::a_sequence_alone_whole_and_on_one_thread_is_the_same(&Suite { make: &make, skip: &[] });
        same_bits::also_of_layers_with_windows_and_without_rotation(&Suite { make: &make, skip: &[] });
    }
}

#[test]
fn a_restored_sequence_of_layers_with_windows_goes_on_with_the_same_bits() {
    snapshots::also_where_layers_have_windows(&Suite { make: &fastest, skip: &[] });
    let reference =
        |model: &Arc<Model>, _: usize| -> Box<dyn Executor> { Box::new(ReferenceExecutor::new(Arc::clone(model)).unwrap()) };
    snapshots::also_where_layers_have_windows(&Suite { make: &reference, skip: &[] });
}

/// On one, 37 and 130 rows, and decodes behind them. Activations are rounded to 8 bits where weights are, by the CPU alone.
#[test]
fn distributions_are_the_references() {
    let _alone = alone();
    for (architecture, kind, limit) in [
        ("llama", sys::GGML_TYPE_F32, 1e-6),
        ("qwen2", sys::GGML_TYPE_F32, 1e-6),
        ("qwen3", sys::GGML_TYPE_F16, 1e-3),
        ("gemma3", sys::GGML_TYPE_F32, 1e-6),
        ("smollm3", sys::GGML_TYPE_F32, 1e-6),
        ("phi3", sys::GGML_TYPE_F32, 1e-6),
        ("phi3", sys::GGML_TYPE_Q4_K, 1e-2),
        ("llama", sys::GGML_TYPE_Q8_0, 1e-2),
        ("qwen3", sys::GGML_TYPE_Q4_K, 1e-2),
    ] {
        let file = TinyModel { kind, ..TinyModel::new(architecture) }.write();
        let model = load(file.path());
        let reference =
            Suite { make: &|model: &Arc<Model>, _: usize| Box::new(ReferenceExecutor::new(Arc::clone(model)).unwrap()), skip: &[] };
        let engines: [Engine; 2] = [reference.engine(&model, 1, 512), Suite { make: &fastest, skip: &[] }.engine(&model, 2, 64)];
        for len in [1, 37, 130] {
            let prompt: Vec<i32> = (0..len).map(|i| ((i * 7919 + i * i * 31) % VOCAB_SIZE) as i32).collect();
            let sequences = engines.each_ref().map(|engine| full_sequence(engine, 256));
            for tokens in [&prompt[..], &[7], &[9]] {
                let [expected, actual] = [0, 1].map(|i| logits(&engines[i], sequences[i], tokens));
                let divergence = kl_divergence(&expected, &actual);
                assert!(divergence < limit, "{architecture}, type {kind}, {len} tokens: KL {divergence}");
            }
        }
    }
}
