//! Launchers: one file for each `kernels/<family>.cu`. Each declares its kernels, checks every length once, computes the grid, launches.

pub mod argmax;
pub mod attend;
pub mod build_clusters;
pub mod build_lists;
pub mod clusters;
pub mod join;
pub mod linear;
pub mod linear_f16;
pub mod merge;
pub mod norm_round;
pub mod outputs;
pub mod prefill_attend;
pub mod probe;
pub mod read_words;
pub mod rope_store;
pub mod score;
pub mod search_state;
pub mod search_work;
pub mod select;
pub mod silu_round;
pub mod slot;
pub mod traffic;

use crate::declaration::Family;
use crate::{Device, Result};

/// Every family that [`crate::Device::open`] loads. A new file adds its line.
pub const FAMILIES: &[Family] = &[
    argmax::FAMILY,
    attend::FAMILY,
    build_clusters::FAMILY,
    build_lists::FAMILY,
    clusters::FAMILY,
    join::FAMILY,
    linear::FEW_ROWS,
    linear::MANY_ROWS,
    linear_f16::FAMILY,
    merge::FAMILY,
    norm_round::FAMILY,
    prefill_attend::FAMILY,
    probe::FAMILY,
    rope_store::FAMILY,
    score::FAMILY,
    select::FAMILY,
    silu_round::FAMILY,
];

/// Families that measure the device and that no step needs: who measures opens them with [`crate::Device::open_with`].
pub const MEASURING: &[Family] = &[read_words::FAMILY];

impl Device {
    /// Opens device `index` with every kernel of this crate that a step needs.
    ///
    /// # Errors
    /// `NoDriver`, `DriverTooOld`, `NoDevice`, `DeviceTooOld`, `KernelsNotBuilt`, `BadKernel`, `OutOfMemory`.
    pub fn open(index: usize) -> Result<Self> {
        Self::open_with(index, FAMILIES)
    }
}
