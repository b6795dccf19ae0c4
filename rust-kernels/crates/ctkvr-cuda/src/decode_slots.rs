//! What each (layer, sequence, KV head) of the decodes of a step reads, said to the device before the first layer.

use std::ops::Range;

use ctkvr_core::attention::decode::Layout;
use ctkvr_core::sequence::decode_plan::DecodePlan;
use ctkvr_engine::Result;

use crate::batch_part::BatchPart;
use crate::format_rows::FormatRows;
use crate::head_cache::scores_all;
use crate::head_image::NO_HEAD;
use crate::launch::slot::SlotLayout;
use crate::on_device::OnDevice;
use crate::page_tables::{PageTables, SequenceTables};
use crate::step_inputs::StepInputs;

/// Who computes a slot's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Device,
    /// The host, with keys and values copied to it: a method without kernels.
    Copied,
    /// The device searches and reads sinks and window, the host scores and attends to what is found: its keys are there.
    Hybrid,
    /// The host, where keys are: the device has nothing to search.
    Host,
}

/// One (layer, sequence, KV head).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub layout: Layout,
    pub place: Place,
    /// Whether the true share of the attention is measured.
    pub audit: bool,
}

/// All slots of a part's decodes. Kept from step to step.
#[derive(Default)]
pub(crate) struct DecodeSlots {
    pub formats: Vec<FormatRows>,
    /// One for each decode.
    pub plans: Vec<DecodePlan>,
    /// `[layers, decodes, num_kv_heads]`.
    pub slots: Vec<Slot>,
    pub num_kv_heads: usize,
    /// At least the splits of attention of any slot.
    pub max_splits: usize,
}

/// What the device is told of a slot.
struct Told {
    layout: SlotLayout,
    /// With nothing left out.
    dense: SlotLayout,
    /// Address of its index.
    head: u64,
}

impl DecodeSlots {
    /// Says what every slot of a part reads, instead of what was here, and writes that to the lane's inputs; brings indexes to the device.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn fill(
        &mut self,
        on: &mut OnDevice,
        lane: usize,
        part: &BatchPart,
        inputs: &StepInputs,
        tables: &PageTables,
    ) -> Result<()> {
        let shape = on.builder.shape;
        let decodes = part.num_decodes();
        self.num_kv_heads = shape.num_kv_heads;
        // All that there is room for: the same from token to token.
        self.max_splits = on.memory(lane).sizes.splits;
        FormatRows::fill(&mut self.formats, part);
        self.plans.clear();
        self.plans.extend(part.sequences()[..decodes].iter().map(|of| of.sequence.decode_plan()));
        self.slots.clear();
        for layer in 0..shape.num_layers {
            for (row, tables) in tables.sequences[..decodes].iter().enumerate() {
                for g in 0..shape.num_kv_heads {
                    let slot = self.slots.len();
                    let Told { layout, dense, head } = self.add(on, part, (row, layer * shape.num_kv_heads + g), tables)?;
                    let block = &mut on.lanes[lane].memory.inputs;
                    block.host_mut(inputs.layouts)[slot] = layout;
                    block.host_mut(inputs.dense_layouts)[slot] = dense;
                    block.host_mut(inputs.heads)[slot] = head;
                }
            }
        }
        let block = &mut on.lanes[lane].memory.inputs;
        block.host_mut(inputs.repairs).fill(0);
        for (to, plan) in block.host_mut(inputs.repair_budgets).iter_mut().zip(&self.plans) {
            *to = plan.repair_budget as u32;
        }
        for part in &self.formats {
            if let Some(needed) = part.search {
                on.lanes[lane].make_search_memory(&on.device, shape, part.decodes.len(), needed)?;
            }
        }
        Ok(())
    }

    /// Adds the slot of a row and head.
    fn add(&mut self, on: &mut OnDevice, part: &BatchPart, (row, head): (usize, usize), tables: &SequenceTables) -> Result<Told> {
        let (placement, plan) = (on.pool.placement(), self.plans[row]);
        let sequence = &part.sequences()[row].sequence;
        let state = sequence.indexed_head(&plan, head);
        let image = state.map(|state| on.heads.image(&on.device, state)).transpose()?;
        let has_kernels = !matches!(image, Some(None));
        let image = image.flatten();
        let place = match (placement.host_heads().contains(&head), state) {
            (false, _) if has_kernels => Place::Device,
            (false, _) => Place::Copied,
            (true, Some(state)) if has_kernels && scores_all(state) => Place::Device,
            (true, Some(_)) if has_kernels => Place::Hybrid,
            (true, _) => Place::Host,
        };
        let layout = Layout { end: state.map_or(plan.layout.end, |state| state.end), ..plan.layout };
        let everything = Layout { len: layout.len, top_p: 1.0, ..Layout::default() };
        let head_bytes = on.pool.head_layout(sequence.kv.format()).bytes();
        let (table, before) = match (placement.host_heads().contains(&head), place) {
            (false, _) => (tables.device, head),
            (true, Place::Device) => (tables.of_head(head), 0),
            (true, _) => (tables.recent, placement.of_host(head)),
        };
        let offset = (before * head_bytes) as u64;
        // What the host does alone is nothing to the device.
        let told_layout = match place {
            Place::Device => SlotLayout::new(&layout, table, offset),
            Place::Hybrid => SlotLayout::new(&layout, table, offset).on_host(),
            Place::Copied => SlotLayout::new(&Layout::default(), table, offset),
            Place::Host => SlotLayout::new(&Layout::default(), table, offset).on_host(),
        };
        let dense = SlotLayout::new(&everything, table, offset);
        let told = Told { layout: told_layout, dense, head: image.map_or(NO_HEAD, |image| image.address()) };
        if let Some(image) = image {
            let of_row = self.formats.iter_mut().find(|part| part.rows.contains(&row));
            let most = &mut of_row.expect("formats have every row").search;
            *most = Some(most.unwrap_or_default().joined(image.sizes()));
        }
        let audit = part.batch.measures.audit || plan.sampled_head == Some(head);
        self.slots.push(Slot { layout, place, audit });
        Ok(told)
    }

    pub fn num_decodes(&self) -> usize {
        self.plans.len()
    }

    /// Slots of a layer, of some rows.
    pub fn slots_of(&self, layer: usize, rows: &Range<usize>) -> Range<usize> {
        let first = layer * self.num_decodes();
        (first + rows.start) * self.num_kv_heads..(first + rows.end) * self.num_kv_heads
    }
}
