//! A loaded model: its shape, its weights and its tokenizer, shared by engines.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use ctkvr_kernels::{Kernels, PackedKernels};

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
    /// Use the weights in place, from the file's mapping, which processes share; otherwise they are copied into huge pages, from which a step
    /// reads them faster.
    pub map_weights: bool,
    /// Of everything that a step does but attention.
    pub kernels: &'static Kernels,
    /// Kernels of products with weights in blocks of 32, which are then kept in those kernels' own order; `None` = ggml's products alone.
    pub packed: Option<&'static PackedKernels>,
}

impl LoadOptions {
    /// As the file says, with these kernels.
    pub fn with(kernels: &'static Kernels) -> Self {
        Self { rope: RopeOverrides::default(), map_weights: false, kernels, packed: kernels.packed }
    }
}

impl Default for LoadOptions {
    /// As the file says; the fastest kernels of this CPU.
    fn default() -> Self {
        let available = Kernels::available();
        Self::with(available[available.len() - 1])
    }
}

/// A model ready to run.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
    info: ModelInfo,
    tokenizer: Tokenizer,
    weights: Weights,
    kernels: &'static Kernels,
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
        Ok(Self { spec, info, tokenizer, weights, kernels: options.kernels, _gguf: gguf })
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

    pub(crate) fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }
}
