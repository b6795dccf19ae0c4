//! Translation of the engine to JavaScript, and nothing else: no maths, no policy. The shape of what is exported is
//! packages/native/src/binding.ts; errors cross as the JSON of `error`.
//!
//! | module | holds |
//! |---|---|
//! | `build_info`, `kernels` | what this build and this machine can do, and what of it this process may use |
//! | `load_model`, `model`, `sequence`, `step` | a model, its sequences, steps over them |
//! | `memory_need` | what a context needs |
//! | `engine_host` | the thread the engine runs on, and what may happen while it is busy |
//! | `slot` | a sequence as JavaScript sees it |
//! | `centroid_index` | one KV head on plain arrays |
//! | `rope`, `query_statistics` | rotary embedding and the similarity of rotated queries, on plain arrays |
//! | `error`, `deferred` | errors and promises |
//! | `options`, `counters`, `model_info`, `position_range` | plain data |

#![cfg_attr(test, allow(dead_code, reason = "napi leaves the exports out of test builds, and lints check those too"))]

mod build_info;
mod centroid_index;
mod centroid_index_objects;
mod counters;
mod deferred;
mod devices;
mod engine_host;
mod error;
mod grammar;
mod kernels;
mod load_model;
mod memory_need;
mod model;
mod model_info;
mod options;
mod position_range;
mod query_statistics;
mod restored_sequence;
mod rope;
mod sequence;
mod slot;
mod snapshot;
mod step;
