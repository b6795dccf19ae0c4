//! What a step computes, for the three families: norm, Q/K/V with optional bias, optional norm on Q and K, rotary embedding, attention,
//! output, gated feed-forward. Biases and norms are there when the weights are.

use ctkvr_kernels::Kernels;
use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::linear::{Joined, Linear};
use crate::model::Model;
use crate::rope::{RopePairing, RopeTurns};
use crate::spec::ModelSpec;
use crate::tensors::layer_tensor;
use crate::weights::{OUTPUT_KEY, Weights};

/// One layer's weights. Vectors of f32 live as long as the model.
pub(crate) struct Layer {
    pub attention_norm: *const f32,
    /// Queries, keys, values.
    pub qkv: Joined,
    /// Norms of heads of queries and of keys.
    pub head_norms: Option<[*const f32; 2]>,
    pub output: Joined,
    pub feed_forward_norm: *const f32,
    pub gate_and_up: Joined,
    pub down: Joined,
}

/// A model's weights in the order of their use. Refers to the model's, which must live longer.
pub(crate) struct Plan {
    pub layers: Vec<Layer>,
    pub output_norm: *const f32,
    pub logits: Joined,
    pub embedding: Embedding,
    pub turns: RopeTurns,
    /// Turns a head in place, [`ctkvr_kernels::Kernels::rotate_halves`] or its other form.
    pub rotate: unsafe fn(*mut f32, *const f32, *const f32, usize),
    pub kernels: &'static Kernels,
    /// Asks for weights before they are multiplied.
    pub ask: Option<unsafe fn(*const u8, usize)>,
}

// SAFETY: weights are only read.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

/// The rows of tokens.
pub(crate) struct Embedding {
    rows: *const u8,
    row_bytes: usize,
    len: usize,
    /// None: they are f32.
    to_float: sys::ggml_to_float_t,
}

impl Embedding {
    /// Writes a token's row.
    ///
    /// # Safety
    /// The token is in the vocabulary; `out` holds a row.
    pub unsafe fn write(&self, token: i32, out: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            let row = self.rows.add(token as usize * self.row_bytes);
            match self.to_float {
                Some(to_float) => to_float(row.cast(), out, self.len as i64),
                None => std::ptr::copy_nonoverlapping(row.cast(), out, self.len),
            }
        }
    }
}

impl Plan {
    /// The plan must not outlive the model.
    pub fn new(model: &Model) -> Result<Self> {
        let (spec, weights, kernels) = (model.spec(), model.weights(), model.kernels());
        let layers = (0..spec.num_layers).map(|layer| Layer::new(weights, kernels, layer)).collect::<Result<_>>()?;
        let factors = weights.vector("rope_freqs.weight");
        Ok(Self {
            layers,
            output_norm: vector(weights, "output_norm.weight")?,
            // Rows whose logits are wanted are few, and one arithmetic serves all.
            logits: Joined::new(vec![Linear::new(weights, kernels, OUTPUT_KEY, "output.bias")?]).without_tiles(),
            embedding: embedding(spec, weights)?,
            turns: RopeTurns::new(&spec.rope, spec.head_dim, factors),
            rotate: match spec.rope.pairing {
                RopePairing::Adjacent => kernels.rotate_adjacent,
                RopePairing::Halves => kernels.rotate_halves,
            },
            kernels,
            ask: weights.prefetch(),
        })
    }

    /// Every product there is.
    pub fn products(&self) -> impl Iterator<Item = &Joined> {
        self.layers.iter().flat_map(Layer::products).chain([&self.logits])
    }
}

impl Layer {
    fn new(weights: &Weights, kernels: &Kernels, layer: usize) -> Result<Self> {
        let norm = |name: &str| vector(weights, &layer_tensor(layer, name));
        let joined = |names: &[&str]| -> Result<Joined> {
            let linear = |name: &&str| {
                let named = |what: &str| layer_tensor(layer, &format!("{name}.{what}"));
                Linear::new(weights, kernels, &named("weight"), &named("bias"))
            };
            Ok(Joined::new(names.iter().map(linear).collect::<Result<_>>()?))
        };
        let has_head_norms = weights.get(&layer_tensor(layer, "attn_q_norm.weight")).is_some();
        Ok(Self {
            attention_norm: norm("attn_norm.weight")?,
            qkv: joined(&["attn_q", "attn_k", "attn_v"])?,
            head_norms: match has_head_norms {
                true => Some([norm("attn_q_norm.weight")?, norm("attn_k_norm.weight")?]),
                false => None,
            },
            output: joined(&["attn_output"])?,
            feed_forward_norm: norm("ffn_norm.weight")?,
            gate_and_up: joined(&["ffn_gate", "ffn_up"])?,
            down: joined(&["ffn_down"])?,
        })
    }
}

impl Layer {
    fn products(&self) -> [&Joined; 4] {
        [&self.qkv, &self.output, &self.gate_and_up, &self.down]
    }
}

fn vector(weights: &Weights, name: &str) -> Result<*const f32> {
    let missing = || Error::Internal { what: format!("the vector {name} was not placed") };
    weights.vector(name).map(<[f32]>::as_ptr).ok_or_else(missing)
}

fn embedding(spec: &ModelSpec, weights: &Weights) -> Result<Embedding> {
    let missing = || Error::Internal { what: "the embedding was not placed".into() };
    let tensor = weights.get("token_embd.weight").ok_or_else(missing)?;
    // SAFETY: an entry of a static table; the type was checked by ggml's reader.
    let to_float = unsafe { (*sys::ggml_get_type_traits(tensor.type_)).to_float };
    if to_float.is_none() && tensor.type_ != sys::GGML_TYPE_F32 {
        return Err(Error::Internal { what: format!("ggml cannot widen the embedding's type {}", tensor.type_) });
    }
    Ok(Embedding { rows: tensor.data.cast_const().cast(), row_bytes: tensor.nb[1], len: spec.embedding_len, to_float })
}
