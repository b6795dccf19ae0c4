//! What an executor has on the device, and what of the host its steps need.

use std::sync::{Arc, Mutex};

use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_model::Model;

use crate::device_builder::BuildMemory;
use crate::head_cache::HeadCache;
use crate::head_image::HeadSizes;
use crate::kv_pool::DeviceKvPool;
use crate::search::{SearchMemory, SearchSizes};
use crate::step_memory::StepMemory;
use crate::weights::Weights;
use crate::{Device, Result};

/// All that a step works with.
pub(crate) struct OnDevice {
    // Buffers are freed before the device is closed.
    pub memory: StepMemory,
    /// One for each number of slots that steps have.
    pub searches: Vec<SearchMemory>,
    pub heads: HeadCache,
    /// Of builds: a build is asked for through a shared reference.
    pub build_memory: Mutex<BuildMemory>,
    pub weights: Weights,
    pub pool: Arc<DeviceKvPool>,
    pub device: Arc<Device>,
    pub model: Arc<Model>,
    /// Shape, CPU kernels and threads: for indexes, and for methods without kernels.
    pub builder: IndexBuilder,
}

impl OnDevice {
    /// Memory for the searches of so many decoded rows, with room to grow.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn make_search_memory(&mut self, rows: usize, needed: HeadSizes) -> Result<()> {
        let shape = self.builder.shape;
        let (num_kv_heads, slots) = (shape.num_kv_heads, rows * shape.num_kv_heads);
        let held = self.searches.iter().find(|memory| memory.sizes().slots == slots);
        if held.is_some_and(|memory| memory.sizes().hold(&needed)) {
            return Ok(());
        }
        let most = held.map_or(needed, |memory| memory.sizes().most.joined(needed));
        self.searches.retain(|memory| memory.sizes().slots != slots);
        let grown = |n: usize| (n + n / 8).next_multiple_of(64);
        let most = HeadSizes {
            region: grown(most.region),
            num_centroids: grown(most.num_centroids),
            num_probes: most.num_probes.max(1),
            num_clusters: grown(most.num_clusters),
        };
        let sizes = SearchSizes { slots, num_kv_heads, group: shape.group_size(), head_dim: shape.head_dim, most };
        let memory = SearchMemory::new(&self.device, sizes)?;
        self.searches.push(memory);
        Ok(())
    }

    /// What [`OnDevice::make_search_memory`] made for so many slots.
    pub fn search_memory(&self, slots: usize) -> &SearchMemory {
        let found = self.searches.iter().find(|memory| memory.sizes().slots == slots);
        found.expect("made before the first layer")
    }
}
