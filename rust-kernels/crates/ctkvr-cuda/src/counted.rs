//! What is counted and repaired of a decode.

use ctkvr_core::SelectionCounters;
use ctkvr_core::sequence::lifecycle::Repair;

/// Of one decode.
#[derive(Default)]
pub(crate) struct Counted {
    pub counters: SelectionCounters,
    pub repairs: Vec<Repair>,
    /// What the device does not know of its hybrid slots, ascending.
    pub host: Vec<HostCounted>,
}

/// Of one hybrid slot.
pub(crate) struct HostCounted {
    pub slot: usize,
    pub num_selected: usize,
    /// `[group]` of an audited one; else empty.
    pub dense_lse: Vec<f32>,
}
