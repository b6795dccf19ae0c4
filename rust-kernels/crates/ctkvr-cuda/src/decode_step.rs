//! The decoded rows of a part, layer by layer: searched and attended to on the device, on the host where keys are there, or here where a
//! method has no kernels.
//!
//! A layer has two halves. `begin` gives the device all that needs nothing of the host; `end` does the host's part, while the device is busy
//! with what it was given, and merges.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use ctkvr_core::attention::alone::{finish_alone, select_alone};
use ctkvr_core::attention::decode::HeadStep;
use ctkvr_core::kv::head_kv::HeadKv;
use ctkvr_core::retriever::{HeadSearch, HeadState};
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_engine::Result;

use crate::Span;
use crate::batch_part::BatchPart;
use crate::counted::{Counted, HostCounted};
use crate::decode_slots::{DecodeSlots, Place, Slot};
use crate::exchange::Exchange;
use crate::format_rows::FormatRows;
use crate::host_head::HostHead;
use crate::host_layer::{HostItem, HostOutcome, HostWork, WholeHead};
use crate::launch::attend::{Attend, partial_len};
use crate::launch::merge::{Merge, host_len};
use crate::launch::search_state::SlotSearch;
use crate::on_device::OnDevice;
use crate::page_tables::PageTables;
use crate::search::{Chosen, LayerSearch, Lists, SearchMemory};
use crate::step_inputs::StepInputs;
use crate::step_results::StepResults;

/// The decodes of a part. Kept from step to step.
#[derive(Default)]
pub(crate) struct DecodeStep {
    lane: usize,
    pub slots: DecodeSlots,
    /// Of all of the part's rows.
    pub inputs: StepInputs,
    pub results: StepResults,
    /// What is counted and repaired, one for each decode: the host's part first.
    pub counted: Vec<Counted>,
    /// Where the host's parts of each decode's pages begin; empty where no layer is there.
    pages: Vec<Vec<*const u8>>,
}

// SAFETY: where pages begin is read inside of a step alone, whose batch holds them.
unsafe impl Send for DecodeStep {}
// SAFETY: as above.
unsafe impl Sync for DecodeStep {}

/// The slots of one layer and format.
struct Piece<'a> {
    on: &'a OnDevice,
    lane: usize,
    step: &'a DecodeStep,
    part: &'a FormatRows,
    /// Of all slots of the step.
    slots: Range<usize>,
    is_hybrid: bool,
}

impl DecodeStep {
    /// Begins a step, whose `inputs` and `results` are given: says what every slot reads, writes that to the inputs, and brings indexes to the
    /// device.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn prepare(&mut self, on: &mut OnDevice, lane: usize, part: &BatchPart, tables: &PageTables) -> Result<()> {
        self.lane = lane;
        self.slots.fill(on, lane, part, &self.inputs, tables)?;
        self.counted.clear();
        self.counted.resize_with(self.slots.num_decodes(), Counted::default);
        let on_host = on.pool.placement().has_hybrid_layers();
        let decodes = part.sequences()[..self.slots.num_decodes()].iter().filter(|_| on_host);
        self.pages.clear();
        self.pages.extend(decodes.map(|of| on.pool.host_pages(of.sequence.kv.pages())));
        Ok(())
    }

    /// Gives the device a layer's attention, up to where the host's part is missing.
    pub fn begin(&mut self, on: &OnDevice, layer: usize, part: &BatchPart) -> Result<()> {
        if self.slots.num_decodes() == 0 {
            return Ok(());
        }
        self.keep_queries(on, layer)?;
        let pieces: Vec<Piece> = self.pieces(on, layer).collect();
        if !on.pool.placement().is_hybrid(layer) {
            for piece in &pieces {
                piece.search()?.map_or(Ok(()), |(memory, layer)| memory.refine(&on.device, on.device.compute(), &layer))?;
                piece.attend().launch(&on.device, on.device.compute())?;
                piece.merge(Span::EMPTY).launch(&on.device, on.device.compute())?;
            }
            return self.attend_copied(on, layer, part);
        }
        let mut searched = Vec::new();
        for piece in &pieces {
            searched.extend(piece.search()?);
        }
        let (queries, searches) = self.sent(on, layer);
        self.exchange(on).send(&on.device, queries, searches)?;
        for (memory, layer) in searched {
            memory.refine(&on.device, on.device.compute(), &layer)?;
        }
        for piece in &pieces {
            piece.attend().launch(&on.device, on.device.compute())?;
        }
        Ok(())
    }

    /// The host's part of a layer in host memory, and the merge.
    pub fn end(&mut self, on: &OnDevice, layer: usize, part: &BatchPart, cancel: &AtomicBool) -> Result<()> {
        if self.slots.num_decodes() == 0 || !on.pool.placement().is_hybrid(layer) {
            return Ok(());
        }
        let received = self.exchange(on).receive()?;
        let items = self.host_items(on, layer, part);
        let team = on.team.as_ref().expect("made where layers are in host memory");
        let outcomes = team.run(&items, received, cancel)?;
        let slots: Vec<usize> = items.iter().map(|item| item.slot).collect();
        drop(items);
        let first = self.slots.slots_of(layer, &(0..0)).start;
        for (slot, outcome) in slots.into_iter().zip(outcomes) {
            self.count(layer, first + slot, outcome);
        }
        let shape = on.builder.shape;
        let of_slot = host_len(shape.group_size(), shape.head_dim);
        let given = self.exchange(on).give(&on.device, self.slots.num_decodes() * shape.num_kv_heads * of_slot)?;
        for piece in self.pieces(on, layer) {
            let slots = piece.of_layer();
            let merge = piece.merge(given.part(slots.start * of_slot..slots.end * of_slot));
            merge.launch(&on.device, on.device.compute())?;
        }
        Ok(())
    }

    fn exchange<'a>(&self, on: &'a OnDevice) -> &'a Exchange {
        on.lanes[self.lane].exchange.as_ref().expect("made where layers are in host memory")
    }

    fn pieces<'a>(&'a self, on: &'a OnDevice, layer: usize) -> impl Iterator<Item = Piece<'a>> {
        let parts = self.slots.formats.iter().filter(|part| !part.decodes.is_empty());
        parts.map(move |part| {
            let slots = self.slots.slots_of(layer, &part.decodes);
            Piece { on, lane: self.lane, step: self, part, slots, is_hybrid: on.pool.placement().is_hybrid(layer) }
        })
    }

    /// Queries, for repairs.
    fn keep_queries(&self, on: &OnDevice, layer: usize) -> Result<()> {
        let memory = on.memory(self.lane);
        let len = self.slots.num_decodes() * on.builder.shape.num_q_heads * on.builder.shape.head_dim;
        let kept = memory.decode_queries.span().part(layer * len..(layer + 1) * len);
        Ok(on.device.compute().copy(kept, memory.queries.span().part(0..len))?)
    }

    /// What the host needs of a layer: queries, and searches where there are any.
    fn sent(&self, on: &OnDevice, layer: usize) -> (Span<f32>, Span<SlotSearch>) {
        let (memory, decodes) = (on.memory(self.lane), self.slots.num_decodes());
        let len = decodes * on.builder.shape.num_q_heads * on.builder.shape.head_dim;
        let is_searched = self.slots.formats.iter().any(|part| part.search.is_some());
        let slots = self.slots.slots_of(layer, &(0..decodes));
        let searches = if is_searched { self.results.searches.part(slots) } else { Span::EMPTY };
        (memory.queries.span().part(0..len), searches)
    }

    /// What the host does of a layer.
    fn host_items<'a>(&'a self, on: &'a OnDevice, layer: usize, part: &'a BatchPart) -> Vec<HostItem<'a>> {
        let placement = on.pool.placement();
        let mut items = Vec::new();
        for piece in self.pieces(on, layer) {
            let first = self.slots.slots_of(layer, &(0..0)).start;
            for (i, at) in piece.slots.clone().enumerate() {
                let Slot { layout, place, audit } = self.slots.slots[at];
                let slot = at - first;
                let (row, g) = (slot / self.slots.num_kv_heads, slot % self.slots.num_kv_heads);
                let (sequence, head) = (&*part.sequences()[row].sequence, layer * self.slots.num_kv_heads + g);
                let plan = &self.slots.plans[row];
                let work = match place {
                    Place::Hybrid => HostWork::Listed(on.search_memory(self.lane, piece.slots.len()).listed(i)),
                    Place::Host => HostWork::Whole(WholeHead {
                        state: sequence.indexed_head(plan, head),
                        selector: &sequence.selector,
                        may_repair: self.counted[row].repairs.len() < plan.repair_budget,
                    }),
                    Place::Device | Place::Copied => continue,
                };
                let head_layout = on.pool.head_layout(piece.part.format);
                let offset = placement.of_host(head) * head_layout.bytes();
                // SAFETY: the host's parts of pages that the batch holds; what is read of them was written before `receive`.
                let kv = unsafe { HeadKv::of_pages(&self.pages[row], head_layout, offset) };
                items.push(HostItem { slot, layout, audit, kv, work });
            }
        }
        items
    }

    /// Notes what came of a slot on the host.
    fn count(&mut self, layer: usize, slot: usize, outcome: HostOutcome) {
        let num_kv_heads = self.slots.num_kv_heads;
        let (row, g) = (slot / num_kv_heads % self.slots.num_decodes(), slot % num_kv_heads);
        let Counted { counters, repairs, host } = &mut self.counted[row];
        let HostOutcome { num_selected, dense_lse, counters: of_host, repair } = outcome;
        match of_host {
            Some(of_host) => *counters = *counters + of_host,
            None => host.push(HostCounted { slot, num_selected, dense_lse }),
        }
        repairs.extend(repair.map(|query| Repair { head: layer * num_kv_heads + g, query }));
    }

    /// Slots of methods that have no kernels: keys, values and queries come here, outputs go back.
    fn attend_copied(&mut self, on: &OnDevice, layer: usize, part: &BatchPart) -> Result<()> {
        let OnDevice { device, builder, pool, .. } = on;
        let (memory, shape, stream, kernels) = (on.memory(self.lane), builder.shape, device.compute(), builder.kernels);
        let row_len = shape.group_size() * shape.head_dim;
        for row in 0..self.slots.num_decodes() {
            let may_repair = self.counted[row].repairs.len() < self.slots.plans[row].repair_budget;
            let slots = self.slots.slots_of(layer, &(row..row + 1));
            for (g, slot) in slots.enumerate().filter(|(_, slot)| self.slots.slots[*slot].place == Place::Copied) {
                let (of, head) = (&part.sequences()[row], layer * self.slots.num_kv_heads + g);
                let place = (row * self.slots.num_kv_heads + g) * row_len;
                let mut query = vec![0.0; row_len];
                stream.copy_out(&mut query, memory.queries.span().part(place..place + row_len))?;
                let copy = HostHead::of(device, pool, of.sequence, head)?;
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
                let Counted { counters, repairs, .. } = &mut self.counted[row];
                if let Some(query) = decode.repairs() {
                    repairs.push(Repair { head, query: query.to_vec() });
                }
                let out = finish_alone(kernels, &kv, &mut decode, counters, audit);
                stream.copy_in(memory.attended.span().part(place..place + row_len), &out)?;
            }
        }
        Ok(())
    }

    /// Measures what is audited on the device, behind the last layer.
    pub fn audit(&self, on: &OnDevice) -> Result<()> {
        let layers = if self.slots.num_decodes() == 0 { 0 } else { on.builder.shape.num_layers };
        (0..layers).try_for_each(|layer| self.pieces(on, layer).try_for_each(|piece| piece.audit(layer)))
    }
}

impl Piece<'_> {
    /// Its slots, counted in the layer.
    fn of_layer(&self) -> Range<usize> {
        let n = self.step.slots.num_kv_heads;
        self.part.decodes.start * n..self.part.decodes.end * n
    }

    fn queries(&self) -> Span<f32> {
        let q_row = self.on.builder.shape.group_size() * self.on.builder.shape.head_dim;
        let slots = self.of_layer();
        self.on.memory(self.lane).queries.span().part(slots.start * q_row..slots.end * q_row)
    }

    /// What its slots are searched with, where any is searched on the device.
    fn searched(&self) -> Option<&SearchMemory> {
        self.part.search.map(|_| self.on.search_memory(self.lane, self.slots.len()))
    }

    fn chosen(&self) -> Option<Chosen> {
        self.searched().map(SearchMemory::chosen)
    }

    /// The candidates of every slot; what [`SearchMemory::refine`] takes then.
    fn search(&self) -> Result<Option<(&SearchMemory, LayerSearch)>> {
        let Some(search) = self.searched() else { return Ok(None) };
        let inputs = &self.step.inputs;
        let layer = LayerSearch {
            heads: inputs.heads.part(self.slots.clone()),
            layouts: inputs.layouts.part(self.slots.clone()),
            queries: self.queries(),
            repairs: inputs.repairs.part(self.part.decodes.clone()),
            repair_budgets: inputs.repair_budgets.part(self.part.decodes.clone()),
            searches: self.step.results.searches.part(self.slots.clone()),
            format: self.part.format,
            lists: if self.is_hybrid { Lists::Pinned } else { Lists::Device },
        };
        search.find(&self.on.device, self.on.device.compute(), &layer)?;
        Ok(Some((search, layer)))
    }

    /// Attention over what is read on the device.
    fn attend(&self) -> Attend {
        let (memory, shape) = (self.on.memory(self.lane), self.on.builder.shape);
        let group = shape.group_size();
        let of_slot = self.step.slots.max_splits * partial_len(group, shape.head_dim);
        let (slots, chosen) = (self.of_layer(), self.chosen());
        Attend {
            queries: self.queries(),
            layouts: self.step.inputs.layouts.part(self.slots.clone()),
            positions: chosen.map_or(Span::EMPTY, |chosen| chosen.positions),
            counts: chosen.map_or(Span::EMPTY, |chosen| chosen.counts),
            partials: memory.partials.span().part(slots.start * of_slot..slots.end * of_slot),
            layout: self.on.pool.head_layout(self.part.format),
            group,
            max_splits: self.step.slots.max_splits,
        }
    }

    /// Merges what was read with what the host gave (empty: nothing).
    fn merge(&self, host: Span<f32>) -> Merge {
        let (memory, shape) = (self.on.memory(self.lane), self.on.builder.shape);
        let (attend, chosen) = (self.attend(), self.chosen());
        let q_row = shape.group_size() * shape.head_dim;
        let (slots, of_heads) = (self.of_layer(), self.slots.start * attend.group..self.slots.end * attend.group);
        Merge {
            layouts: attend.layouts,
            counts: attend.counts,
            partials: attend.partials,
            host,
            tail_kinds: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_kinds),
            tail_lse: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_lse),
            tail_value: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_value),
            dropped: chosen.map_or(Span::EMPTY, |chosen| chosen.dropped.cast()),
            out: memory.attended.span().part(slots.start * q_row..slots.end * q_row),
            shares: self.step.results.shares.part(of_heads.clone()),
            read_lse: self.step.results.read_lse.part(of_heads.clone()),
            total_lse: memory.total_lse.span().part(of_heads),
            head_dim: shape.head_dim,
            group: attend.group,
            max_splits: attend.max_splits,
        }
    }

    /// The log-sum-exp over everything, of slots whose keys are on the device and that are audited: the layer is long over.
    fn audit(&self, layer: usize) -> Result<()> {
        let step = &self.step.slots;
        let audited = |slot: &usize| step.slots[*slot].audit && step.slots[*slot].place == Place::Device;
        if !self.slots.clone().any(|slot| audited(&slot)) {
            return Ok(());
        }
        let (attend, merge) = (self.attend(), self.merge(Span::EMPTY));
        let (memory, device, shape) = (self.on.memory(self.lane), &self.on.device, self.on.builder.shape);
        let (group, q_row) = (attend.group, attend.group * shape.head_dim);
        let first = step.slots_of(layer, &(0..0)).start;
        for slot in self.slots.clone().filter(audited) {
            let kept = (layer * step.num_decodes() * step.num_kv_heads + slot - first) * q_row;
            let layouts = self.step.inputs.dense_layouts.part(slot..slot + 1);
            let partials = attend.partials.part(0..attend.max_splits * partial_len(group, shape.head_dim));
            let queries = memory.decode_queries.span().part(kept..kept + q_row);
            let (positions, counts) = (Span::EMPTY, Span::EMPTY);
            Attend { queries, layouts, positions, counts, partials, ..attend }.launch(device, device.compute())?;
            let merge = Merge {
                layouts,
                counts,
                partials,
                host: Span::EMPTY,
                tail_kinds: Span::EMPTY,
                tail_lse: Span::EMPTY,
                tail_value: Span::EMPTY,
                dropped: Span::EMPTY,
                out: memory.unused_out.span().part(0..q_row),
                shares: memory.unused_shares.span().part(0..group),
                read_lse: memory.unused_shares.span().part(group..2 * group),
                total_lse: self.step.results.dense_lse.part(slot * group..(slot + 1) * group),
                ..merge
            };
            merge.launch(device, device.compute())?;
        }
        Ok(())
    }
}
