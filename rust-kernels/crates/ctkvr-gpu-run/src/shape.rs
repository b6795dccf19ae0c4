//! What is measured.

/// A model's shape, and how long its sequences are.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    pub layers: usize,
    pub kv_heads: usize,
    /// Query heads of a KV head.
    pub group: usize,
    pub head_dim: usize,
    pub width: usize,
    /// Of the feed-forward.
    pub hidden: usize,
    pub vocab: usize,
    /// Tokens stored when one is decoded.
    pub context: usize,
    /// Sequences that decode together.
    pub batches: &'static [usize],
    /// Tokens of a prompt, and of the pieces that it is taken in.
    pub prompt: usize,
    pub chunks: &'static [usize],
    /// How often each contender runs.
    pub rounds: usize,
    /// Bytes that ceilings are measured with.
    pub ceiling_bytes: usize,
}

/// Llama-3-8B at 96K.
const LLAMA: Shape = Shape {
    name: "llama",
    layers: 32,
    kv_heads: 8,
    group: 4,
    head_dim: 128,
    width: 4096,
    hidden: 14336,
    vocab: 128_256,
    context: 98_304,
    batches: &[1, 2, 4, 8],
    prompt: 16_384,
    chunks: &[512, 2048],
    rounds: 25,
    ceiling_bytes: 2 << 30,
};

/// For a profiler: a sequence of Llama-3-8B's, and few launches.
const LAYERS: Shape = Shape { name: "layers", layers: 2, batches: &[1], rounds: 1, ..LLAMA };

/// For rehearsals and sanitizers: small, and every kernel of a step is launched.
const TINY: Shape = Shape {
    name: "tiny",
    layers: 2,
    kv_heads: 2,
    group: 2,
    head_dim: 64,
    width: 256,
    hidden: 512,
    vocab: 1000,
    context: 1500,
    batches: &[1, 2],
    prompt: 128,
    chunks: &[64],
    rounds: 2,
    ceiling_bytes: 1 << 20,
};

impl Shape {
    pub fn named(name: &str) -> Option<&'static Self> {
        [&LLAMA, &LAYERS, &TINY].into_iter().find(|shape| shape.name == name)
    }

    /// (layer, KV head) pairs.
    pub fn heads(&self) -> usize {
        self.layers * self.kv_heads
    }

    /// Values of a row's queries.
    pub fn q_len(&self) -> usize {
        self.kv_heads * self.group * self.head_dim
    }

    /// Values of a row's keys.
    pub fn kv_len(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
