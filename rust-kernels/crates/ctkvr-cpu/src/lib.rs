//! The CPU's executor: a model's layers and the attention of its rows as one job for a team of threads.
//!
//! | module | holds |
//! |---|---|
//! | `executor` | what an engine asks |
//! | `weights`, `linear` | where weights live, in our own order or the file's, and products with them |
//! | `plan`, `step_job`, `step_buffers` | all layers in the order of their use, and one run through them |
//! | `attention` | the attention of a step |
//!
//! The threads, and which of them does what next, are ctkvr-threads'.

pub mod attention;
mod executor;
mod linear;
mod plan;
mod step_buffers;
mod step_job;
mod weights;

pub use executor::{CpuExecutor, CpuOptions};
pub use weights::Loading;
