//! The tensors of a model by name, shape and use: the one table that checking, loading and the graph share.

use crate::spec::{Architecture, ModelSpec};

/// What the graph does with a tensor; decides where its bytes may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorUse {
    /// Rows are looked up.
    Rows,
    /// Multiplies activations.
    Product,
    /// Multiplied or added element by element, or frequency factors.
    Vector,
}

/// One tensor a model of some spec has or may have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorSpec {
    pub name: String,
    /// Fastest dimension first.
    pub shape: [i64; 2],
    pub purpose: TensorUse,
    pub required: bool,
}

impl TensorSpec {
    pub fn is_matrix(&self) -> bool {
        self.purpose != TensorUse::Vector
    }
}

/// Every tensor a model of this spec must or may have.
pub(crate) fn expected_tensors(spec: &ModelSpec) -> Vec<TensorSpec> {
    use TensorUse::{Product, Rows, Vector};
    let width = spec.embedding_len as i64;
    let vocab = spec.vocab_size as i64;
    let hidden = spec.feed_forward_len as i64;
    let head = spec.head_dim as i64;
    let queries = head * spec.num_q_heads as i64;
    let keys = head * spec.num_kv_heads as i64;
    let llama = spec.architecture == Architecture::Llama;
    let qwen3 = spec.architecture == Architecture::Qwen3;
    let mut tensors = vec![
        TensorSpec { name: "token_embd.weight".into(), shape: [width, vocab], purpose: Rows, required: true },
        TensorSpec { name: "output_norm.weight".into(), shape: [width, 1], purpose: Vector, required: true },
        // Absent when the embedding serves as output.
        TensorSpec { name: "output.weight".into(), shape: [width, vocab], purpose: Product, required: false },
    ];
    if spec.architecture == Architecture::Qwen2 {
        tensors.push(TensorSpec { name: "output.bias".into(), shape: [vocab, 1], purpose: Vector, required: false });
    }
    if llama {
        tensors.push(TensorSpec { name: "rope_freqs.weight".into(), shape: [head / 2, 1], purpose: Vector, required: false });
    }
    for layer in 0..spec.num_layers {
        let mut add = |name: &str, shape: [i64; 2], purpose, required| {
            tensors.push(TensorSpec { name: layer_tensor(layer, name), shape, purpose, required });
        };
        add("attn_norm.weight", [width, 1], Vector, true);
        add("attn_q.weight", [width, queries], Product, true);
        add("attn_k.weight", [width, keys], Product, true);
        add("attn_v.weight", [width, keys], Product, true);
        add("attn_output.weight", [queries, width], Product, true);
        add("attn_q.bias", [queries, 1], Vector, false);
        add("attn_k.bias", [keys, 1], Vector, false);
        add("attn_v.bias", [keys, 1], Vector, false);
        add("attn_output.bias", [width, 1], Vector, false);
        if qwen3 {
            add("attn_q_norm.weight", [head, 1], Vector, true);
            add("attn_k_norm.weight", [head, 1], Vector, true);
        }
        add("ffn_norm.weight", [width, 1], Vector, true);
        add("ffn_gate.weight", [width, hidden], Product, true);
        add("ffn_up.weight", [width, hidden], Product, true);
        add("ffn_down.weight", [hidden, width], Product, true);
        if llama {
            add("ffn_gate.bias", [hidden, 1], Vector, false);
            add("ffn_up.bias", [hidden, 1], Vector, false);
            add("ffn_down.bias", [width, 1], Vector, false);
        }
    }
    tensors
}

/// The name in a GGUF of a layer's tensor.
pub fn layer_tensor(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}")
}
