//! The attention of a step's rows on a team's threads: part of the job that a step is.

mod decode;
mod layer_io;
mod memory;
mod prefill;
mod step;

pub use layer_io::LayerIo;
pub use memory::AttentionMemory;
pub use step::{ATTENTION_PHASES, AttentionStep};
