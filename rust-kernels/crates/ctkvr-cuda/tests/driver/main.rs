//! The ground that kernels stand on, and the stand-in that they are tested with.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

mod failures;
mod fill;
mod foundation;
mod kv_pool;
mod shim;
