//! What the decodes of a step report: counters and repairs, after the last layer.

use ctkvr_core::SelectionCounters;
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_engine::Result;

use crate::Span;
use crate::batch_part::BatchPart;
use crate::decode_slots::{DecodeSlots, Place, Slot};
use crate::launch::search_state::SlotSearch;
use crate::on_device::OnDevice;

/// Of one decode.
#[derive(Default)]
pub(crate) struct Counted {
    pub counters: SelectionCounters,
    pub repairs: Vec<Repair>,
    /// What the device does not know of its hybrid slots, ascending.
    pub host: Vec<HostCounted>,
}

/// Of one hybrid slot.
pub(crate) struct HostCounted {
    pub slot: usize,
    pub num_selected: usize,
    /// `[group]` of an audited one; else empty.
    pub dense_lse: Vec<f32>,
}

/// Adds what the device counted and repaired to what the host did, one for each decode.
///
/// # Errors
/// As copies.
pub(crate) fn report(
    on: &OnDevice,
    lane: usize,
    step: &DecodeSlots,
    mut counted: Vec<Counted>,
    part: &BatchPart,
) -> Result<Vec<Counted>> {
    if step.num_decodes() == 0 {
        return Ok(counted);
    }
    let mut results = Results::fetch(on, lane, step)?;
    for of in counted.iter().flat_map(|counted| &counted.host) {
        results.searches[of.slot].num_selected = of.num_selected as u32;
        let heads = of.slot * results.group;
        for (to, from) in results.dense_lse.iter_mut().skip(heads).zip(&of.dense_lse) {
            *to = *from;
        }
    }
    let (shape, decodes) = (on.builder.shape, step.num_decodes());
    let row_bytes: Vec<usize> =
        part.sequences()[..decodes].iter().map(|of| of.sequence.kv.format().row_bytes(shape.head_dim)).collect();
    for i in 0..step.slots.len() {
        let slot = step.slots[i];
        if matches!(slot.place, Place::Copied | Place::Host) {
            continue;
        }
        let (layer, row, g) = (i / (decodes * step.num_kv_heads), i / step.num_kv_heads % decodes, i % step.num_kv_heads);
        let search = results.search(step, row, i);
        let Counted { counters, repairs, .. } = &mut counted[row];
        count(&slot, &search, row_bytes[row], counters);
        results.add_shares(&slot, i, counters);
        if search.repairs != 0 {
            let query = results.query(layer * decodes + row, g);
            repairs.push(Repair { head: layer * step.num_kv_heads + g, query });
        }
    }
    Ok(counted)
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
    /// Waits for the device.
    fn fetch(on: &OnDevice, lane: usize, step: &DecodeSlots) -> Result<Self> {
        let (memory, stream, shape, slots) = (on.memory(lane), on.device.compute(), on.builder.shape, step.slots.len());
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
    fn search(&self, step: &DecodeSlots, row: usize, slot: usize) -> SlotSearch {
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
