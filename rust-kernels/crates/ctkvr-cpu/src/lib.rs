//! The CPU's executor: a model's layers and the attention of its rows as one job for a team of threads.
//!
//! | module | holds |
//! |---|---|
//! | `executor` | what an engine asks |
//! | `weights`, `linear` | where weights live, in our own order or the file's, and products with them |
//! | `plan`, `step_job`, `step_buffers` | all layers in the order of their use, and one run through them |
//! | `attention`, `decode_schedule` | the attention of a step, and which thread does what of it next |
//! | `team` | the threads |

pub mod attention;
mod decode_schedule;
mod executor;
mod linear;
mod plan;
mod step_buffers;
mod step_job;
pub mod team;
mod weights;

pub use executor::{CpuExecutor, CpuOptions};
pub use weights::Loading;
