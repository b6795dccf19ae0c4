//! The engine's tests on the device's executor, with the stand-in for a driver.

use std::sync::Arc;

use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine_suite::{NO_READ_MAP, Suite};

ctkvr_engine_suite::engine_tests!(Suite {
    make: &|model, num_threads| {
        ctkvr_cuda::stand_in::load();
        let options = CudaOptions { num_threads, ..CudaOptions::default() };
        Box::new(CudaExecutor::load(Arc::clone(model), options, &mut |_| ()).expect("a checked model"))
    },
    skip: &[NO_READ_MAP],
});
