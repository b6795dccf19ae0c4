//! The decoded rows of a step, layer by layer: searched and attended to, on the device, or here where a method has no kernels.

use std::ops::Range;

use ctkvr_core::attention::alone::{finish_alone, select_alone};
use ctkvr_core::attention::decode::HeadStep;
use ctkvr_core::retriever::{HeadSearch, HeadState};
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_engine::{Batch, BatchOutput, Result};

use crate::Span;
use crate::decode_report::{Counted, report};
use crate::decode_slots::{DecodeSlots, Place, Slot};
use crate::format_rows::FormatRows;
use crate::host_head::HostHead;
use crate::launch::attend::{Attend, partial_len};
use crate::launch::merge::Merge;
use crate::on_device::OnDevice;
use crate::search::{LayerSearch, SearchMemory};

/// The decodes of a step.
pub(crate) struct DecodeStep {
    pub slots: DecodeSlots,
    /// What the host has counted and repaired, one for each decode.
    counted: Vec<Counted>,
}

impl DecodeStep {
    /// Says what every slot reads, and brings that and the indexes to the device. `tables`: where each sequence's page table begins.
    pub fn prepare(on: &mut OnDevice, batch: &Batch, tables: &[u64]) -> Result<Self> {
        let slots = DecodeSlots::prepare(on, batch, tables)?;
        let counted = (0..slots.num_decodes()).map(|_| Counted::default()).collect();
        Ok(Self { slots, counted })
    }

    /// Every decoded row of a layer attends to what is chosen for it.
    pub fn attend(&mut self, on: &OnDevice, layer: usize, batch: &Batch, output: &BatchOutput) -> Result<()> {
        for part in &self.slots.formats {
            if !part.decodes.is_empty() {
                self.attend_on_device(on, layer, part)?;
            }
        }
        let OnDevice { memory, device, builder, .. } = on;
        let (decodes, q) = (self.slots.num_decodes(), builder.shape.num_q_heads * builder.shape.head_dim);
        let queries = memory.queries.span().part(0..decodes * q);
        device.compute().copy(memory.decode_queries.span().part(layer * decodes * q..(layer + 1) * decodes * q), queries)?;
        self.attend_on_host(on, layer, batch, output)
    }

    fn attend_on_device(&self, on: &OnDevice, layer: usize, part: &FormatRows) -> Result<()> {
        let OnDevice { memory, device, builder, .. } = on;
        let (shape, stream) = (builder.shape, device.compute());
        let (d, group) = (shape.head_dim, shape.group_size());
        let slots = self.slots.slots_of(layer, &part.decodes);
        let rows = part.decodes.start * self.slots.num_kv_heads..part.decodes.end * self.slots.num_kv_heads;
        let q_row = group * d;
        let queries = memory.queries.span().part(rows.start * q_row..rows.end * q_row);
        let layouts = memory.layouts.span().part(slots.clone());
        let searched = part.search.map(|_| on.search_memory(slots.len()));
        if let Some(search) = searched {
            let layer = LayerSearch {
                heads: memory.heads.span().part(slots.clone()),
                layouts,
                queries,
                repairs: memory.repairs.span().part(part.decodes.clone()),
                repair_budgets: memory.repair_budgets.span().part(part.decodes.clone()),
                searches: memory.searches.span().part(slots.clone()),
                format: part.format,
            };
            search.search(device, stream, &layer)?;
        }
        let chosen = searched.map(SearchMemory::chosen);
        let partials = memory.partials.span().part(0..slots.len() * self.slots.max_splits * partial_len(group, d));
        let attend = Attend {
            queries,
            layouts,
            positions: chosen.map_or(Span::EMPTY, |chosen| chosen.positions),
            counts: chosen.map_or(Span::EMPTY, |chosen| chosen.counts),
            partials,
            layout: shape.page_shape().head_layout(part.format),
            group,
            max_splits: self.slots.max_splits,
        };
        attend.launch(device, stream)?;
        let of_heads = slots.start * group..slots.end * group;
        let merge = Merge {
            layouts,
            counts: attend.counts,
            partials,
            host: Span::EMPTY,
            tail_kinds: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_kinds),
            tail_lse: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_lse),
            tail_value: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_value),
            dropped: chosen.map_or(Span::EMPTY, |chosen| chosen.dropped.cast()),
            out: memory.attended.span().part(rows.start * q_row..rows.end * q_row),
            shares: memory.shares.span().part(of_heads.clone()),
            read_lse: memory.read_lse.span().part(of_heads.clone()),
            total_lse: memory.total_lse.span().part(of_heads),
            head_dim: d,
            group,
            max_splits: self.slots.max_splits,
        };
        merge.launch(device, stream)?;
        self.audit(on, &attend, &merge, slots)
    }

    /// The log-sum-exp over everything, of slots that are audited.
    fn audit(&self, on: &OnDevice, attend: &Attend, merge: &Merge, slots: Range<usize>) -> Result<()> {
        let OnDevice { memory, device, builder, .. } = on;
        let (d, group) = (builder.shape.head_dim, builder.shape.group_size());
        let q_row = group * d;
        for (i, slot) in slots.enumerate() {
            if !self.slots.slots[slot].audit || self.slots.slots[slot].place == Place::Host {
                continue;
            }
            let layouts = memory.dense_layouts.span().part(slot..slot + 1);
            let partials = attend.partials.part(0..self.slots.max_splits * partial_len(group, d));
            let queries = attend.queries.part(i * q_row..(i + 1) * q_row);
            let (positions, counts) = (Span::EMPTY, Span::EMPTY);
            Attend { queries, layouts, positions, counts, partials, ..*attend }.launch(device, device.compute())?;
            let merge = Merge {
                layouts,
                counts,
                partials,
                tail_kinds: Span::EMPTY,
                tail_lse: Span::EMPTY,
                tail_value: Span::EMPTY,
                dropped: Span::EMPTY,
                out: memory.unused_out.span().part(0..q_row),
                shares: memory.unused_shares.span().part(0..group),
                read_lse: memory.unused_shares.span().part(group..2 * group),
                total_lse: memory.dense_lse.span().part(slot * group..(slot + 1) * group),
                ..*merge
            };
            merge.launch(device, device.compute())?;
        }
        Ok(())
    }

    /// Slots of methods that have no kernels: keys, values and queries come here, outputs go back.
    fn attend_on_host(&mut self, on: &OnDevice, layer: usize, batch: &Batch, output: &BatchOutput) -> Result<()> {
        let OnDevice { memory, device, builder, pool, .. } = on;
        let (shape, stream, kernels) = (builder.shape, device.compute(), builder.kernels);
        let row_len = shape.group_size() * shape.head_dim;
        debug_assert_eq!(output.sequences.len(), batch.sequences.len());
        for row in 0..self.slots.num_decodes() {
            let may_repair = self.counted[row].repairs.len() < self.slots.plans[row].repair_budget;
            let slots = self.slots.slots_of(layer, &(row..row + 1));
            for (g, slot) in slots.enumerate().filter(|(_, slot)| self.slots.slots[*slot].place == Place::Host) {
                let (of, head) = (&batch.sequences[row], layer * self.slots.num_kv_heads + g);
                let place = (row * self.slots.num_kv_heads + g) * row_len;
                let mut query = vec![0.0; row_len];
                stream.copy_out(&mut query, memory.queries.span().part(place..place + row_len))?;
                let copy = HostHead::copy(device, pool, shape.page_shape(), of.sequence, head)?;
                let Slot { layout, audit, .. } = self.slots.slots[slot];
                let step = HeadStep { query: &query, group: shape.group_size(), layout, may_repair };
                let state: Option<&HeadState> = of.sequence.indexed_head(&self.slots.plans[row], head);
                let retriever = state.map(|state| state.head.as_ref());
                let kv = copy.kv();
                let mut decode = select_alone(kernels, &kv, &step, retriever, |query, scratch, out| {
                    if let Some(head) = retriever {
                        of.sequence.selector.method.search(&mut [HeadSearch { head, query, scratch, out }]);
                    }
                });
                let Counted { counters, repairs } = &mut self.counted[row];
                if let Some(query) = decode.repairs() {
                    repairs.push(Repair { head, query: query.to_vec() });
                }
                let out = finish_alone(kernels, &kv, &mut decode, counters, audit);
                stream.copy_in(memory.attended.span().part(place..place + row_len), &out)?;
            }
        }
        Ok(())
    }

    /// Counters and repairs come back.
    pub fn report(self, on: &OnDevice, batch: &Batch, output: &mut BatchOutput) -> Result<()> {
        report(on, &self.slots, self.counted, batch, output)
    }
}
