//! Threads that do the work of a step together, and which piece of it a thread does next. Nothing here knows what the work is.
//!
//! Every interleaving of small cases is tried by a model checker (loom): `model_tests.rs`.

mod decode_schedule;
#[cfg(all(test, loom))]
mod model_tests;
mod sync;
mod team;

pub use decode_schedule::{DecodeSchedule, Item, Stage, Taken};
pub use team::{Ahead, Job, Stopped, Team, Units};
