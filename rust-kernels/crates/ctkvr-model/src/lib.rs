//! GGUF models on ggml, with CTkvr attention in the graph. ggml brings the kernels, the GGUF reader, tokenizers and samplers; this crate
//! checks files before ggml sees them, describes the model families, and runs steps over several sequences.
//!
//! Not here: keys, values and how they are chosen (ctkvr-core), JavaScript (ctkvr-napi), policy (TypeScript).
//!
//! | module | holds |
//! |---|---|
//! | `gguf`, `mapped_file`, `split_file` | a checked, mapped file, and what its parts are called |
//! | `spec`, `tensors`, `rope`, `vocabulary_check` | what a model must look like to run |
//! | `weights`, `backends`, `compute` | ggml's device: where weights live, threads, running a graph |
//! | `packed_weight`, `packed_linear` | weights in our own order, and the nodes that multiply by them |
//! | `graph`, `graph_cache`, `attention_hook` | one graph for all families, our attention inside it |
//! | `tokenizer`, `sampler`, `logs` | llama.cpp's, and what it says |
//! | `engine`, `step`, `step_plan`, `sequence_table` | steps over several sequences |
//! | `machine` | threads and memory this process may use |

mod attention_hook;
mod backends;
mod compute;
mod engine;
mod error;
mod ggml_context;
mod gguf;
mod graph;
mod graph_cache;
mod joined_linear;
mod logs;
mod machine;
mod mapped_file;
mod model;
mod model_info;
mod packed_linear;
mod packed_weight;
mod rope;
mod sampler;
mod sequence_table;
mod spec;
mod split_file;
mod step;
mod step_plan;
mod tensors;
mod tokenizer;
mod vocabulary_check;
mod weights;

pub use backends::ggml_features;
pub use engine::{DEFAULT_PREFILL_CHUNK, Engine, EngineOptions};
pub use error::{Error, FieldValue, Result};
pub use machine::{ProcessMemory, available_memory_bytes, num_usable_threads, process_memory};
pub use model::{LoadOptions, Model};
pub use model_info::{ModelInfo, inspect};
pub use rope::{RopeOverrides, RopePairing, RopeScaling, RopeSettings};
pub use sampler::SamplerOptions;
pub use spec::{Architecture, ModelSpec};
pub use step::{SequenceResult, StepEntry, StepOutput, StepResult, StepTimings};
pub use tokenizer::{ControlToken, Tokenizer};
