//! Every kernel against a plain reference, through its launcher and the stand-in driver. One program: the tests take turns with the driver.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

mod argmax;
mod attend;
mod build_clusters;
mod build_lists;
mod built;
mod clusters;
mod device_builder;
mod join;
mod linear;
mod linear_f16;
mod linear_parts;
mod merge;
mod norm_round;
mod paged;
mod prefill_attend;
mod probe;
mod read_words;
mod retrieval;
mod rope_store;
mod score;
mod search;
mod select;
mod silu_round;
