//! What a model computes, and from which tensors: plain data in the order of computation, which a family declares and executors read. It says
//! nothing about how: an executor derives its own form from it, such as products that are joined because they take the same input.
//!
//! Every model of these families computes, over rows x of f32 `[width]`, one for each token:
//!
//! ```text
//! x = row of the token * embedding.scale
//! for every layer:
//!     for block in [attention, feed forward]:
//!         x += residual_scale * norm_after(block(norm_before(x)))      either norm may be missing
//! logits = output.product(norm(x) * output.scale)
//!
//! attention(y)    = product_o(attend(q, k, v)), scores q . k * score_scale     a local layer's rows attend to their last positions only
//!                   q = rotate(norm_q(product_q(y))), k = rotate(norm_k(product_k(y))), v = product_v(y)     the norms may be missing
//! feed forward(y) = product_down(activation(product_gate(y)) * product_up(y))
//! ```
//!
//! Some layers may leave queries and keys as they are instead of rotating them. A norm is x / sqrt(mean of x^2 + epsilon) * weight. A product
//! adds its bias where the file has one.

use ctkvr_core::LocalLayers;

/// Lengths that tensors have, in values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of a row of activations.
    pub width: usize,
    /// Of one head.
    pub head: usize,
    /// Of all query heads of a row.
    pub queries: usize,
    /// Of all KV heads of a row.
    pub keys: usize,
    /// Of a row inside the feed forward block.
    pub hidden: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
}

/// Everything that a family says of a model; see the module for what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub embedding: EmbeddingSpec,
    pub rotary: RotarySpec,
    /// Layers with a sliding window, where there are some.
    pub local: Option<LocalSpec>,
    /// All layers are alike but for what `rotary` and `local` say; the names of their tensors are those of a layer: `blk.N.` comes before them.
    pub layer: LayerSpec,
    pub output: OutputSpec,
}

/// How tokens become rows.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingSpec {
    pub rows: LinearSpec,
    pub scale: f32,
}

/// Which dimensions of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// (0, 1), (2, 3), ...: ggml's NORM.
    Adjacent,
    /// (0, d/2), (1, d/2 + 1), ...: ggml's NEOX.
    Halves,
}

/// How positions turn queries and keys. The numbers are in the file: [`crate::RopeSettings`].
#[derive(Debug, Clone, PartialEq)]
pub struct RotarySpec {
    pub pairing: RopePairing,
    /// The file may say that only the first values of a head turn: `rope.dimension_count`.
    pub may_be_partial: bool,
    /// Of so many layers in a row the last one turns nothing.
    pub unrotated_period: Option<usize>,
    /// What frequencies are divided by, where the file has it: f32 `[head / 2]`.
    pub factors: Option<VectorSpec>,
    /// Factors for another length of context, which the file may have beside them: not used.
    pub other_factors: Option<VectorSpec>,
}

impl RotarySpec {
    /// Every layer turns whole heads, without factors.
    pub(crate) const fn plain(pairing: RopePairing) -> Self {
        Self { pairing, may_be_partial: false, unrotated_period: None, factors: None, other_factors: None }
    }

    /// The same with factors, where the file has them.
    pub(crate) const fn with_factors(self, factors: VectorSpec) -> Self {
        Self { factors: Some(factors), ..self }
    }
}

/// Layers whose rows see a sliding window of positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalSpec {
    pub layers: LocalLayers,
    /// They turn queries and keys by this base, unscaled.
    pub freq_base: f32,
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    pub attention: AttentionSpec,
    pub feed_forward: FeedForwardSpec,
    /// What the result of each of the two is multiplied by before it is added.
    pub residual_scale: f32,
}

/// The attention block.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSpec {
    pub norm_before: Option<VectorSpec>,
    pub query: LinearSpec,
    pub key: LinearSpec,
    pub value: LinearSpec,
    pub query_key_norms: Option<QueryKeyNorms>,
    /// What q . k is multiplied by; `None` = 1 / sqrt(head).
    pub score_scale: Option<f32>,
    pub output: LinearSpec,
    pub norm_after: Option<VectorSpec>,
}

/// Norms of queries and keys before they are rotated.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryKeyNorms {
    pub span: NormSpan,
    pub query: VectorSpec,
    pub key: VectorSpec,
}

/// What one norm of queries or keys is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormSpan {
    /// Each head on its own; all have the same weights.
    Head,
    /// All heads of a row as one vector.
    Row,
}

/// The feed forward block.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForwardSpec {
    pub norm_before: Option<VectorSpec>,
    pub gate: LinearSpec,
    pub up: LinearSpec,
    pub activation: Activation,
    pub down: LinearSpec,
    pub norm_after: Option<VectorSpec>,
}

/// What the gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x / (1 + e^-x).
    Silu,
    /// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    Gelu,
}

/// How rows become logits.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSpec {
    pub norm: VectorSpec,
    /// What normed rows are multiplied by.
    pub scale: f32,
    /// f32 `[vocab]` for each row.
    pub product: LinearSpec,
    /// The file may have no matrix of its own for it: then the embedding serves.
    pub may_be_tied: bool,
}

/// A vector of f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorSpec {
    /// As in GGUF.
    pub name: &'static str,
    pub len: usize,
}

/// A matrix `[outputs, inputs]`, of any type that runs, and its bias. Its tensors are `<name>.weight` and `<name>.bias`, or rows of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearSpec {
    /// As in GGUF.
    pub name: &'static str,
    pub inputs: usize,
    pub outputs: usize,
    /// The file may have one.
    pub may_have_bias: bool,
    /// Where its tensors are some rows of larger ones.
    pub part: Option<RowsOf>,
}

/// Rows of a tensor that several products share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsOf {
    pub first: usize,
    /// Rows of the whole.
    pub all: usize,
}

impl LinearSpec {
    /// `shape` is inputs, then outputs, as GGUF has it.
    pub const fn new(name: &'static str, [inputs, outputs]: [usize; 2]) -> Self {
        Self { name, inputs, outputs, may_have_bias: false, part: None }
    }

    /// The same with a bias, where the file has one.
    #[must_use]
    pub const fn or_with_bias(self) -> Self {
        Self { may_have_bias: true, ..self }
    }

    /// Its outputs are rows of a tensor of `all` rows, from `first` on.
    #[must_use]
    pub const fn rows_of(self, first: usize, all: usize) -> Self {
        Self { part: Some(RowsOf { first, all }), ..self }
    }

    /// What its weights are called: as in GGUF; of a part, with its first row behind that.
    pub fn weight_name(&self) -> String {
        self.named("weight")
    }

    /// Likewise its bias.
    pub fn bias_name(&self) -> String {
        self.named("bias")
    }

    fn named(&self, which: &str) -> String {
        let part = self.part.map_or_else(String::new, |part| format!("[{}]", part.first));
        format!("{}.{which}{part}", self.name)
    }
}

/// A vector by its whole name in GGUF.
pub(crate) const fn vector(name: &'static str, len: usize) -> VectorSpec {
    VectorSpec { name, len }
}

/// A matrix; see [`LinearSpec::new`].
pub(crate) const fn linear(name: &'static str, shape: [usize; 2]) -> LinearSpec {
    LinearSpec::new(name, shape)
}
