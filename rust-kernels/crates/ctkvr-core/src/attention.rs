//! Exact attention over chosen rows: partial sums, decode steps, prompts.

pub mod decode;
pub mod given_candidates;
pub mod partial;
pub mod prefill;
pub mod prefill_bf16;
pub mod prefill_parts;
pub mod stage_clock;
