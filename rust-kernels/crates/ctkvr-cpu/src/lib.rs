//! The CPU side of the engine: a team of threads, and the attention of a step on it.

mod backend;
mod cpu_attention;

pub use backend::{ATTENTION_PHASES, AttentionBackend, LayerAttention, LayerIo};
pub use cpu_attention::{CpuAttention, StoredHead};
pub use ctkvr_threads::{Ahead, Job, Stopped, Team, Units};
