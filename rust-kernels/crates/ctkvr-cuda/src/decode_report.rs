//! What the decodes of a step report: counters and repairs, after the last layer.

use ctkvr_core::SelectionCounters;
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_engine::Result;

use crate::batch_part::BatchPart;
use crate::counted::{Counted, HostCounted};
use crate::decode_slots::{DecodeSlots, Place, Slot};
use crate::decode_step::DecodeStep;
use crate::launch::search_state::SlotSearch;
use crate::on_device::OnDevice;
use crate::step_results::StepResults;

/// Adds what the device counted and repaired to what the host did, one for each decode. The device's results have come back.
///
/// # Errors
/// As copies.
pub(crate) fn report(on: &OnDevice, lane: usize, step: &mut DecodeStep, part: &BatchPart) -> Result<()> {
    let DecodeStep { slots: step, counted, results: places, .. } = step;
    let (shape, decodes) = (on.builder.shape, step.num_decodes());
    let results = Results::of(on, lane, places);
    for i in 0..step.slots.len() {
        let slot = step.slots[i];
        if matches!(slot.place, Place::Copied | Place::Host) {
            continue;
        }
        let (layer, row, g) = (i / (decodes * step.num_kv_heads), i / step.num_kv_heads % decodes, i % step.num_kv_heads);
        let Counted { counters, repairs, host } = &mut counted[row];
        let of_host = host.binary_search_by_key(&i, |of| of.slot).ok().map(|place| &host[place]);
        let mut search = results.search(step, row, i);
        if let Some(of_host) = of_host {
            search.num_selected = of_host.num_selected as u32;
        }
        let row_bytes = part.sequences()[row].sequence.kv.format().row_bytes(shape.head_dim);
        count(&slot, &search, row_bytes, counters);
        results.add_shares(&slot, i, of_host, counters);
        if search.repairs != 0 {
            let query = repaired_query(on, lane, (layer * decodes + row) * step.num_kv_heads + g)?;
            repairs.push(Repair { head: layer * step.num_kv_heads + g, query });
        }
    }
    Ok(())
}

/// The query of a slot `[layers, decodes, num_kv_heads]`. Waits: repairs are few.
fn repaired_query(on: &OnDevice, lane: usize, slot: usize) -> Result<Vec<f32>> {
    let len = on.builder.shape.group_size() * on.builder.shape.head_dim;
    let mut query = vec![0.0; len];
    let queries = on.memory(lane).decode_queries.span().part(slot * len..(slot + 1) * len);
    on.device.compute().copy_out(&mut query, queries)?;
    Ok(query)
}

/// What the device has written of all layers.
struct Results<'a> {
    searches: &'a [SlotSearch],
    shares: &'a [f32],
    read_lse: &'a [f32],
    dense_lse: &'a [f32],
    group: usize,
}

impl<'a> Results<'a> {
    fn of(on: &'a OnDevice, lane: usize, places: &StepResults) -> Self {
        let block = &on.memory(lane).results;
        Self {
            searches: block.host(places.searches),
            shares: block.host(places.shares),
            read_lse: block.host(places.read_lse),
            dense_lse: block.host(places.dense_lse),
            group: on.builder.shape.group_size(),
        }
    }

    /// What was searched for a slot; nothing where its row's sequences had nothing to search.
    fn search(&self, step: &DecodeSlots, row: usize, slot: usize) -> SlotSearch {
        let searched = step.formats.iter().any(|part| part.search.is_some() && part.decodes.contains(&row));
        if searched { self.searches[slot] } else { SlotSearch::default() }
    }

    /// Counts the shares of a slot. `of_host`: of a hybrid one.
    fn add_shares(&self, slot: &Slot, i: usize, of_host: Option<&HostCounted>, counters: &mut SelectionCounters) {
        counters.audited_heads += u64::from(slot.audit);
        let heads = i * self.group..(i + 1) * self.group;
        let dense_lse = of_host.map_or(&self.dense_lse[heads.clone()], |of| &of.dense_lse);
        for (h, head) in heads.enumerate() {
            let estimated = self.shares[head];
            counters.estimated_mass += f64::from(estimated);
            if slot.audit {
                let measured = (self.read_lse[head] - dense_lse[h]).exp().min(1.0);
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
