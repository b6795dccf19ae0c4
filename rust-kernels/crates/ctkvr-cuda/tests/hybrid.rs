//! The engine's tests where layers keep their keys and values in host memory: the device searches, the host scores and attends to what is
//! found, and the device merges.

use std::sync::Arc;

use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine::Executor;
use ctkvr_engine_suite::{NO_READ_MAP, Suite};
use ctkvr_model::Model;

fn executor(model: &Arc<Model>, num_threads: usize, hybrid_layers: usize) -> Box<dyn Executor> {
    ctkvr_cuda::stand_in::load();
    let options = CudaOptions { num_threads, hybrid_layers, ..CudaOptions::default() };
    Box::new(CudaExecutor::load(Arc::clone(model), options, &mut |_| ()).expect("a checked model"))
}

/// Every layer.
mod all_layers {
    ctkvr_engine_suite::engine_tests!(super::Suite {
        make: &|model, threads| super::executor(model, threads, 2),
        skip: &[super::NO_READ_MAP]
    });
}

/// One layer on the device, one in host memory.
mod some_layers {
    ctkvr_engine_suite::engine_tests!(super::Suite {
        make: &|model, threads| super::executor(model, threads, 1),
        skip: &[super::NO_READ_MAP]
    });
}
