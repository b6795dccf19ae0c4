//! Statistics on their way to JavaScript: `SelectionCounters` and `SequenceMemory` of packages/core/src/statistics.ts, and `NativeKvUsage`.

use ctkvr_core::kv::pool::PoolUsage;
use ctkvr_core::{SelectionCounters, SequenceMemory};
use napi_derive::napi;

/// Sums over layers and KV heads; counts as numbers (below 2^53).
#[napi(object, object_from_js = false)]
pub struct JsSelectionCounters {
    pub heads: f64,
    pub keys_total: f64,
    pub keys_read: f64,
    pub values_read: f64,
    pub centroids_probed: f64,
    pub candidates: f64,
    pub selected: f64,
    pub dense_repairs: f64,
    pub bytes_read: f64,
    pub estimated_mass: f64,
    pub measured_mass: f64,
    pub audited_heads: f64,
    pub audited_estimated_mass: f64,
    pub mass_error: f64,
}

impl From<SelectionCounters> for JsSelectionCounters {
    fn from(counters: SelectionCounters) -> Self {
        Self {
            heads: counters.heads as f64,
            keys_total: counters.keys_total as f64,
            keys_read: counters.keys_read as f64,
            values_read: counters.values_read as f64,
            centroids_probed: counters.centroids_probed as f64,
            candidates: counters.candidates as f64,
            selected: counters.selected as f64,
            dense_repairs: counters.dense_repairs as f64,
            bytes_read: counters.bytes_read as f64,
            estimated_mass: counters.estimated_mass,
            measured_mass: counters.measured_mass,
            audited_heads: counters.audited_heads as f64,
            audited_estimated_mass: counters.audited_estimated_mass,
            mass_error: counters.mass_error,
        }
    }
}

/// `NativeKvUsage`.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsKvUsage {
    pub pages: f64,
    pub bytes: f64,
    pub shared_pages: f64,
    pub budget_bytes: Option<f64>,
}

impl From<PoolUsage> for JsKvUsage {
    fn from(usage: PoolUsage) -> Self {
        Self {
            pages: usage.pages as f64,
            bytes: usage.bytes as f64,
            shared_pages: usage.shared_pages as f64,
            budget_bytes: usage.budget_bytes.map(|bytes| bytes as f64),
        }
    }
}

/// Bytes of one sequence.
#[napi(object, object_from_js = false)]
pub struct JsSequenceMemory {
    pub kv_bytes: f64,
    pub index_bytes: f64,
}

impl From<SequenceMemory> for JsSequenceMemory {
    fn from(memory: SequenceMemory) -> Self {
        Self { kv_bytes: memory.kv_bytes as f64, index_bytes: memory.index_bytes as f64 }
    }
}
