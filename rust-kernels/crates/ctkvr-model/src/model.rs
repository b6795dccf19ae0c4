//! A loaded model: its shape, its weights and its tokenizer, shared by engines.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use ctkvr_core::{Kernels, PackedKernels};

use crate::error::Result;
use crate::gguf::Gguf;
use crate::model_info::ModelInfo;
use crate::rope::RopeOverrides;
use crate::spec::ModelSpec;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// How a model is loaded.
#[derive(Clone, Copy)]
pub struct LoadOptions {
    pub rope: RopeOverrides,
    /// Keep weights in the order that multiplies fastest (CPU_REPACK): faster, and their pages are this process's own memory.
    pub use_extra_buffers: bool,
    /// Use the other weights in place, from the file's mapping, which processes share; otherwise they are copied into huge pages, from
    /// which a step reads them faster.
    pub map_weights: bool,
    /// Kernels of products with weights in blocks of 32, which are then kept in those kernels' own order; `None` = ggml's products alone.
    pub packed: Option<&'static PackedKernels>,
}

impl Default for LoadOptions {
    /// As the file says; the fastest kernels of this CPU; extra buffers unless the environment variable CTKVR_EXTRA_BUFFERS is 0.
    fn default() -> Self {
        let use_extra_buffers = std::env::var_os("CTKVR_EXTRA_BUFFERS").is_none_or(|value| value != "0");
        let packed = Kernels::available().last().and_then(|kernels| kernels.packed);
        Self { rope: RopeOverrides::default(), use_extra_buffers, map_weights: false, packed }
    }
}

/// A model ready to run.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
    info: ModelInfo,
    tokenizer: Tokenizer,
    weights: Weights,
    // After the weights: they refer to its mapping.
    _gguf: Gguf,
}

impl Model {
    /// Opens, checks and loads a file. `progress` receives 0..1; setting `cancel` stops with `Cancelled`.
    ///
    /// # Errors
    /// Those of opening (`FileNotFound`, `FileUnreadable`, `NotGguf`, `CorruptGguf`), `UnsupportedModel` with the reason, `Cancelled`.
    pub fn load(path: &Path, options: LoadOptions, progress: &mut dyn FnMut(f32), cancel: &AtomicBool) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let spec = ModelSpec::read(&gguf, options.rope)?;
        let tokenizer = Tokenizer::load(&gguf, spec.vocab_size)?;
        let weights = Weights::load(&gguf, &spec, &options, progress, cancel)?;
        let info = ModelInfo::of(&gguf, &spec, &tokenizer);
        Ok(Self { spec, info, tokenizer, weights, _gguf: gguf })
    }

    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes of weights kept outside the file's mapping.
    pub fn copied_bytes(&self) -> u64 {
        self.weights.copied_bytes()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }
}
