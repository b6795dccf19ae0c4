//! The shape of a model, read from a GGUF and checked against its tensors. Whatever is not exactly one of the families is refused
//! with the reason, before any weight is loaded and before llama.cpp's loader (which aborts on some inputs) sees the file.

use ctkvr_core::AttentionShape;
use ctkvr_kernels::MAX_HEAD_DIM;
use llama_cpp_sys_2 as sys;

use crate::description::{Description, Sizes};
use crate::error::{Error, Result};
use crate::families::Family;
use crate::gguf::Gguf;
use crate::metadata::Metadata;
use crate::rope::{RopeOverrides, RopeSettings, RotaryTable};
use crate::split_file::merge_command;
use crate::tensors::{TensorSpec, expected_tensors};

/// As many as llama.cpp's fixed arrays hold.
const MAX_LAYERS: u64 = 512;
/// The largest vocabularies have some 260,000 tokens; 32-bit products of rows and width must not overflow.
const MAX_VOCAB: u64 = 1 << 22;
/// Larger than any model that fits a machine.
const MAX_WIDTH: u64 = 1 << 20;

/// Which of a model's rotary embeddings a layer has: the place of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Usual = 0,
    /// That of local layers.
    Local = 1,
}

/// Everything that an executor needs to know of a model but its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// As in GGUF.
    pub family: &'static str,
    pub num_layers: usize,
    pub num_q_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub embedding_len: usize,
    pub feed_forward_len: usize,
    pub vocab_size: usize,
    /// Tokens the model was trained for.
    pub trained_context: usize,
    pub rms_epsilon: f32,
    pub rope: RopeSettings,
    /// Values of a head that turn, the first ones.
    pub rotary_dims: usize,
    pub description: Description,
}

impl ModelSpec {
    /// Reads and checks a model's shape.
    ///
    /// # Errors
    /// `UnsupportedModel` with the reason: another architecture, experts, a missing or unknown tensor, a wrong shape or type.
    pub(crate) fn read(gguf: &Gguf, overrides: RopeOverrides) -> Result<Self> {
        let spec = Self::read_numbers(gguf, overrides)
            .and_then(|spec| spec.check_tensors(gguf).map(|()| spec))
            .map_err(|reason| Error::UnsupportedModel { path: gguf.path().into(), reason })?;
        Ok(spec)
    }

    /// Sizes as the attention side wants them.
    pub fn attention_shape(&self) -> AttentionShape {
        AttentionShape {
            num_layers: self.num_layers,
            num_q_heads: self.num_q_heads,
            num_kv_heads: self.num_kv_heads,
            head_dim: self.head_dim,
            local: self.description.local.map(|local| local.layers),
        }
    }

    /// What turns a layer's queries and keys; `None` where nothing does.
    pub fn turn(&self, layer: usize) -> Option<Turn> {
        if self.attention_shape().window(layer).is_some() {
            return Some(Turn::Local);
        }
        let is_unrotated = self.description.rotary.unrotated_period.is_some_and(|period| (layer + 1).is_multiple_of(period));
        (!is_unrotated).then_some(Turn::Usual)
    }

    /// Cosines and sines of each [`Turn`] that the model has, in their order; `factors` are those of the description's rotary embedding.
    pub fn rotary_tables(&self, factors: Option<&[f32]>) -> Vec<RotaryTable> {
        let local = self.description.local.map(|local| RopeSettings { freq_base: local.freq_base, freq_scale: 1.0, ..self.rope });
        let usual = RotaryTable::new(&self.rope, self.rotary_dims, factors);
        std::iter::once(usual).chain(local.map(|rope| RotaryTable::new(&rope, self.rotary_dims, None))).collect()
    }

    fn read_numbers(gguf: &Gguf, overrides: RopeOverrides) -> std::result::Result<Self, String> {
        let named = gguf.text("general.architecture").ok_or("general.architecture is missing")?;
        let family = Family::named(&named)
            .ok_or_else(|| format!("its architecture is {named:?}; those that run are {}", Family::all_names()))?;
        let file = Metadata { gguf, family: family.name };
        if gguf.unsigned("split.count").is_some_and(|count| count > 1) {
            return Err(format!("it is one part of a split model; merge the parts: {}", merge_command(gguf.path())));
        }
        for name in ["expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count"] {
            file.refuse(name, "is a mixture of experts")?;
        }
        if file.flag("attention.causal") == Some(false) {
            return Err("its attention is not causal: it is an embedding model".into());
        }
        let num_layers = file.size("block_count", MAX_LAYERS)?;
        let embedding_len = file.size("embedding_length", MAX_WIDTH)?;
        let num_q_heads = file.size("attention.head_count", MAX_WIDTH)?;
        let num_kv_heads = match file.has("attention.head_count_kv") {
            true => file.size("attention.head_count_kv", MAX_WIDTH)?,
            false => num_q_heads,
        };
        if !num_q_heads.is_multiple_of(num_kv_heads) {
            return Err(format!("{num_q_heads} query heads cannot share {num_kv_heads} KV heads evenly"));
        }
        let head_dim = match file.has("attention.key_length") {
            true => file.size("attention.key_length", MAX_WIDTH)?,
            false => embedding_len / num_q_heads,
        };
        let must_be_whole = |name: &str| match file.has(name) && file.unsigned(name) != Some(head_dim as u64) {
            true => Err(format!("{} must equal the head length {head_dim}, got {:?}", file.key(name), file.unsigned(name))),
            false => Ok(()),
        };
        must_be_whole("attention.value_length")?;
        if !head_dim.is_multiple_of(8) || head_dim == 0 || head_dim > MAX_HEAD_DIM {
            return Err(format!("heads of length {head_dim} do not run: it must be a multiple of 8 up to {MAX_HEAD_DIM}"));
        }
        let rms_epsilon = file
            .float("attention.layer_norm_rms_epsilon")
            .filter(|epsilon| epsilon.is_finite() && *epsilon > 0.0)
            .ok_or_else(|| format!("{} is missing or not positive", file.key("attention.layer_norm_rms_epsilon")))?;
        let trained_context = file.size("context_length", u32::MAX.into())?;
        let embedding = gguf.tensor("token_embd.weight").ok_or("the tensor token_embd.weight is missing")?;
        let vocab_size = u64::try_from(embedding.shape[1])
            .ok()
            .filter(|rows| (1..=MAX_VOCAB).contains(rows))
            .ok_or_else(|| format!("token_embd.weight has {} rows; 1 to {MAX_VOCAB} run", embedding.shape[1]))?;
        let feed_forward_len = file.size("feed_forward_length", MAX_WIDTH)?;
        let sizes = Sizes {
            width: embedding_len,
            head: head_dim,
            queries: head_dim * num_q_heads,
            keys: head_dim * num_kv_heads,
            hidden: feed_forward_len,
            vocab: vocab_size as usize,
        };
        let description = (family.describe)(&sizes, &file)?;
        let mut rotary_dims = head_dim;
        if !description.rotary.may_be_partial {
            must_be_whole("rope.dimension_count")?;
        } else if file.has("rope.dimension_count") {
            rotary_dims = file.size("rope.dimension_count", head_dim as u64)?;
            if !rotary_dims.is_multiple_of(2) {
                return Err(format!("{} must be even, got {rotary_dims}", file.key("rope.dimension_count")));
            }
        }
        let scale = file.float("attention.scale").unwrap_or(0.0);
        let is_usual = scale == 0.0 || (scale * (head_dim as f32).sqrt() - 1.0).abs() <= 1e-3;
        if description.layer.attention.score_scale.is_none() && !is_usual {
            return Err(format!("its attention scale {scale} is not 1/sqrt({head_dim})"));
        }
        Ok(Self {
            family: family.name,
            num_layers,
            num_q_heads,
            num_kv_heads,
            head_dim,
            embedding_len,
            feed_forward_len,
            vocab_size: vocab_size as usize,
            trained_context,
            rms_epsilon,
            rope: RopeSettings::read(&file, &description.rotary, trained_context as u32, overrides)?,
            rotary_dims,
            description,
        })
    }

    fn check_tensors(&self, gguf: &Gguf) -> std::result::Result<(), String> {
        let expected = expected_tensors(&self.description, self.num_layers);
        for tensor in &expected {
            check_tensor(gguf, tensor)?;
        }
        let known: std::collections::HashSet<&str> = expected.iter().map(|tensor| tensor.stored.as_str()).collect();
        match gguf.tensors().iter().find(|tensor| !known.contains(tensor.name.as_str())) {
            Some(unknown) => Err(format!("the tensor {} is not part of a {} model", unknown.name, self.family)),
            None => Ok(()),
        }
    }
}

fn check_tensor(gguf: &Gguf, expected: &TensorSpec) -> std::result::Result<(), String> {
    let Some(found) = gguf.tensor(&expected.stored) else {
        return if expected.required { Err(format!("the tensor {} is missing", expected.stored)) } else { Ok(()) };
    };
    let [rows, columns, rest @ ..] = found.shape;
    if [rows, columns] != expected.shape || rest != [1, 1] {
        return Err(format!("the tensor {} must have the shape {:?}, got {:?}", expected.stored, expected.shape, found.shape));
    }
    // SAFETY: the type was checked by ggml's reader.
    let quantised = unsafe { sys::ggml_is_quantized(found.kind) };
    let runs = match expected.is_matrix() {
        true => quantised || [sys::GGML_TYPE_F32, sys::GGML_TYPE_F16, sys::GGML_TYPE_BF16].contains(&found.kind),
        false => found.kind == sys::GGML_TYPE_F32,
    };
    if runs {
        Ok(())
    } else {
        Err(format!("the tensor {} has the type {}, which does not run there", expected.stored, found.kind_name()))
    }
}
