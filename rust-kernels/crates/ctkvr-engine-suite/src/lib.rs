//! What every executor is tested with: the engine's tests, on small models of random weights that need no download. For tests only.
//!
//! An executor's crate has them as tests of its own with [`engine_tests`]:
//!
//! ```ignore
//! ctkvr_engine_suite::engine_tests!(Suite { make: &|model, num_threads| ..., skip: &[] });
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

pub mod engine;
pub mod executor;
pub mod helpers;
pub mod llama_reference;
pub mod same_bits;
pub mod side_by_side;
pub mod snapshots;
mod suite;
pub mod tiny_model;
pub mod widened_model;

pub use suite::{Make, NO_READ_MAP, Skip, Suite};
