//! A model's description ([`ctkvr_model::Description`]) in the form that a step runs: with its weights, and with the products joined that take the same
//! input. A product adds its result to the hidden state by itself unless the description wants something done with it before.

use ctkvr_kernels::Kernels;
use ctkvr_model::{
    Activation, Description, Error, LayerSpec, LinearSpec, Model, ModelSpec, NormSpan, Result, RopePairing, RotaryTable,
    VectorSpec, layer_tensor,
};
use llama_cpp_sys_2 as sys;

use crate::linear::{Joined, Linear};
use crate::weights::Weights;

/// One layer's weights. Vectors of f32 live as long as the model.
pub(crate) struct Layer {
    /// Which of the plan's rotary tables turns its queries and keys; `None`: none does.
    pub turn: Option<usize>,
    pub attention_norm: Option<*const f32>,
    /// Queries, keys, values.
    pub qkv: Joined,
    /// Norms of heads of queries and of keys.
    pub head_norms: Option<[*const f32; 2]>,
    /// Norms of all heads of a row's queries as one, and of its keys.
    pub row_norms: Option<[*const f32; 2]>,
    pub output: Joined,
    /// How what `output` gives is added.
    pub attention_residual: Option<Residual>,
    pub feed_forward_norm: Option<*const f32>,
    pub gate_and_up: Joined,
    /// Activation of the gate, times up.
    pub gate: fn(&Kernels, &[f32], &[f32], &mut [f32]),
    pub down: Joined,
    /// How what `down` gives is added.
    pub feed_forward_residual: Option<Residual>,
}

/// What is done with a row of a product's results before it is added to the hidden state; where nothing is, the product adds it.
#[derive(Clone, Copy)]
pub(crate) struct Residual {
    pub norm: Option<*const f32>,
    pub scale: f32,
}

/// A model's weights in the order of their use. Refers to placed weights, which must live longer.
pub(crate) struct Plan {
    pub layers: Vec<Layer>,
    pub output_norm: *const f32,
    /// What rows behind that norm are multiplied by.
    pub output_scale: f32,
    pub logits: Joined,
    pub embedding: Embedding,
    /// What rotated queries are multiplied by, so that attention's 1 / sqrt(head dimension) becomes the model's factor.
    pub query_scale: f32,
    /// One for each kind of layer that turns; all have as many pairs.
    pub rotary: Vec<RotaryTable>,
    /// Turns a head in place: [`Kernels::rotate_halves`] or its other form.
    pub rotate: fn(&Kernels, &mut [f32], &[f32], &[f32]),
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
    scale: f32,
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
            if self.scale != 1.0 {
                std::slice::from_raw_parts_mut(out, self.len).iter_mut().for_each(|value| *value *= self.scale);
            }
        }
    }
}

impl Plan {
    /// The plan must not outlive the weights.
    pub fn new(model: &Model, weights: &Weights, kernels: &'static Kernels) -> Result<Self> {
        let spec = model.spec();
        let Description { rotary, layer, output, .. } = &spec.description;
        let layers = (0..spec.num_layers)
            .map(|index| {
                Ok(Layer { turn: spec.turn(index).map(|turn| turn as usize), ..Layer::new(weights, kernels, layer, index)? })
            })
            .collect::<Result<_>>()?;
        let factors = rotary.factors.and_then(|factors| weights.vector(factors.name));
        let logits = Linear::new(weights, kernels, &output.product.weight_name(), &output.product.bias_name())?;
        Ok(Self {
            layers,
            output_norm: vector(weights, output.norm.name)?,
            output_scale: output.scale,
            // Rows whose logits are wanted are few, and one arithmetic serves all.
            logits: Joined::new(vec![logits]).without_tiles(),
            embedding: embedding(spec, weights)?,
            query_scale: layer.attention.score_scale.map_or(1.0, |scale| scale * (spec.head_dim as f32).sqrt()),
            rotary: spec.rotary_tables(factors),
            rotate: match spec.rope.pairing {
                RopePairing::Adjacent => Kernels::rotate_adjacent,
                RopePairing::Halves => Kernels::rotate_halves,
            },
            kernels,
            ask: weights.prefetch(),
        })
    }

    /// Pairs of a head that turn.
    pub fn num_pairs(&self) -> usize {
        self.rotary[0].num_pairs()
    }

    /// Whether queries and keys of whole rows are normed between their product and attention.
    pub fn norms_rows(&self) -> bool {
        self.layers.iter().any(|layer| layer.row_norms.is_some())
    }

    /// Whether results wait to be added to the hidden state.
    pub fn has_residuals(&self) -> bool {
        self.layers.iter().any(|layer| layer.attention_residual.is_some() || layer.feed_forward_residual.is_some())
    }

    /// Every product there is.
    pub fn products(&self) -> impl Iterator<Item = &Joined> {
        self.layers.iter().flat_map(Layer::products).chain([&self.logits])
    }
}

impl Layer {
    /// The layer of this index.
    fn new(weights: &Weights, kernels: &Kernels, layer: &LayerSpec, index: usize) -> Result<Self> {
        let LayerSpec { attention, feed_forward, residual_scale } = layer;
        let norm = |of: &VectorSpec| vector(weights, &layer_tensor(index, of.name));
        let norm_or_none = |of: &Option<VectorSpec>| of.as_ref().map(norm).transpose();
        let residual = |norm_after: &Option<VectorSpec>| -> Result<Option<Residual>> {
            let residual = Residual { norm: norm_or_none(norm_after)?, scale: *residual_scale };
            Ok((residual.norm.is_some() || residual.scale != 1.0).then_some(residual))
        };
        let query_key_norms = |span: NormSpan| -> Result<Option<[*const f32; 2]>> {
            match &attention.query_key_norms {
                Some(norms) if norms.span == span => Ok(Some([norm(&norms.query)?, norm(&norms.key)?])),
                _ => Ok(None),
            }
        };
        let joined = |products: &[&LinearSpec]| -> Result<Joined> {
            let linear = |of: &&LinearSpec| {
                let [weight, bias] = [of.weight_name(), of.bias_name()].map(|name| layer_tensor(index, &name));
                Linear::new(weights, kernels, &weight, &bias)
            };
            Ok(Joined::new(products.iter().map(linear).collect::<Result<_>>()?))
        };
        Ok(Self {
            turn: None,
            gate: match feed_forward.activation {
                Activation::Silu => Kernels::gate,
                Activation::Gelu => Kernels::gate_by_gelu,
            },
            attention_norm: norm_or_none(&attention.norm_before)?,
            qkv: joined(&[&attention.query, &attention.key, &attention.value])?,
            head_norms: query_key_norms(NormSpan::Head)?,
            row_norms: query_key_norms(NormSpan::Row)?,
            output: joined(&[&attention.output])?,
            attention_residual: residual(&attention.norm_after)?,
            feed_forward_norm: norm_or_none(&feed_forward.norm_before)?,
            gate_and_up: joined(&[&feed_forward.gate, &feed_forward.up])?,
            down: joined(&[&feed_forward.down])?,
            feed_forward_residual: residual(&feed_forward.norm_after)?,
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
    let embedding = &spec.description.embedding;
    let tensor = weights.get(&embedding.rows.weight_name()).ok_or_else(missing)?;
    // SAFETY: an entry of a static table; the type was checked by ggml's reader.
    let to_float = unsafe { (*sys::ggml_get_type_traits(tensor.kind)).to_float };
    if to_float.is_none() && tensor.kind != sys::GGML_TYPE_F32 {
        return Err(Error::Internal { what: format!("ggml cannot widen the embedding's type {}", tensor.kind) });
    }
    let scale = embedding.scale;
    Ok(Embedding { rows: tensor.data, row_bytes: tensor.row_bytes(), len: spec.embedding_len, scale, to_float })
}
