//! What a decode step reports of its choices.

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
