//! What a file says about itself, for people and for planning; also for files that cannot be run.

use std::path::{Path, PathBuf};

use ctkvr_core::LocalLayers;
use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::rope::RopeOverrides;
use crate::spec::ModelSpec;
use crate::tokenizer::{ControlToken, Tokenizer};

/// Counterpart of NativeModelInfo in packages/native/src/binding.ts; numbers that an unsupported file does not give are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    pub path: PathBuf,
    pub name: Option<String>,
    pub architecture: String,
    /// `None` when the model runs.
    pub unsupported_reason: Option<String>,
    pub size_bytes: u64,
    pub num_parameters: u64,
    /// Such as `Q4_K_M`.
    pub quantisation: String,
    pub num_layers: usize,
    pub num_q_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub embedding_len: usize,
    pub vocab_size: usize,
    pub trained_context: usize,
    /// Layers with a sliding window, where there are some.
    pub local_layers: Option<LocalLayers>,
    pub rope_freq_base: f32,
    pub rope_scaling: String,
    /// f16 keys and values of one token, all layers.
    pub kv_bytes_per_token: usize,
    pub chat_template: Option<String>,
    pub bos_token_id: Option<i32>,
    pub add_bos: bool,
    pub eos_token_id: Option<i32>,
    /// Ascending.
    pub end_of_generation_token_ids: Vec<i32>,
    /// Longest text first.
    pub control_tokens: Vec<ControlToken>,
}

/// Opens and checks a file without loading weights. A file that is sound but cannot be run is not an error: see
/// [`ModelInfo::unsupported_reason`].
pub fn inspect(path: &Path) -> Result<ModelInfo> {
    let gguf = Gguf::open(path)?;
    let supported =
        ModelSpec::read(&gguf, RopeOverrides::default()).and_then(|spec| Ok((Tokenizer::load(&gguf, spec.vocab_size)?, spec)));
    match supported {
        Ok((tokenizer, spec)) => Ok(ModelInfo::of(&gguf, &spec, &tokenizer)),
        Err(Error::UnsupportedModel { reason, .. }) => Ok(ModelInfo::of_unsupported(&gguf, reason)),
        Err(error) => Err(error),
    }
}

impl ModelInfo {
    pub(crate) fn of(gguf: &Gguf, spec: &ModelSpec, tokenizer: &Tokenizer) -> Self {
        Self {
            unsupported_reason: None,
            num_layers: spec.num_layers,
            num_q_heads: spec.num_q_heads,
            num_kv_heads: spec.num_kv_heads,
            head_dim: spec.head_dim,
            embedding_len: spec.embedding_len,
            vocab_size: spec.vocab_size,
            trained_context: spec.trained_context,
            local_layers: spec.attention_shape().local,
            rope_freq_base: spec.rope.freq_base,
            rope_scaling: spec.rope.scaling.name().into(),
            kv_bytes_per_token: spec.attention_shape().kv_bytes_per_token(),
            bos_token_id: tokenizer.bos(),
            add_bos: tokenizer.add_bos(),
            eos_token_id: tokenizer.eos(),
            end_of_generation_token_ids: tokenizer.end_of_generation().to_vec(),
            control_tokens: tokenizer.control_tokens().to_vec(),
            ..Self::of_unsupported(gguf, String::new())
        }
    }

    fn of_unsupported(gguf: &Gguf, reason: String) -> Self {
        let architecture = gguf.text("general.architecture").unwrap_or_default();
        let number = |name: &str| gguf.unsigned(&format!("{architecture}.{name}")).unwrap_or(0) as usize;
        let token = |name: &str| gguf.unsigned(&format!("tokenizer.ggml.{name}")).and_then(|id| i32::try_from(id).ok());
        let embedding_len = number("embedding_length");
        let num_q_heads = number("attention.head_count");
        Self {
            path: gguf.path().into(),
            name: gguf.text("general.name"),
            unsupported_reason: Some(reason),
            size_bytes: gguf.file().len() as u64,
            num_parameters: gguf.tensors().iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.num_elements())),
            quantisation: quantisation(gguf),
            num_layers: number("block_count"),
            num_q_heads,
            num_kv_heads: number("attention.head_count_kv"),
            head_dim: embedding_len.checked_div(num_q_heads).unwrap_or(0),
            embedding_len,
            vocab_size: gguf.texts("tokenizer.ggml.tokens").map_or(0, |tokens| tokens.len()),
            trained_context: number("context_length"),
            local_layers: None,
            rope_freq_base: gguf.float(&format!("{architecture}.rope.freq_base")).unwrap_or(0.0),
            rope_scaling: gguf.text(&format!("{architecture}.rope.scaling.type")).unwrap_or_else(|| "none".into()),
            kv_bytes_per_token: 0,
            chat_template: gguf.text("tokenizer.chat_template"),
            bos_token_id: token("bos_token_id"),
            add_bos: gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(false),
            eos_token_id: token("eos_token_id"),
            end_of_generation_token_ids: Vec::new(),
            control_tokens: Vec::new(),
            architecture,
        }
    }
}

/// The recipe that the file names, otherwise the type that holds most of its weights.
fn quantisation(gguf: &Gguf) -> String {
    let named = gguf.unsigned("general.file_type").and_then(|kind| u32::try_from(kind).ok()).and_then(file_type_name);
    if let Some(name) = named {
        return name.into();
    }
    let mut by_type: Vec<(String, usize)> = Vec::new();
    for tensor in gguf.tensors() {
        match by_type.iter_mut().find(|(name, _)| *name == tensor.kind_name()) {
            Some((_, bytes)) => *bytes = bytes.saturating_add(tensor.size_bytes),
            None => by_type.push((tensor.kind_name(), tensor.size_bytes)),
        }
    }
    by_type.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("unknown".into(), |(name, _)| name.to_uppercase())
}

fn file_type_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        sys::LLAMA_FTYPE_ALL_F32 => "F32",
        sys::LLAMA_FTYPE_MOSTLY_F16 => "F16",
        sys::LLAMA_FTYPE_MOSTLY_BF16 => "BF16",
        sys::LLAMA_FTYPE_MOSTLY_Q4_0 => "Q4_0",
        sys::LLAMA_FTYPE_MOSTLY_Q4_1 => "Q4_1",
        sys::LLAMA_FTYPE_MOSTLY_Q5_0 => "Q5_0",
        sys::LLAMA_FTYPE_MOSTLY_Q5_1 => "Q5_1",
        sys::LLAMA_FTYPE_MOSTLY_Q8_0 => "Q8_0",
        sys::LLAMA_FTYPE_MOSTLY_Q2_K => "Q2_K",
        sys::LLAMA_FTYPE_MOSTLY_Q2_K_S => "Q2_K_S",
        sys::LLAMA_FTYPE_MOSTLY_Q3_K_S => "Q3_K_S",
        sys::LLAMA_FTYPE_MOSTLY_Q3_K_M => "Q3_K_M",
        sys::LLAMA_FTYPE_MOSTLY_Q3_K_L => "Q3_K_L",
        sys::LLAMA_FTYPE_MOSTLY_Q4_K_S => "Q4_K_S",
        sys::LLAMA_FTYPE_MOSTLY_Q4_K_M => "Q4_K_M",
        sys::LLAMA_FTYPE_MOSTLY_Q5_K_S => "Q5_K_S",
        sys::LLAMA_FTYPE_MOSTLY_Q5_K_M => "Q5_K_M",
        sys::LLAMA_FTYPE_MOSTLY_Q6_K => "Q6_K",
        sys::LLAMA_FTYPE_MOSTLY_IQ1_S => "IQ1_S",
        sys::LLAMA_FTYPE_MOSTLY_IQ1_M => "IQ1_M",
        sys::LLAMA_FTYPE_MOSTLY_IQ2_XXS => "IQ2_XXS",
        sys::LLAMA_FTYPE_MOSTLY_IQ2_XS => "IQ2_XS",
        sys::LLAMA_FTYPE_MOSTLY_IQ2_S => "IQ2_S",
        sys::LLAMA_FTYPE_MOSTLY_IQ2_M => "IQ2_M",
        sys::LLAMA_FTYPE_MOSTLY_IQ3_XXS => "IQ3_XXS",
        sys::LLAMA_FTYPE_MOSTLY_IQ3_XS => "IQ3_XS",
        sys::LLAMA_FTYPE_MOSTLY_IQ3_S => "IQ3_S",
        sys::LLAMA_FTYPE_MOSTLY_IQ3_M => "IQ3_M",
        sys::LLAMA_FTYPE_MOSTLY_IQ4_NL => "IQ4_NL",
        sys::LLAMA_FTYPE_MOSTLY_IQ4_XS => "IQ4_XS",
        _ => return None,
    })
}
