//! Sequences and steps over them: which rows go through a model together, when indexes are built, grown and repaired, what is sampled.
//! The computing is an [`Executor`]'s.
//!
//! | module | holds |
//! |---|---|
//! | `engine` | what callers use: sequences, steps, builds |
//! | `engine/snapshots`, `atomic_file` | sequences saved to files and restored |
//! | `step` | what goes into a step and what comes out |
//! | `sequence_table` | all sequences, and their loan to the operation that runs |
//! | `batch_plan`, `step_run` | a step cut into batches, and their way through an executor |
//! | `executor`, `batch` | the seam: what an executor is asked, and what it may change |

mod atomic_file;
mod batch;
mod batch_plan;
mod engine;
mod executor;
mod sequence_table;
mod step;
mod step_run;

pub use batch::{Batch, BatchOutput, BatchRows, NewRows, SequenceOutput};
pub use ctkvr_model::{Error, Result};
pub use engine::{DEFAULT_PREFILL_CHUNK, Engine, EngineOptions, RestoredSequence};
pub use executor::{Capabilities, Executor};
pub use step::{Measures, SequenceResult, StepEntry, StepOutput, StepResult, StepTimings};
