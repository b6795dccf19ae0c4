//! GGUF models with CTkvr attention. ggml brings the GGUF reader, tokenizers, samplers, and products with the types of weights that have no
//! kernels of our own; this crate checks files before ggml sees them, describes the model families, and runs steps over several sequences.
//!
//! Not here: keys, values and how they are chosen (ctkvr-core), JavaScript (ctkvr-napi), policy (TypeScript).
//!
//! | module | holds |
//! |---|---|
//! | `gguf`, `mapped_file`, `split_file` | a checked, mapped file, and what its parts are called |
//! | `families`, `description` | what models of each family compute, and from which tensors: data only |
//! | `spec`, `metadata`, `tensors`, `rope`, `vocabulary_check` | what a model must look like to run |
//! | `weights`, `backends`, `packed_weight` | where weights live, in our own order or the file's |
//! | `linear`, `plan` | layers over those weights, and all of a model's in the order of their use |
//! | `step_job`, `step_buffers`, `executor` | one run through the layers, on a team of threads |
//! | `tokenizer`, `sampler`, `logs` | llama.cpp's, and what it says |
//! | `engine`, `step`, `step_plan`, `sequence_table` | steps over several sequences |
//! | `machine` | threads and memory this process may use |

mod backends;
mod description;
mod engine;
mod error;
mod executor;
mod families;
mod ggml_context;
mod gguf;
mod linear;
mod logs;
mod machine;
mod mapped_file;
mod metadata;
mod model;
mod model_info;
mod packed_weight;
mod plan;
mod rope;
mod sampler;
mod sequence_table;
mod spec;
mod split_file;
mod step;
mod step_buffers;
mod step_job;
mod step_plan;
mod tensors;
mod tokenizer;
mod vocabulary_check;
mod weights;

pub use backends::ggml_features;
pub use description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, LinearSpec, NormSpan, OutputSpec,
    QueryKeyNorms, RotarySpec, Sizes, VectorSpec,
};
pub use engine::{DEFAULT_PREFILL_CHUNK, Engine, EngineOptions};
pub use error::{Error, FieldValue, Result};
pub use machine::{ProcessMemory, available_memory_bytes, num_usable_threads, process_memory};
pub use model::{LoadOptions, Model};
pub use model_info::{ModelInfo, inspect};
pub use rope::{RopeOverrides, RopePairing, RopeScaling, RopeSettings};
pub use sampler::SamplerOptions;
pub use spec::ModelSpec;
pub use step::{SequenceResult, StepEntry, StepOutput, StepResult, StepTimings};
pub use tokenizer::{ControlToken, Tokenizer};
