//! Models that only the CPU computes are refused before a device is asked for.
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine_suite::helpers::load;
use ctkvr_engine_suite::tiny_model::TinyModel;
use ctkvr_model::Error;

#[test]
fn what_a_device_has_no_kernels_for_is_named() {
    let without_windows = TinyModel { numbers: vec![], ..TinyModel::new("gemma3") };
    let partial = TinyModel { numbers: vec![("phi3.rope.dimension_count".into(), 48)], ..TinyModel::new("phi3") };
    for (tiny, feature) in [
        (TinyModel::new("gemma3"), "a sliding window"),
        (without_windows, "the GELU activation"),
        (TinyModel::new("smollm3"), "layers without rotary embedding"),
        (partial, "heads of which only a part is rotated"),
    ] {
        let file = tiny.write();
        match CudaExecutor::load(load(file.path()), CudaOptions::default(), &mut |_| ()).err() {
            Some(Error::InvalidOption { option, expected, .. }) => {
                assert_eq!(option, "device");
                assert!(expected.contains(feature), "{expected}");
            }
            other => panic!("{feature}: {other:?}"),
        }
    }
}
