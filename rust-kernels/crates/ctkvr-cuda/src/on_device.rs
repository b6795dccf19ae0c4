//! What an executor has on the device, and what of the host its steps need.

use std::sync::Arc;

use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_model::Model;

use crate::Device;
use crate::head_cache::HeadCache;
use crate::kv_pool::DeviceKvPool;
use crate::search::SearchMemory;
use crate::step_memory::StepMemory;
use crate::weights::Weights;

/// All that a step works with.
pub(crate) struct OnDevice {
    // Buffers are freed before the device is closed.
    pub memory: StepMemory,
    /// One for each number of slots that steps have.
    pub searches: Vec<SearchMemory>,
    pub heads: HeadCache,
    pub weights: Weights,
    pub pool: Arc<DeviceKvPool>,
    pub device: Arc<Device>,
    pub model: Arc<Model>,
    /// Shape, CPU kernels and threads: for indexes, and for methods without kernels.
    pub builder: IndexBuilder,
}
