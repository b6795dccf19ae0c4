//! What an executor has on the device, and what of the host its steps need.

use std::sync::{Arc, Mutex};

use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_model::Model;

use crate::device_builder::BuildMemory;
use crate::head_cache::HeadCache;
use crate::host_layer::HostTeam;
use crate::kv_pool::DeviceKvPool;
use crate::lane::Lane;
use crate::search::SearchMemory;
use crate::step_memory::StepMemory;
use crate::weights::Weights;
use crate::{Device, Result};

/// All that a step works with.
pub(crate) struct OnDevice {
    // Buffers are freed before the device is closed.
    pub lanes: Vec<Lane>,
    pub heads: HeadCache,
    /// Of builds: a build is asked for through a shared reference.
    pub build_memory: Mutex<BuildMemory>,
    pub weights: Weights,
    pub pool: Arc<DeviceKvPool>,
    pub device: Arc<Device>,
    pub model: Arc<Model>,
    /// Shape, CPU kernels and threads: for indexes, and for methods without kernels.
    pub builder: IndexBuilder,
    /// Where layers are in host memory.
    pub team: Option<HostTeam>,
}

impl OnDevice {
    pub fn memory(&self, lane: usize) -> &StepMemory {
        &self.lanes[lane].memory
    }

    /// What [`Lane::make_search_memory`] made for so many slots.
    pub fn search_memory(&self, lane: usize, slots: usize) -> &SearchMemory {
        self.lanes[lane].search_memory(slots)
    }

    /// Waits for all that the device was given.
    ///
    /// # Errors
    /// `DeviceLost`.
    pub fn wait(&self) -> Result<()> {
        let copied = self.device.copy().wait();
        self.device.compute().wait()?;
        copied
    }
}
