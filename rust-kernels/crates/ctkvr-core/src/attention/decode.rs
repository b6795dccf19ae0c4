//! One decode step of one KV head: probe and union (`propose`), exact scores of candidates (`score`), their softmax (`weigh`), selection
//! (`select`), attention over sinks, window and selected (`attend`), and beside it the mean of what was scored and dropped
//! (`average_dropped`), merge with the tail (`finish`). The stages are separate, and `score`, `weigh` and `attend` come in parts, so that the
//! threads of a step can share them (design 2.2).

use std::cell::UnsafeCell;
use std::ops::Range;
use std::time::Duration;

use crate::attention::partial::{Partial, sum_of};
use crate::kv::head_kv::HeadKv;
use crate::refine::top_k::TopK;
use crate::selector::{Candidates, HeadSelector, Proposal, Query, UNDRAWN};
use crate::step::SelectionCounters;
use crate::tail::TailScratch;
use ctkvr_kernels::Kernels;

/// Rows that attention reads as one, into a sum of its own; these are added up in their order. What a sequence's sums look like so depends
/// on what it reads alone, never on how many threads share the work.
pub const BLOCK: usize = 256;
/// Keys that are scored in one go, and held: whole blocks.
pub const PASS: usize = 4 * BLOCK;

/// Which part of how many a thread works on.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub index: usize,
    pub count: usize,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// This part's share of n things in a row.
    fn of(self, n: usize) -> Range<usize> {
        n * self.index / self.count..n * (self.index + 1) / self.count
    }
}

/// What the step reads always, and where the selector's region lies.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Tokens stored, this one included.
    pub len: usize,
    /// Selector's region, `start..end`; sinks lie before, window after. Empty: everything is read.
    pub start: usize,
    pub end: usize,
    /// 0 = all candidates are read.
    pub max_selected: usize,
    /// Share of the candidates' weight that is enough; 1 = as many as `max_selected` allows.
    pub top_p: f64,
}

/// The work and the memory of one (sequence, KV head) in one step; reused from layer to layer and token to token.
#[derive(Default)]
pub struct HeadDecode {
    group: usize,
    head_dim: usize,
    layout: Option<Layout>,
    query: Vec<f32>,
    scaled: Vec<f32>,
    proposal: Proposal,
    repairs: bool,
    num_candidates: usize,
    /// Most candidates whose values are read; whether so many, or those that reach a share of the weight, are chosen out of more.
    most: usize,
    chooses: bool,
    /// Candidates' scores f32 `[group, num_candidates]`; where the best are chosen, e^(score - maximum) from then on.
    scores: Vec<f32>,
    /// Where the threads of the score and weigh stages write, and the one that averages: the start of `scores`.
    scores_out: Shared<f32>,
    /// Each head's maximum, and the sum of e^(score - maximum) `[group]`.
    totals: Vec<(f32, f32)>,
    /// Where the threads of the weigh stage write: the start of `totals`.
    totals_out: Shared<(f32, f32)>,
    /// Normalised weights summed over the group `[num_candidates]`.
    group_weights: Vec<f32>,
    /// Indexes into the candidates, then positions.
    selected: Vec<u32>,
    /// f32 `[group, selected]`: scores, or, where the choice needed them anyway, e^(score - maximum).
    selected_scores: Vec<f32>,
    /// What was scored but not selected: maximum and sum of e^(score - maximum) `[group]`.
    dropped: Vec<(f32, f32)>,
    /// Its mean, made while others attend.
    dropped_mean: UnsafeCell<DroppedMean>,
    /// Estimated share of the attention that was read `[group]`.
    masses: Vec<f32>,
    /// Of a random choice: log-sum-exp of the drawn scores, and of what they stand for `[group]`; else empty.
    drawn: Vec<(f32, f32)>,
    top_k: TopK,
    /// Rows that are read: sinks, window, selected.
    num_rows: usize,
    /// One for each block of them; never shrinks.
    partials: Vec<Partial>,
    /// Where the threads of the attend stage write: the start of `partials`.
    partials_out: Shared<Partial>,
}

/// What [`HeadDecode::average_dropped`] makes, where every key is scored.
#[derive(Default)]
struct DroppedMean {
    /// f32 `[group, head_dim]`.
    value: Vec<f32>,
    /// Bytes of index read for it.
    bytes_read: usize,
    scratch: TailScratch,
}

/// Start of a buffer whose parts different threads write during one stage.
struct Shared<T>(*mut T);

// SAFETY: the buffer belongs to the same HeadDecode; who writes where is the contract of the stages that take `&self`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl HeadDecode {
    /// Takes the query of this layer and asks the selector. `query` f32 `[group, head_dim]`; no selector = dense. With `may_repair`, a
    /// query that is unlike everything indexed reads everything ([`HeadDecode::repairs`]).
    pub fn propose(
        &mut self,
        kernels: &'static Kernels,
        query: &[f32],
        group: usize,
        layout: Layout,
        selector: Option<&dyn HeadSelector>,
        may_repair: bool,
    ) {
        self.group = group;
        self.head_dim = query.len() / group;
        self.layout = Some(layout);
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        self.query.clear();
        self.query.extend_from_slice(query);
        self.scaled.clear();
        self.scaled.extend(query.iter().map(|x| x * scale));
        self.proposal.num_probed = 0;
        self.proposal.reads_all = false;
        self.proposal.bytes_read = 0;
        self.proposal.has_rest = false;
        self.proposal.rest_is_scored = false;
        self.proposal.is_strange = false;
        self.proposal.union_time = Duration::ZERO;
        self.proposal.candidates = Candidates::None;
        if let Some(selector) = selector {
            let (query, scaled) = (&self.query[..], &self.scaled[..]);
            selector.propose(&Query { query, scaled, max_selected: layout.max_selected, kernels }, &mut self.proposal);
        }
        self.repairs = may_repair && self.proposal.is_strange;
        if self.repairs {
            self.proposal.candidates = Candidates::All;
            self.proposal.has_rest = false;
        }
        self.num_candidates = match self.proposal.candidates {
            Candidates::None => 0,
            Candidates::Region | Candidates::All => layout.end - layout.start,
            Candidates::Listed => self.proposal.positions.len(),
        };
        let n = self.num_candidates;
        let all = self.proposal.reads_all || matches!(self.proposal.candidates, Candidates::All);
        self.most = if all || layout.max_selected == 0 { n } else { layout.max_selected.min(n) };
        self.chooses = n > 0 && (self.most < n || (!all && layout.top_p < 1.0));
        self.scores.resize(self.scores.len().max(n * group), 0.0);
        self.scores_out = Shared(self.scores.as_mut_ptr());
        self.totals.resize(group, (0.0, 0.0));
        self.totals_out = Shared(self.totals.as_mut_ptr());
        self.dropped_mean.get_mut().bytes_read = 0;
    }

    /// The query of this layer, f32 `[group, head_dim]`, when it read everything because nothing indexed was like it.
    pub fn repairs(&self) -> Option<&[f32]> {
        self.repairs.then_some(&self.query)
    }

    /// Of [`HeadDecode::propose`]'s time, what went into joining lists.
    pub fn union_time(&self) -> Duration {
        self.proposal.union_time
    }

    /// Exact scores of one part of the candidates.
    ///
    /// # Safety
    /// Parts write disjoint scores: several threads may run different parts at once, and nothing else.
    pub unsafe fn score(&self, kernels: &Kernels, kv: &HeadKv, part: Part) {
        let range = part.of(self.num_candidates);
        let start = self.layout.map_or(0, |l| l.start);
        // The next part is as a rule this thread's as well.
        let rows = match self.proposal.candidates {
            Candidates::Listed => kv.keys_at(&self.proposal.positions),
            _ => kv.keys(start, self.num_candidates),
        }
        .part(range.start, range.len());
        // SAFETY: scores hold group rows of num_candidates; this part's columns are nobody else's.
        unsafe {
            let out = self.scores_out.0.add(range.start);
            (kernels.score_rows)(self.scaled.as_ptr(), self.group, &rows, out, self.num_candidates);
        }
    }

    /// One part's query heads: their maxima, and e^(score - maximum) in the place of scores, as scores and weights together would not fit in
    /// the first-level cache.
    ///
    /// # Safety
    /// Parts write disjoint heads: several threads may run different parts at once, and nothing else.
    pub unsafe fn weigh(&self, kernels: &Kernels, part: Part) {
        if !self.chooses {
            return;
        }
        let n = self.num_candidates;
        for h in part.of(self.group) {
            // SAFETY: the head's own scores, max bounds them, and its own total.
            unsafe {
                let weights = self.scores_out.0.add(h * n);
                let max = (kernels.max)(weights, n);
                *self.totals_out.0.add(h) = (max, (kernels.exp_sub)(weights, n, max));
            }
        }
    }

    /// Chooses among the candidates, and makes room for the results of attention. `selector`: the one that proposed them.
    pub fn select(&mut self, kernels: &'static Kernels, selector: Option<&dyn HeadSelector>) {
        let Some(layout) = self.layout else { return };
        let n = self.num_candidates;
        self.selected.clear();
        self.selected_scores.clear();
        self.dropped.clear();
        self.drawn.clear();
        if self.chooses {
            self.sum_over_group(kernels);
            let enough = if layout.top_p < 1.0 { self.top_k.count_reaching(&self.group_weights, layout.top_p) } else { n };
            self.top_k.select(kernels, &self.group_weights, self.most.min(enough), &mut self.selected);
            self.gather_selected_weights();
            if self.selected.len() < n {
                self.sum_dropped();
            }
        } else if n > 0 {
            self.selected.extend(0..n as u32);
            self.selected_scores.extend_from_slice(&self.scores[..self.group * n]);
            if let Some(selector) = selector {
                self.reweigh(kernels, selector, layout.max_selected);
            }
        }
        match self.proposal.candidates {
            Candidates::Listed => self.selected.iter_mut().for_each(|i| *i = self.proposal.positions[*i as usize]),
            _ => self.selected.iter_mut().for_each(|i| *i += layout.start as u32),
        }
        self.num_rows = layout.len - (layout.end - layout.start) + self.selected.len();
        self.partials.resize(self.partials.len().max(self.num_blocks()), Partial::default());
        self.partials_out = Shared(self.partials.as_mut_ptr());
    }

    /// Blocks of what is read.
    fn num_blocks(&self) -> usize {
        self.num_rows.div_ceil(BLOCK).max(1)
    }

    /// Softmax weights, each head normalised, summed over the group.
    fn sum_over_group(&mut self, kernels: &Kernels) {
        let n = self.num_candidates;
        self.group_weights.clear();
        self.group_weights.resize(n, 0.0);
        for (weights, (_, sum)) in self.scores[..self.group * n].chunks_exact(n).zip(&self.totals) {
            // SAFETY: both hold n values.
            unsafe { (kernels.add_scaled)(weights.as_ptr(), n, 1.0 / sum, self.group_weights.as_mut_ptr()) };
        }
    }

    /// The weights of what was chosen: attention needs no exponentials of it any more.
    fn gather_selected_weights(&mut self) {
        for weights in self.scores[..self.group * self.num_candidates].chunks_exact(self.num_candidates) {
            self.selected_scores.extend(self.selected.iter().map(|&i| weights[i as usize]));
        }
    }

    /// Lets a selector that drew its candidates at random turn their scores into an estimate; all of them are selected.
    fn reweigh(&mut self, kernels: &'static Kernels, selector: &dyn HeadSelector, max_selected: usize) {
        let query = Query { query: &self.query, scaled: &self.scaled, max_selected, kernels };
        if !selector.reweigh(&query, &self.proposal, &mut self.selected_scores) {
            return;
        }
        let n = self.num_candidates;
        for (exact, estimate) in self.scores.chunks_exact(n).zip(self.selected_scores.chunks_exact(n)) {
            let drawn = || exact.iter().zip(estimate).filter(|(_, e)| **e > UNDRAWN);
            self.drawn.push((lse(drawn().map(|(x, _)| *x)), lse(drawn().map(|(_, e)| *e))));
        }
    }

    /// Weight of what was scored but not selected: all minus selected. The difference is good to rounding of the whole, which is
    /// what it is added to.
    fn sum_dropped(&mut self) {
        for (weights, &(max, sum)) in self.selected_scores.chunks_exact(self.selected.len()).zip(&self.totals) {
            self.dropped.push((max, (sum - sum_of(weights)).max(0.0)));
        }
    }

    /// Mean value of what was scored but not selected, where every key is scored. `selector`: the one that proposed them.
    ///
    /// # Safety
    /// Once after `select`; parts of `attend` may run at the same time, and nothing else.
    pub unsafe fn average_dropped(&self, kernels: &Kernels, selector: Option<&dyn HeadSelector>) {
        let is_wanted = self.proposal.has_rest && self.proposal.rest_is_scored && !self.dropped.is_empty();
        let (Some(selector), Some(layout)) = (selector.filter(|_| is_wanted), self.layout) else { return };
        // SAFETY: attention reads neither these weights, of which it has its own copy, nor the mean.
        let (weights, mean) = unsafe {
            let len = self.group * self.num_candidates;
            (std::slice::from_raw_parts_mut(self.scores_out.0, len), &mut *self.dropped_mean.get())
        };
        for weights in weights.chunks_exact_mut(self.num_candidates) {
            self.selected.iter().for_each(|&p| weights[p as usize - layout.start] = 0.0);
        }
        mean.bytes_read = selector.mean_of_dropped(kernels, weights, &mut mean.scratch, &mut mean.value);
    }

    /// Attention over one part of the blocks of what is read: sinks, window and selected, in this order. `scratch.scores` f32, at least
    /// group * `PASS`.
    ///
    /// # Safety
    /// Each block has its own partial: several threads may run different parts at once, and nothing else.
    pub unsafe fn attend(&self, kernels: &Kernels, kv: &HeadKv, part: Part, scratch: &mut AttendScratch) {
        let Some(layout) = self.layout else { return };
        let blocks = part.of(self.num_blocks());
        let (sinks, window) = if layout.start == layout.end { (layout.len, layout.len) } else { (layout.start, layout.end) };
        let read =
            Read { sinks: 0..sinks, window: window..layout.len, rows: blocks.start * BLOCK..self.num_rows.min(blocks.end * BLOCK) };
        for first in read.rows.clone().step_by(PASS) {
            let pass = first..read.rows.end.min(first + PASS);
            self.score_always(kernels, kv, &read, pass.clone(), &mut scratch.scores);
            for start in pass.clone().step_by(BLOCK) {
                // SAFETY: the block's own partial.
                let total = unsafe { &mut *self.partials_out.0.add(start / BLOCK) };
                total.reset(self.group, self.head_dim);
                self.attend_block(kernels, kv, &read, (start, &pass), total, scratch);
            }
        }
    }

    /// Scores of a pass's sinks and window, f32 `[group]` rows of `PASS`, each in its place.
    fn score_always(&self, kernels: &Kernels, kv: &HeadKv, read: &Read, pass: Range<usize>, scores: &mut [f32]) {
        for (keys, place) in [read.sinks_in(&pass), read.window_in(&pass)] {
            if !keys.is_empty() {
                // SAFETY: the scores hold group rows of PASS, of which these are some columns.
                unsafe {
                    let out = scores.as_mut_ptr().add(place - pass.start);
                    (kernels.score_rows)(self.scaled.as_ptr(), self.group, &kv.keys(keys.start, keys.len()), out, PASS);
                }
            }
        }
    }

    /// One block of a pass. Values that the thread reads next are asked for ahead.
    fn attend_block(
        &self,
        kernels: &Kernels,
        kv: &HeadKv,
        read: &Read,
        (start, pass): (usize, &Range<usize>),
        total: &mut Partial,
        scratch: &mut AttendScratch,
    ) {
        let block = start..pass.end.min(start + BLOCK);
        let next = start..pass.end;
        for ((run, place), (ahead, _)) in
            [(read.sinks_in(&block), read.sinks_in(&next)), (read.window_in(&block), read.window_in(&next))]
        {
            if !run.is_empty() {
                let scores = &mut scratch.scores[place - pass.start..];
                scratch.partial.reset(self.group, self.head_dim);
                scratch.partial.attend(kernels, scores, PASS, &kv.values(run.start, ahead.len()).part(0, run.len()));
                total.merge(&scratch.partial);
            }
        }
        let run = read.selected_in(&block);
        if run.is_empty() {
            return;
        }
        let ahead = read.selected_in(&(start..read.rows.end));
        let values = kv.values_at(&self.selected[ahead]).part(0, run.len());
        scratch.partial.reset(self.group, self.head_dim);
        if self.chooses {
            // The choice left weights.
            let (weights, maxima) = (&self.selected_scores[run.start..], self.totals.iter().map(|(max, _)| *max));
            scratch.partial.attend_weighted(kernels, weights, self.selected.len(), maxima, &values);
        } else {
            for (h, scores) in self.selected_scores.chunks_exact(self.selected.len()).enumerate() {
                scratch.scores[h * PASS..h * PASS + run.len()].copy_from_slice(&scores[run.clone()]);
            }
            scratch.partial.attend(kernels, &mut scratch.scores, PASS, &values);
        }
        total.merge(&scratch.partial);
    }

    /// Scored positions, ascending, when the selector listed them.
    pub fn candidates(&self) -> &[u32] {
        &self.proposal.positions[..self.num_candidates]
    }

    /// Positions whose values are read beside sinks and window, ascending.
    pub fn selected(&self) -> &[u32] {
        &self.selected
    }

    /// Merges the blocks and the rest, writes the output f32 `[group, head_dim]`, and adds to the counters. With `audit`, scratch of
    /// at least group * `PASS` values, also measures the share of the true attention mass that was read, over all keys.
    pub fn finish(
        &mut self,
        kernels: &Kernels,
        kv: &HeadKv,
        out: &mut [f32],
        counters: &mut SelectionCounters,
        audit: Option<&mut [f32]>,
    ) {
        let Some(layout) = self.layout else { return };
        self.merge_blocks();
        counters.audited_heads += u64::from(audit.is_some());
        let all = audit.map(|scratch| dense_lses(kernels, kv, &self.scaled, self.group, layout.len, scratch));
        self.masses.clear();
        for h in 0..self.group {
            // Before the rest joins what was read.
            let measured = all.as_ref().map(|all| (self.read_lse(h) - all[h]).exp().min(1.0));
            let estimated = self.add_rest(h);
            self.masses.push(estimated);
            counters.estimated_mass += f64::from(estimated);
            if let Some(measured) = measured {
                counters.measured_mass += f64::from(measured);
                counters.audited_estimated_mass += f64::from(estimated);
                counters.mass_error += f64::from((estimated - measured).abs());
            }
        }
        self.partials[0].write(out);
        self.count(kv.row_bytes(), layout, counters);
    }

    /// Sums all blocks up in the first, in their order.
    fn merge_blocks(&mut self) {
        let num_blocks = self.num_blocks();
        let (first, others) = self.partials[..num_blocks].split_at_mut(1);
        others.iter().for_each(|p| first[0].merge(p));
    }

    /// Adds what was not read, for one head; returns the estimated share of what was: of all that is known, scores and tail. Without a
    /// tail to lend its mean value, what was scored and dropped counts in the share only.
    fn add_rest(&mut self, h: usize) -> f32 {
        let read = self.read_lse(h);
        let total = &mut self.partials[0];
        let (max, sum) = self.dropped.get(h).copied().unwrap_or((f32::NEG_INFINITY, 0.0));
        let rest = match self.proposal.has_rest {
            true if self.proposal.rest_is_scored => max,
            true => self.proposal.rest_lse[h],
            false => f32::NEG_INFINITY,
        };
        if rest == f32::NEG_INFINITY {
            // Sinks or window may be empty beside candidates that were all dropped: then nothing was read.
            let drawn = if read == f32::NEG_INFINITY { 0.0 } else { (read - total.lse(h)).exp() };
            return if drawn == 0.0 { 0.0 } else { drawn / (1.0 + (max - read).exp() * sum) };
        }
        let d = self.head_dim;
        let values = if self.proposal.rest_is_scored { &self.dropped_mean.get_mut().value } else { &self.proposal.rest_value };
        let value = &values[h * d..(h + 1) * d];
        if !self.proposal.rest_is_scored {
            total.add_uniform(h, rest, 1.0, value);
        }
        total.add_uniform(h, max, sum, value);
        (read - total.lse(h)).exp()
    }

    /// log-sum-exp of what was read, for one head: of the merged blocks, less what drawn positions stand for beside themselves.
    fn read_lse(&self, h: usize) -> f32 {
        let total = self.partials[0].lse(h);
        let Some(&(exact, estimate)) = self.drawn.get(h) else { return total };
        total + (1.0 - (estimate - total).exp() + (exact - total).exp()).max(f32::MIN_POSITIVE).ln()
    }

    fn count(&mut self, row_bytes: usize, layout: Layout, counters: &mut SelectionCounters) {
        let always = layout.len - (layout.end - layout.start);
        let keys_read = (always + self.num_candidates) as u64;
        let values_read = (always + self.selected.len()) as u64;
        counters.heads += 1;
        counters.keys_total += layout.len as u64;
        counters.keys_read += keys_read;
        counters.values_read += values_read;
        counters.centroids_probed += self.proposal.num_probed as u64;
        counters.candidates += self.num_candidates as u64;
        counters.selected += self.selected.len() as u64;
        counters.dense_repairs += u64::from(self.repairs);
        let index_bytes = self.proposal.bytes_read + self.dropped_mean.get_mut().bytes_read;
        counters.bytes_read += (keys_read + values_read) * row_bytes as u64 + index_bytes as u64;
    }

    /// Estimated share of the attention that was read `[group]`; after [`HeadDecode::finish`].
    pub fn masses(&self) -> &[f32] {
        &self.masses
    }

    /// log-sum-exp of everything in the output, for one head; after [`HeadDecode::finish`].
    pub fn lse(&self, h: usize) -> f32 {
        self.partials[0].lse(h)
    }
}

/// Which rows a part reads, of sinks, window and selected in a row.
struct Read {
    /// Positions.
    sinks: Range<usize>,
    window: Range<usize>,
    /// Of all rows, those of the part.
    rows: Range<usize>,
}

impl Read {
    /// Positions of the sinks among some rows, and which row is the first of them.
    fn sinks_in(&self, rows: &Range<usize>) -> (Range<usize>, usize) {
        (overlap(rows, 0, self.sinks.clone()), rows.start)
    }

    /// Likewise of the window.
    fn window_in(&self, rows: &Range<usize>) -> (Range<usize>, usize) {
        let offset = self.sinks.len();
        (overlap(rows, offset, self.window.clone()), rows.start.max(offset))
    }

    /// Which of the selected are among some rows.
    fn selected_in(&self, rows: &Range<usize>) -> Range<usize> {
        let offset = self.sinks.len() + self.window.len();
        rows.start.saturating_sub(offset)..rows.end.saturating_sub(offset)
    }
}

/// One thread's memory for [`HeadDecode::attend`].
pub struct AttendScratch {
    /// f32 `[group, PASS]`.
    pub scores: Vec<f32>,
    partial: Partial,
}

impl AttendScratch {
    pub fn new(group: usize) -> Self {
        Self { scores: vec![0.0; group * PASS], partial: Partial::default() }
    }
}

/// Of `range`, which stands at `offset` in a row of things, what lies in `mine`.
fn overlap(mine: &Range<usize>, offset: usize, range: Range<usize>) -> Range<usize> {
    let clamp = |x: usize| x.clamp(offset, offset + range.len()) - offset + range.start;
    clamp(mine.start)..clamp(mine.end)
}

/// log of the sum of e^score; -infinity for none.
fn lse(scores: impl Iterator<Item = f32> + Clone) -> f32 {
    let max = scores.clone().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY { max } else { max + scores.map(|s| (s - max).exp()).sum::<f32>().ln() }
}

/// log-sum-exp over all keys `[group]`; the keys are read once for all heads. `scratch` f32, at least group * `PASS`.
fn dense_lses(kernels: &Kernels, kv: &HeadKv, scaled: &[f32], group: usize, len: usize, scratch: &mut [f32]) -> Vec<f32> {
    let mut totals = vec![(f32::NEG_INFINITY, 0f32); group];
    for start in (0..len).step_by(PASS) {
        let n = PASS.min(len - start);
        // SAFETY: scratch holds group rows of PASS, scaled as many heads.
        unsafe { (kernels.score_rows)(scaled.as_ptr(), group, &kv.keys(start, n), scratch.as_mut_ptr(), PASS) };
        for ((max, sum), scores) in totals.iter_mut().zip(scratch.chunks_exact_mut(PASS)) {
            // SAFETY: the row holds n scores, top bounds them.
            unsafe {
                let top = max.max((kernels.max)(scores.as_ptr(), n));
                *sum = *sum * (*max - top).exp() + (kernels.exp_sub)(scores.as_mut_ptr(), n, top);
                *max = top;
            }
        }
    }
    totals.into_iter().map(|(max, sum)| max + sum.ln()).collect()
}
