//! One part of a batch goes through the model in a lane: its memory on the device, and what it exchanges with the host. Where the host has
//! layers there are two, so that one's layer is computed while the other's is on the host.

use ctkvr_core::AttentionShape;
use ctkvr_model::ModelSpec;

use crate::exchange::Exchange;
use crate::head_image::HeadSizes;
use crate::page_tables::PageTables;
use crate::placement::Placement;
use crate::search::{SearchMemory, SearchSizes};
use crate::staging::Staging;
use crate::step_graphs::StepGraphs;
use crate::step_memory::StepMemory;
use crate::step_sizes::StepSizes;
use crate::{Device, Result};

/// Memory of one part.
pub(crate) struct Lane {
    pub memory: StepMemory,
    /// One for each number of slots that steps have.
    searches: Vec<SearchMemory>,
    /// Where layers are in host memory.
    pub exchange: Option<Exchange>,
    pub staging: Option<Staging>,
    pub graphs: StepGraphs,
    /// Of the last step: the next one finds its vectors long enough.
    pub tables: PageTables,
    placement: Placement,
}

impl Lane {
    /// For steps of nothing.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, spec: &ModelSpec, placement: Placement) -> Result<Self> {
        let memory = StepMemory::new(device, spec, StepSizes::default())?;
        Ok(Self {
            memory,
            searches: Vec::new(),
            exchange: None,
            staging: None,
            graphs: StepGraphs::default(),
            tables: PageTables::default(),
            placement,
        })
    }

    /// Makes room for a part of these sizes.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn make_room(&mut self, device: &Device, spec: &ModelSpec, sizes: &StepSizes) -> Result<()> {
        if !self.memory.sizes.hold(sizes) {
            self.graphs.clear();
            // The old memory goes first: there may not be room for both.
            let sizes = self.memory.sizes.joined(sizes);
            self.memory = StepMemory::new(device, spec, StepSizes::default())?;
            self.memory = StepMemory::new(device, spec, sizes)?;
        }
        let shape = spec.attention_shape();
        let slots = sizes.decodes * shape.num_kv_heads;
        if self.placement.has_hybrid_layers() && self.exchange.as_ref().is_none_or(|of| of.slots() < slots) {
            self.exchange = None;
            self.exchange = Some(Exchange::new(device, slots, shape.group_size(), shape.head_dim)?);
        }
        Ok(())
    }

    /// Memory for the searches of so many decoded rows, with room to grow.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn make_search_memory(&mut self, device: &Device, shape: AttentionShape, rows: usize, needed: HeadSizes) -> Result<()> {
        let (num_kv_heads, slots) = (shape.num_kv_heads, rows * shape.num_kv_heads);
        let held = self.searches.iter().find(|memory| memory.sizes().slots == slots);
        if held.is_some_and(|memory| memory.sizes().hold(&needed)) {
            return Ok(());
        }
        let most = held.map_or(needed, |memory| memory.sizes().most.joined(needed));
        self.graphs.clear();
        self.searches.retain(|memory| memory.sizes().slots != slots);
        let grown = |n: usize| (n + n / 8).next_multiple_of(64);
        let most = HeadSizes {
            region: grown(most.region),
            num_centroids: grown(most.num_centroids),
            num_probes: most.num_probes.max(1),
            num_clusters: grown(most.num_clusters),
        };
        let sizes = SearchSizes { slots, num_kv_heads, group: shape.group_size(), head_dim: shape.head_dim, most };
        let new = if self.placement.has_hybrid_layers() { SearchMemory::with_pinned_lists } else { SearchMemory::new };
        self.searches.push(new(device, sizes)?);
        Ok(())
    }

    /// What [`Lane::make_search_memory`] made for so many slots.
    pub fn search_memory(&self, slots: usize) -> &SearchMemory {
        let found = self.searches.iter().find(|memory| memory.sizes().slots == slots);
        found.expect("made before the first layer")
    }
}
