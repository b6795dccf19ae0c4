//! What a step is about, whoever runs it: sizes, sequences, rows, and the figures it reports.

use crate::kv::pool::PageShape;

/// Sizes of a model's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    pub num_layers: usize,
    pub num_q_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
}

impl AttentionShape {
    /// Query heads per KV head.
    pub fn group_size(&self) -> usize {
        self.num_q_heads / self.num_kv_heads
    }

    /// What a page of the KV store holds.
    pub fn page_shape(&self) -> PageShape {
        PageShape { num_heads: self.num_layers * self.num_kv_heads, head_dim: self.head_dim }
    }

    /// Bytes of f16 keys and values of one token over all layers.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.num_layers * self.num_kv_heads * self.head_dim * 2 * 2
    }
}

/// Names a sequence within one engine; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// What a row of a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Exact attention, any number of rows.
    Prefill,
    /// One row; the sequence's selector applies.
    Decode,
}

/// What a build, or a part of one, made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BuildReport {
    pub build_ms: f64,
    /// Heads that are not built yet: until there are none, the index is as it was.
    pub heads_left: usize,
    pub index_bytes: usize,
    pub indexed_tokens: usize,
}

/// Bytes held for one sequence. Shared pages count in full; `PoolUsage` counts them once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceMemory {
    pub kv_bytes: usize,
    pub index_bytes: usize,
}
