//! The CPU side of the engine: a team of threads, and the attention of a step on it.

mod backend;
mod cpu_attention;
mod decode_schedule;
mod team;

pub use backend::{ATTENTION_PHASES, AttentionBackend, LayerAttention, LayerIo};
pub use cpu_attention::{CpuAttention, StoredHead};
pub use team::{Ahead, Job, Stopped, Team, Units};
