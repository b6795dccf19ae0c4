//! Exact attention over chosen rows: partial sums, decode steps, prompts.

pub mod alone;
pub mod attend;
pub mod counters;
pub mod decode;
pub mod merge;
pub mod partial;
pub mod prefill;
pub mod prefill_bf16;
pub mod prefill_item;
pub mod prefill_parts;
pub mod read_map;
pub mod stage_clock;
