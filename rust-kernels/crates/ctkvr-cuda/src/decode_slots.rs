//! What each (layer, sequence, KV head) of the decodes of a step reads, said to the device before the first layer.

use std::ops::Range;

use ctkvr_core::attention::decode::Layout;
use ctkvr_core::sequence::decode_plan::DecodePlan;
use ctkvr_engine::{Batch, Result};

use crate::format_rows::FormatRows;
use crate::head_image::NO_HEAD;
use crate::launch::attend::splits_of;
use crate::launch::slot::SlotLayout;
use crate::on_device::OnDevice;

/// Who computes a slot's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Device,
    /// A method without kernels.
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

/// All slots of a step's decodes.
pub(crate) struct DecodeSlots {
    pub formats: Vec<FormatRows>,
    /// One for each decode.
    pub plans: Vec<DecodePlan>,
    /// `[layers, decodes, num_kv_heads]`.
    pub slots: Vec<Slot>,
    pub num_kv_heads: usize,
    /// Splits of attention of any slot.
    pub max_splits: usize,
}

impl DecodeSlots {
    /// Says what every slot reads, and brings that and the indexes to the device. `tables`: where each sequence's page table begins.
    pub fn prepare(on: &mut OnDevice, batch: &Batch, tables: &[u64]) -> Result<Self> {
        let shape = on.builder.shape;
        let (decodes, layers, num_kv_heads) = (batch.num_decodes(), shape.num_layers, shape.num_kv_heads);
        let plans: Vec<DecodePlan> = batch.sequences[..decodes].iter().map(|of| of.sequence.decode_plan()).collect();
        let mut formats = FormatRows::of(batch);
        let (mut slots, mut layouts, mut dense, mut heads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for layer in 0..layers {
            for (row, (of, plan)) in batch.sequences.iter().zip(&plans).enumerate() {
                let head_bytes = shape.page_shape().head_layout(of.sequence.kv.format()).bytes();
                for g in 0..num_kv_heads {
                    let head = layer * num_kv_heads + g;
                    let state = of.sequence.indexed_head(plan, head);
                    let image = state.map(|state| on.heads.image(&on.device, state)).transpose()?;
                    let place = if matches!(image, Some(None)) { Place::Host } else { Place::Device };
                    let layout = Layout { end: state.map_or(plan.layout.end, |state| state.end), ..plan.layout };
                    // What the host does is nothing to the device.
                    let read = if place == Place::Host { Layout::default() } else { layout };
                    let everything = Layout { len: layout.len, top_p: 1.0, ..Layout::default() };
                    let image = image.flatten();
                    if let Some(image) = image {
                        let of_row = formats.iter_mut().find(|part| part.rows.contains(&row));
                        let most = &mut of_row.expect("formats have every row").search;
                        *most = Some(most.unwrap_or_default().joined(image.sizes()));
                    }
                    let offset = (head * head_bytes) as u64;
                    layouts.push(SlotLayout::new(&read, tables[row], offset));
                    dense.push(SlotLayout::new(&everything, tables[row], offset));
                    heads.push(image.map_or(NO_HEAD, |image| image.address()));
                    let audit = batch.audit || plan.sampled_head == Some(head);
                    slots.push(Slot { layout, place, audit });
                }
            }
        }
        let (memory, stream) = (&on.memory, on.device.compute());
        let all = 0..slots.len();
        stream.copy_in(memory.layouts.span().part(all.clone()), &layouts)?;
        stream.copy_in(memory.dense_layouts.span().part(all.clone()), &dense)?;
        stream.copy_in(memory.heads.span().part(all), &heads)?;
        let budgets: Vec<u32> = plans.iter().map(|plan| plan.repair_budget as u32).collect();
        stream.copy_in(memory.repair_budgets.span().part(0..decodes), &budgets)?;
        stream.fill(memory.repairs.span().part(0..decodes), 0)?;
        for part in &formats {
            if let Some(needed) = part.search {
                on.make_search_memory(part.decodes.len(), needed)?;
            }
        }
        let max_splits = splits_of(plans.iter().map(|plan| plan.layout.len).max().unwrap_or(0));
        Ok(Self { formats, plans, slots, num_kv_heads, max_splits })
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
