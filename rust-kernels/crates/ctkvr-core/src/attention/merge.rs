//! The last stage of a head's decode step: all splits and what stands for the rest of the region, merged into the output; and the report.

use ctkvr_kernels::Kernels;

use crate::attention::attend::{Attended, PASS};
use crate::attention::counters::SelectionCounters;
use crate::attention::partial::Partial;
use crate::kv::head_kv::HeadKv;
use crate::refine::select::{Drawn, Selected};
use crate::refine::unselected::UnselectedMean;
use crate::retriever::ProposedTail;
use crate::search::Searched;

/// How much of the attention was read.
#[derive(Default)]
pub struct Merged {
    /// Estimated share `[group]`.
    masses: Vec<f32>,
    /// log-sum-exp of the scores that the output was made of, before the tail `[group]`.
    lses: Vec<f32>,
}

/// The stages before, all done.
pub struct Parts<'a> {
    pub searched: &'a Searched,
    pub selected: &'a Selected,
    pub unselected: &'a mut UnselectedMean,
    pub attended: &'a mut Attended,
}

impl Merged {
    /// Merges the splits and the tail, writes the output f32 `[group, head_dim]`, and adds to the counters. With `audit`, scratch of at
    /// least group * `PASS` values, also measures the share of the true attention mass that was read, over all keys.
    pub fn merge(
        &mut self,
        kernels: &Kernels,
        parts: Parts,
        kv: &HeadKv,
        out: &mut [f32],
        counters: &mut SelectionCounters,
        audit: Option<&mut [f32]>,
    ) {
        let Parts { searched, selected, unselected, attended } = parts;
        let total = attended.merge_splits();
        counters.audited_heads += u64::from(audit.is_some());
        let all = audit.map(|scratch| dense_lses(kernels, kv, searched, searched.layout.len, scratch));
        self.masses.clear();
        self.lses.clear();
        for h in 0..searched.group {
            // Before the tail joins what was read.
            self.lses.push(total.lse(h));
            let read = read_lse(total, h, selected.drawn(h));
            let measured = all.as_ref().map(|all| (read - all[h]).exp().min(1.0));
            let estimated = add_tail(total, h, read, searched, selected, unselected);
            self.masses.push(estimated);
            counters.estimated_mass += f64::from(estimated);
            if let Some(measured) = measured {
                counters.measured_mass += f64::from(measured);
                counters.audited_estimated_mass += f64::from(estimated);
                counters.mass_error += f64::from((estimated - measured).abs());
            }
        }
        total.write(out);
        count(searched, selected, unselected.bytes_read(), kv.row_bytes(), counters);
    }

    /// Estimated share of the attention that was read `[group]`.
    pub fn masses(&self) -> &[f32] {
        &self.masses
    }

    /// The share of the attention that a key has which was read with this score, for one head.
    pub fn share(&self, h: usize, score: f32) -> f32 {
        (score - self.lses[h]).exp() * self.masses[h]
    }
}

/// Adds what was not read, for one head; returns the estimated share of what was: of all that is known, scores and tail. Without a tail to
/// lend its mean value, what was scored and dropped counts in the share only. `read`: log-sum-exp of what was read.
fn add_tail(
    total: &mut Partial,
    h: usize,
    read: f32,
    searched: &Searched,
    selected: &Selected,
    unselected: &mut UnselectedMean,
) -> f32 {
    let (max, sum) = selected.dropped().get(h).map_or((f32::NEG_INFINITY, 0.0), |d| (d.max, d.sum));
    let proposal = &searched.proposal;
    let tail = match proposal.tail {
        ProposedTail::Scored => max,
        ProposedTail::Given => proposal.tail_lse[h],
        ProposedTail::None => f32::NEG_INFINITY,
    };
    if tail == f32::NEG_INFINITY {
        // Sinks or window may be empty beside candidates that were all dropped: then nothing was read.
        let drawn = if read == f32::NEG_INFINITY { 0.0 } else { (read - total.lse(h)).exp() };
        return if drawn == 0.0 { 0.0 } else { drawn / (1.0 + (max - read).exp() * sum) };
    }
    let d = searched.head_dim;
    let is_scored = proposal.tail == ProposedTail::Scored;
    let values = if is_scored { unselected.value() } else { &proposal.tail_value };
    let value = &values[h * d..(h + 1) * d];
    if !is_scored {
        total.add_uniform(h, tail, 1.0, value);
    }
    total.add_uniform(h, max, sum, value);
    (read - total.lse(h)).exp()
}

/// log-sum-exp of what was read, for one head: of the merged splits, less what drawn positions stand for beside themselves.
fn read_lse(total: &Partial, h: usize, drawn: Option<Drawn>) -> f32 {
    let total = total.lse(h);
    let Some(Drawn { exact, estimate }) = drawn else { return total };
    total + (1.0 - (estimate - total).exp() + (exact - total).exp()).max(f32::MIN_POSITIVE).ln()
}

fn count(searched: &Searched, selected: &Selected, mean_bytes: usize, row_bytes: usize, counters: &mut SelectionCounters) {
    let always = searched.layout.num_always();
    let keys_read = (always + searched.num_candidates) as u64;
    let values_read = (always + selected.positions().len()) as u64;
    counters.heads += 1;
    counters.keys_total += searched.layout.len as u64;
    counters.keys_read += keys_read;
    counters.values_read += values_read;
    counters.centroids_probed += searched.proposal.num_probed as u64;
    counters.candidates += searched.num_candidates as u64;
    counters.selected += selected.positions().len() as u64;
    counters.dense_repairs += u64::from(searched.repairs);
    let index_bytes = searched.proposal.bytes_read + mean_bytes;
    counters.bytes_read += (keys_read + values_read) * row_bytes as u64 + index_bytes as u64;
}

/// log-sum-exp over the first `len` keys `[group]`; they are read once for all heads. `scratch` f32, at least group * `PASS`.
pub fn dense_lses(kernels: &Kernels, kv: &HeadKv, searched: &Searched, len: usize, scratch: &mut [f32]) -> Vec<f32> {
    let (group, scaled) = (searched.group, &searched.scaled);
    let mut totals = vec![(f32::NEG_INFINITY, 0f32); group];
    for start in (0..len).step_by(PASS) {
        let n = PASS.min(len - start);
        kernels.score_rows(scaled, &kv.keys(start, n), scratch, PASS);
        for ((max, sum), scores) in totals.iter_mut().zip(scratch.chunks_exact_mut(PASS)) {
            let top = max.max(kernels.max(&scores[..n]));
            *sum = *sum * (*max - top).exp() + kernels.exp_sub(&mut scores[..n], top);
            *max = top;
        }
    }
    totals.into_iter().map(|(max, sum)| max + sum.ln()).collect()
}
