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

impl std::ops::Add for SelectionCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            heads: self.heads + other.heads,
            keys_total: self.keys_total + other.keys_total,
            keys_read: self.keys_read + other.keys_read,
            values_read: self.values_read + other.values_read,
            centroids_probed: self.centroids_probed + other.centroids_probed,
            candidates: self.candidates + other.candidates,
            selected: self.selected + other.selected,
            dense_repairs: self.dense_repairs + other.dense_repairs,
            bytes_read: self.bytes_read + other.bytes_read,
            estimated_mass: self.estimated_mass + other.estimated_mass,
            measured_mass: self.measured_mass + other.measured_mass,
            audited_heads: self.audited_heads + other.audited_heads,
            audited_estimated_mass: self.audited_estimated_mass + other.audited_estimated_mass,
            mass_error: self.mass_error + other.mass_error,
        }
    }
}
