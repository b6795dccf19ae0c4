//! What a step is about, whoever runs it: sizes, sequences, rows, and the figures it reports.

use crate::attention::stage_clock::StageTimes;

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

    /// Bytes of f16 keys and values of one token over all layers.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.num_layers * self.num_kv_heads * self.head_dim * 2 * 2
    }
}

/// Names a sequence within one backend; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Consecutive rows of a step that belong to one sequence: they are appended at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRows {
    pub sequence: SequenceId,
    /// First row in the step's token batch.
    pub first_row: usize,
    pub num_rows: usize,
    /// Decode (one row, the sequence's selector applies) or prefill (exact attention, any number of rows).
    pub phase: Phase,
}

/// What a row of a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Prefill,
    Decode,
}

/// Sums over (layer, KV head) of one decode step; meanings in packages/core/src/statistics.ts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SelectionCounters {
    pub heads: u64,
    pub keys_total: u64,
    pub keys_read: u64,
    pub values_read: u64,
    pub centroids_probed: u64,
    pub candidates: u64,
    pub selected: u64,
    pub dense_repairs: u64,
    pub bytes_read: u64,
    pub estimated_mass: f64,
    pub measured_mass: f64,
    pub audited_heads: u64,
    pub audited_estimated_mass: f64,
    pub mass_error: f64,
}

/// What a step did, beside its outputs.
#[derive(Debug, Clone, Default)]
pub struct StepReport {
    /// One per [`SequenceRows`], in order; `None` for prefill rows.
    pub counters: Vec<Option<SelectionCounters>>,
    pub stages: StageTimes,
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

/// Bytes held for one sequence (shared pages are counted in full).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceMemory {
    pub kv_bytes: usize,
    pub index_bytes: usize,
}
