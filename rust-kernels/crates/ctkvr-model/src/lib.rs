//! GGUF models: files are checked before ggml sees them, families described, text turned into tokens and logits into a choice. Executes
//! nothing: that is for executors, which read the descriptions here.
//!
//! Not here: keys, values and how they are chosen (ctkvr-core), steps and sequences (ctkvr-engine), JavaScript (ctkvr-napi).
//!
//! | module | holds |
//! |---|---|
//! | `gguf`, `mapped_file`, `split_file` | a checked, mapped file, and what its parts are called |
//! | `families`, `description` | what models of each family compute, and from which tensors: data only |
//! | `spec`, `metadata`, `tensors`, `rope`, `vocabulary_check` | what a model must look like to run |
//! | `weights`, `fingerprint` | what weights there are, and what tells them from other models' |
//! | `packed_weight`, `q6k_block`, `matrix` | weights in the order that products read, taken apart, and widened |
//! | `tokenizer`, `sampler`, `logs` | llama.cpp's, and what it says |
//! | `grammar` | which tokens an answer of a given form may go on with: llguidance's |
//! | `backends` | ggml's own kernels, loaded once a process |
//! | `machine` | threads and memory this process may use |

mod backends;
mod description;
mod error;
mod families;
mod fingerprint;
mod gguf;
mod grammar;
mod logs;
mod machine;
mod mapped_file;
mod matrix;
mod metadata;
mod model;
mod model_info;
mod packed_weight;
mod q6k_block;
mod rope;
mod sampler;
mod spec;
mod split_file;
mod tensors;
mod tokenizer;
mod vocabulary_check;
mod weights;

pub use backends::{CpuDevice, cpu_device, ggml_features};
pub use description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, LinearSpec, LocalSpec, NormSpan, OutputSpec,
    QueryKeyNorms, RopePairing, RotarySpec, RowsOf, Sizes, VectorSpec,
};
pub use error::{Error, FieldValue, Result};
pub use fingerprint::Fingerprint;
pub use gguf::TensorInfo;
pub use grammar::Grammar;
pub use machine::{MAX_THREADS, ProcessMemory, available_memory_bytes, num_usable_threads, process_memory};
pub use mapped_file::MappedFile;
pub use matrix::{Matrices, Matrix};
pub use model::Model;
pub use model_info::{ModelInfo, inspect};
pub use packed_weight::PackedShape;
pub use q6k_block::Q6kBlock;
pub use rope::{RopeOverrides, RopeScaling, RopeSettings, RotaryTable};
pub use sampler::{AnswerRules, Sampler, SamplerOptions, TokenBias, check_logits, logits_not_finite};
pub use spec::{ModelSpec, Turn};
pub use tensors::{TensorUse, layer_tensor};
pub use tokenizer::{ControlToken, Tokenizer};
pub use weights::Weight;
