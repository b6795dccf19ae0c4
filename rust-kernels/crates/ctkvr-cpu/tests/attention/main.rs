//! The attention of steps as the CPU's executor runs it, without a model. One program: each links ggml.

mod common;
mod kv_budget;
mod kv_formats;
mod memory_need;
mod prompt_bits;
mod same_bits;
mod selectors;
