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
//! attention(y)    = product_o(attend(q, k, v)), scores q . k * score_scale
//!                   q = rotate(norm_q(product_q(y))), k = rotate(norm_k(product_k(y))), v = product_v(y)     the norms may be missing
//! feed forward(y) = product_down(activation(product_gate(y)) * product_up(y))
//! ```
//!
//! A norm is x / sqrt(mean of x^2 + epsilon) * weight. A product adds its bias where the file has one.

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
    /// All layers are alike; the names of their tensors are those of a layer: `blk.N.` comes before them.
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
    /// What frequencies are divided by, where the file has it: f32 `[head / 2]`.
    pub factors: Option<VectorSpec>,
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

/// A matrix `[outputs, inputs]`, of any type that runs, and its bias. Its tensors are `<name>.weight` and `<name>.bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearSpec {
    /// As in GGUF.
    pub name: &'static str,
    pub inputs: usize,
    pub outputs: usize,
    /// The file may have one.
    pub may_have_bias: bool,
}

impl LinearSpec {
    /// `shape` is inputs, then outputs, as GGUF has it.
    pub const fn new(name: &'static str, [inputs, outputs]: [usize; 2]) -> Self {
        Self { name, inputs, outputs, may_have_bias: false }
    }

    /// The same with a bias, where the file has one.
    #[must_use]
    pub const fn or_with_bias(self) -> Self {
        Self { may_have_bias: true, ..self }
    }

    /// The name in GGUF of its weights.
    pub fn weight_name(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// The name in GGUF of its bias.
    pub fn bias_name(&self) -> String {
        format!("{}.bias", self.name)
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
