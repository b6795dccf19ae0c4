//! The decoded rows of a step: what each (sequence, KV head) of each layer reads, searched and attended to, and reported.

use std::ops::Range;

use ctkvr_core::attention::decode::{AttendScratch, HeadDecode, HeadStep, Layout, Part};
use ctkvr_core::retriever::{HeadSearch, HeadState};
use ctkvr_core::sequence::decode_plan::DecodePlan;
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_core::{Phase, SelectionCounters};
use ctkvr_engine::{Batch, BatchOutput, Result};
use ctkvr_kernels::KvFormat;

use crate::Span;
use crate::head_image::{HeadSizes, NO_HEAD};
use crate::host_head::HostHead;
use crate::launch::attend::{Attend, partial_len, splits_of};
use crate::launch::merge::Merge;
use crate::launch::search_state::SlotSearch;
use crate::launch::slot::SlotLayout;
use crate::on_device::OnDevice;
use crate::search::{LayerSearch, SearchMemory, SearchSizes};

/// Consecutive rows of a step whose sequences store keys and values alike.
#[derive(Debug, Clone)]
pub(crate) struct FormatRows {
    pub format: KvFormat,
    pub rows: Range<usize>,
    /// Those of them that are decodes: the first ones.
    decodes: Range<usize>,
    /// What the searches of the decodes need, where any is made on the device.
    search: Option<HeadSizes>,
}

/// Who computes a slot's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Device,
    /// A method without kernels.
    Host,
}

/// One (layer, sequence, KV head).
#[derive(Debug, Clone, Copy)]
struct Slot {
    layout: Layout,
    place: Place,
    audit: bool,
}

/// The decodes of a step.
pub(crate) struct DecodeStep {
    pub formats: Vec<FormatRows>,
    plans: Vec<DecodePlan>,
    /// `[layers, decodes, num_kv_heads]`.
    slots: Vec<Slot>,
    num_kv_heads: usize,
    max_splits: usize,
    /// What the host has counted and repaired, one for each decode.
    counted: Vec<(SelectionCounters, Vec<Repair>)>,
}

impl DecodeStep {
    /// Says what every slot reads, and brings that and the indexes to the device. `tables`: where each sequence's page table begins.
    pub fn prepare(on: &mut OnDevice, batch: &Batch, tables: &[u64]) -> Result<Self> {
        let shape = on.builder.shape;
        let (decodes, layers, num_kv_heads) = (batch.num_decodes(), shape.num_layers, shape.num_kv_heads);
        let plans: Vec<DecodePlan> = batch.sequences[..decodes].iter().map(|of| of.sequence.decode_plan()).collect();
        let mut formats = format_rows(batch);
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
                        *most = Some(joined(most.unwrap_or_default(), image.sizes()));
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
            make_search_memory(on, part, num_kv_heads)?;
        }
        let max_splits = splits_of(plans.iter().map(|plan| plan.layout.len).max().unwrap_or(0));
        let counted = (0..decodes).map(|_| Default::default()).collect();
        Ok(Self { formats, plans, slots, num_kv_heads, max_splits, counted })
    }

    fn num_decodes(&self) -> usize {
        self.plans.len()
    }

    /// Slots of a layer, of some rows.
    fn slots_of(&self, layer: usize, rows: &Range<usize>) -> Range<usize> {
        let first = layer * self.num_decodes();
        (first + rows.start) * self.num_kv_heads..(first + rows.end) * self.num_kv_heads
    }

    /// Every decoded row of a layer attends to what is chosen for it.
    pub fn attend(&mut self, on: &OnDevice, layer: usize, batch: &Batch, output: &BatchOutput) -> Result<()> {
        for part in &self.formats {
            if !part.decodes.is_empty() {
                self.attend_on_device(on, layer, part)?;
            }
        }
        let OnDevice { memory, device, builder, .. } = on;
        let (decodes, q) = (self.num_decodes(), builder.shape.num_q_heads * builder.shape.head_dim);
        let queries = memory.queries.span().part(0..decodes * q);
        device.compute().copy(memory.decode_queries.span().part(layer * decodes * q..(layer + 1) * decodes * q), queries)?;
        self.attend_on_host(on, layer, batch, output)
    }

    fn attend_on_device(&self, on: &OnDevice, layer: usize, part: &FormatRows) -> Result<()> {
        let OnDevice { memory, device, builder, .. } = on;
        let (shape, stream) = (builder.shape, device.compute());
        let (d, group) = (shape.head_dim, shape.group_size());
        let slots = self.slots_of(layer, &part.decodes);
        let rows = part.decodes.start * self.num_kv_heads..part.decodes.end * self.num_kv_heads;
        let q_row = group * d;
        let queries = memory.queries.span().part(rows.start * q_row..rows.end * q_row);
        let layouts = memory.layouts.span().part(slots.clone());
        let searched = part.search.map(|_| search_memory(on, slots.len()));
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
        let partials = memory.partials.span().part(0..slots.len() * self.max_splits * partial_len(group, d));
        let attend = Attend {
            queries,
            layouts,
            positions: chosen.map_or(Span::EMPTY, |chosen| chosen.positions),
            counts: chosen.map_or(Span::EMPTY, |chosen| chosen.counts),
            partials,
            layout: shape.page_shape().head_layout(part.format),
            group,
            max_splits: self.max_splits,
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
            max_splits: self.max_splits,
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
            if !self.slots[slot].audit || self.slots[slot].place == Place::Host {
                continue;
            }
            let layouts = memory.dense_layouts.span().part(slot..slot + 1);
            let partials = attend.partials.part(0..self.max_splits * partial_len(group, d));
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
        for row in 0..self.num_decodes() {
            let may_repair = self.counted[row].1.len() < self.plans[row].repair_budget;
            let slots = self.slots_of(layer, &(row..row + 1));
            for (g, slot) in slots.enumerate().filter(|(_, slot)| self.slots[*slot].place == Place::Host) {
                let (of, head) = (&batch.sequences[row], layer * self.num_kv_heads + g);
                let place = (row * self.num_kv_heads + g) * row_len;
                let mut query = vec![0.0; row_len];
                stream.copy_out(&mut query, memory.queries.span().part(place..place + row_len))?;
                let copy = HostHead::copy(device, pool, shape.page_shape(), of.sequence, head)?;
                let Slot { layout, audit, .. } = self.slots[slot];
                let step = HeadStep { query: &query, group: shape.group_size(), layout, may_repair };
                let state: Option<&HeadState> = of.sequence.indexed_head(&self.plans[row], head);
                let retriever = state.map(|state| state.head.as_ref());
                let (mut decode, kv) = (HeadDecode::default(), copy.kv());
                let mut scratch = AttendScratch::new(shape.group_size());
                decode.search(kernels, &step, |query, scratch, out| {
                    if let Some(head) = retriever {
                        of.sequence.selector.method.search(&mut [HeadSearch { head, query, scratch, out }]);
                    }
                });
                let (counters, repairs) = &mut self.counted[row];
                if let Some(query) = decode.repairs() {
                    repairs.push(Repair { head, query: query.to_vec() });
                }
                // SAFETY: one thread does all stages, in order.
                unsafe {
                    decode.score(kernels, &kv, Part::WHOLE);
                    decode.weigh(kernels, Part::WHOLE);
                    decode.select(kernels, retriever);
                    decode.average_unselected(kernels, retriever);
                    decode.attend(kernels, &kv, Part::WHOLE, &mut scratch);
                }
                let mut out = vec![0.0; row_len];
                decode.finish(kernels, &kv, &mut out, counters, audit.then_some(&mut scratch.scores[..]));
                stream.copy_in(memory.attended.span().part(place..place + row_len), &out)?;
            }
        }
        Ok(())
    }

    /// Counters and repairs come back.
    pub fn report(mut self, on: &OnDevice, batch: &Batch, output: &mut BatchOutput) -> Result<()> {
        if self.num_decodes() == 0 {
            return Ok(());
        }
        let results = Results::fetch(on, &self)?;
        let (shape, decodes) = (on.builder.shape, self.num_decodes());
        let row_bytes: Vec<usize> =
            batch.sequences[..decodes].iter().map(|of| of.sequence.kv.format().row_bytes(shape.head_dim)).collect();
        for i in 0..self.slots.len() {
            let slot = self.slots[i];
            if slot.place == Place::Host {
                continue;
            }
            let (layer, row, g) = (i / (decodes * self.num_kv_heads), i / self.num_kv_heads % decodes, i % self.num_kv_heads);
            let search = results.search(&self, row, i);
            let (counters, repairs) = &mut self.counted[row];
            count(&slot, &search, row_bytes[row], counters);
            results.add_shares(&slot, i, counters);
            if search.repairs != 0 {
                let query = results.query(layer * decodes + row, g);
                repairs.push(Repair { head: layer * self.num_kv_heads + g, query });
            }
        }
        for (of, (counters, repairs)) in output.sequences.iter_mut().zip(self.counted) {
            of.counters = Some(counters);
            of.repairs = repairs;
        }
        Ok(())
    }
}

/// What the device has written of all layers.
struct Results {
    searches: Vec<SlotSearch>,
    shares: Vec<f32>,
    read_lse: Vec<f32>,
    dense_lse: Vec<f32>,
    /// f32 `[layers * decodes, q_dim]`; empty when nothing was repaired.
    queries: Vec<f32>,
    group: usize,
    /// Values of a slot's queries.
    query_len: usize,
    num_kv_heads: usize,
}

impl Results {
    fn fetch(on: &OnDevice, step: &DecodeStep) -> Result<Self> {
        let OnDevice { memory, device, builder, .. } = on;
        let (stream, shape, slots) = (device.compute(), builder.shape, step.slots.len());
        let group = shape.group_size();
        let mut searches = vec![SlotSearch::default(); slots];
        if step.formats.iter().any(|part| part.search.is_some()) {
            stream.copy_out(&mut searches, memory.searches.span().part(0..slots))?;
        }
        let floats = |from: Span<f32>| -> Result<Vec<f32>> {
            let mut values = vec![0.0; slots * group];
            stream.copy_out(&mut values, from.part(0..slots * group))?;
            Ok(values)
        };
        let dense_lse = if step.slots.iter().any(|slot| slot.audit) { floats(memory.dense_lse.span())? } else { Vec::new() };
        let mut queries = Vec::new();
        if searches.iter().any(|search| search.repairs != 0) {
            queries.resize(shape.num_layers * step.num_decodes() * shape.num_q_heads * shape.head_dim, 0.0);
            let len = queries.len();
            stream.copy_out(&mut queries, memory.decode_queries.span().part(0..len))?;
        }
        Ok(Self {
            searches,
            shares: floats(memory.shares.span())?,
            read_lse: floats(memory.read_lse.span())?,
            dense_lse,
            queries,
            group,
            query_len: group * shape.head_dim,
            num_kv_heads: shape.num_kv_heads,
        })
    }

    /// What was searched for a slot; nothing where its row's sequences had nothing to search.
    fn search(&self, step: &DecodeStep, row: usize, slot: usize) -> SlotSearch {
        let searched = step.formats.iter().any(|part| part.search.is_some() && part.decodes.contains(&row));
        if searched { self.searches[slot] } else { SlotSearch::default() }
    }

    fn query(&self, row: usize, g: usize) -> Vec<f32> {
        let place = (row * self.num_kv_heads + g) * self.query_len;
        self.queries[place..place + self.query_len].to_vec()
    }

    fn add_shares(&self, slot: &Slot, i: usize, counters: &mut SelectionCounters) {
        counters.audited_heads += u64::from(slot.audit);
        for h in i * self.group..(i + 1) * self.group {
            let estimated = self.shares[h];
            counters.estimated_mass += f64::from(estimated);
            if slot.audit {
                let measured = (self.read_lse[h] - self.dense_lse[h]).exp().min(1.0);
                counters.measured_mass += f64::from(measured);
                counters.audited_estimated_mass += f64::from(estimated);
                counters.mass_error += f64::from((estimated - measured).abs());
            }
        }
    }
}

/// As the CPU counts (ctkvr-core, attention/merge.rs).
fn count(slot: &Slot, search: &SlotSearch, row_bytes: usize, counters: &mut SelectionCounters) {
    let always = slot.layout.num_always() as u64;
    let (candidates, selected) = (u64::from(search.num_candidates), u64::from(search.num_selected));
    let (keys_read, values_read) = (always + candidates, always + selected);
    counters.heads += 1;
    counters.keys_total += slot.layout.len as u64;
    counters.keys_read += keys_read;
    counters.values_read += values_read;
    counters.centroids_probed += u64::from(search.num_probed);
    counters.candidates += candidates;
    counters.selected += selected;
    counters.dense_repairs += u64::from(search.repairs);
    counters.bytes_read += (keys_read + values_read) * row_bytes as u64 + search.index_bytes;
}

fn format_rows(batch: &Batch) -> Vec<FormatRows> {
    let mut formats: Vec<FormatRows> = Vec::new();
    for of in &batch.sequences {
        let format = of.sequence.kv.format();
        if formats.last().is_none_or(|last| last.format != format) {
            let first = of.first_row..of.first_row;
            formats.push(FormatRows { format, rows: first.clone(), decodes: first, search: None });
        }
        if let Some(last) = formats.last_mut() {
            last.rows.end = of.rows().end;
            if of.append.phase == Phase::Decode {
                last.decodes.end = of.rows().end;
            }
        }
    }
    formats
}

fn joined(a: HeadSizes, b: HeadSizes) -> HeadSizes {
    HeadSizes {
        region: a.region.max(b.region),
        num_centroids: a.num_centroids.max(b.num_centroids),
        num_probes: a.num_probes.max(b.num_probes),
        num_clusters: a.num_clusters.max(b.num_clusters),
    }
}

/// Memory for the searches of some rows, with room to grow.
fn make_search_memory(on: &mut OnDevice, part: &FormatRows, num_kv_heads: usize) -> Result<()> {
    let Some(needed) = part.search else { return Ok(()) };
    let (shape, slots) = (on.builder.shape, part.decodes.len() * num_kv_heads);
    let held = on.searches.iter().find(|memory| memory.sizes().slots == slots);
    if held.is_some_and(|memory| memory.sizes().hold(&needed)) {
        return Ok(());
    }
    let most = held.map_or(needed, |memory| joined(memory.sizes().most, needed));
    on.searches.retain(|memory| memory.sizes().slots != slots);
    let grown = |n: usize| (n + n / 8).next_multiple_of(64);
    let most = HeadSizes {
        region: grown(most.region),
        num_centroids: grown(most.num_centroids),
        num_probes: most.num_probes.max(1),
        num_clusters: grown(most.num_clusters),
    };
    let sizes = SearchSizes { slots, num_kv_heads, group: shape.group_size(), head_dim: shape.head_dim, most };
    let memory = SearchMemory::new(&on.device, sizes)?;
    on.searches.push(memory);
    Ok(())
}

/// The memory that [`make_search_memory`] made.
fn search_memory(on: &OnDevice, slots: usize) -> &SearchMemory {
    let found = on.searches.iter().find(|memory| memory.sizes().slots == slots);
    found.expect("made before the first layer")
}
