//! One decode step of one KV head, stage by stage: search (`search`), exact scores of candidates (`score`), their softmax (`weigh`), the choice
//! (`select`), attention over sinks, window and selected (`attend`), beside it the mean of what was scored and dropped (`average_unselected`),
//! and the merge with the tail (`finish`). Each stage is a type of its own, which takes those before it; `score`, `weigh` and `attend` come in
//! parts, so that the threads of a step can share them.

use ctkvr_kernels::Kernels;

pub use crate::attention::attend::AttendScratch;
use crate::attention::attend::{Attended, Chosen};
use crate::attention::counters::SelectionCounters;
use crate::attention::merge::{Merged, Parts, dense_lses};
use crate::attention::read_map::add_to_read_map;
use crate::kv::head_kv::HeadKv;
pub use crate::part::Part;
use crate::refine::score::Scored;
use crate::refine::select::{Selected, Weights};
use crate::refine::unselected::UnselectedMean;
use crate::refine::weigh::{SoftmaxTotal, Weighed};
use crate::retriever::{HeadQuery, HeadRetriever, Proposal, Scratch};
use crate::search::Searched;
pub use crate::search::{HeadStep, Layout};

/// The work and the memory of one (sequence, KV head) in one step; reused from layer to layer and token to token.
#[derive(Default)]
pub struct HeadDecode {
    searched: Searched,
    scored: Scored,
    weighed: Weighed,
    selected: Selected,
    unselected: UnselectedMean,
    attended: Attended,
    merged: Merged,
}

impl HeadDecode {
    /// Takes the query of this layer and asks `search` what to score; see [`Searched::search`]. Makes room for the scores.
    pub fn search(&mut self, kernels: &Kernels, step: &HeadStep, search: impl FnOnce(HeadQuery<'_>, &mut Scratch, &mut Proposal)) {
        self.searched.search(kernels, step, search);
        self.scored.make_room(&self.searched);
        self.weighed.make_room(&self.searched);
        self.unselected.clear();
    }

    /// What the search gave.
    pub fn searched(&self) -> &Searched {
        &self.searched
    }

    /// The query of this layer, f32 `[group, head_dim]`, when it read everything because nothing indexed was like it.
    pub fn repairs(&self) -> Option<&[f32]> {
        self.searched.repairs.then_some(&self.searched.query)
    }

    /// Exact scores of one part of the candidates.
    ///
    /// # Safety
    /// After `search`. Several threads may run different parts at once, and nothing else.
    pub unsafe fn score(&self, kernels: &Kernels, kv: &HeadKv, part: Part) {
        // SAFETY: room was made by the search; the rest is the caller's.
        unsafe { self.scored.score(kernels, &self.searched, kv, part) };
    }

    /// Softmax of one part's query heads.
    ///
    /// # Safety
    /// After every part of `score`. Several threads may run different parts at once, and nothing else.
    pub unsafe fn weigh(&self, kernels: &Kernels, part: Part) {
        // SAFETY: room was made by the search; the rest is the caller's.
        unsafe { self.weighed.weigh(kernels, &self.searched, &self.scored, part) };
    }

    /// Chooses among the candidates, and makes room for the results of attention. `head`: the one that proposed them.
    pub fn select(&mut self, kernels: &Kernels, head: Option<&dyn HeadRetriever>) {
        let weights = Weights { scored: &self.scored, weighed: &self.weighed };
        self.selected.select(kernels, &mut self.searched, weights, head);
        self.attended.make_room(&self.searched, &self.selected);
    }

    /// Mean value of what was scored but not selected, where every key is scored. `head`: the one that proposed them.
    ///
    /// # Safety
    /// Once after `select`; parts of `attend` may run at the same time, and nothing else.
    pub unsafe fn average_unselected(&self, kernels: &Kernels, head: Option<&dyn HeadRetriever>) {
        // SAFETY: the caller's.
        unsafe { self.unselected.average(kernels, &self.searched, &self.scored, &self.selected, head) };
    }

    /// Attention over one part of the splits of what is read.
    ///
    /// # Safety
    /// After `select`. Several threads may run different parts at once, and nothing else but `average_unselected`.
    pub unsafe fn attend(&self, kernels: &Kernels, kv: &HeadKv, part: Part, scratch: &mut AttendScratch) {
        let chosen = Chosen { searched: &self.searched, weighed: &self.weighed, selected: &self.selected };
        // SAFETY: room was made by the choice; the rest is the caller's.
        unsafe { self.attended.attend(kernels, chosen, kv, part, scratch) };
    }

    /// Merges the splits and the tail, writes the output f32 `[group, head_dim]`, and adds to the counters. With `audit`, scratch of at least
    /// group * [`crate::attention::attend::PASS`] values, also measures the share of the true attention mass that was read, over all keys.
    pub fn finish(
        &mut self,
        kernels: &Kernels,
        kv: &HeadKv,
        out: &mut [f32],
        counters: &mut SelectionCounters,
        audit: Option<&mut [f32]>,
    ) {
        let Self { searched, selected, unselected, attended, merged, .. } = self;
        merged.merge(kernels, Parts { searched, selected, unselected, attended }, kv, out, counters, audit);
    }

    /// Adds where this head's attention went, passage by passage; after `finish`. See [`add_to_read_map`].
    pub fn add_to_read_map(&self, kernels: &Kernels, kv: &HeadKv, scratch: &mut [f32], passages: &mut [f32]) {
        let chosen = Chosen { searched: &self.searched, weighed: &self.weighed, selected: &self.selected };
        add_to_read_map(kernels, chosen, &self.merged, kv, scratch, passages);
    }

    /// Positions whose values are read beside sinks and window, ascending; after `select`.
    pub fn selected(&self) -> &[u32] {
        self.selected.positions()
    }

    /// What was scored and not selected `[group]`; empty where everything was selected. After `select`.
    pub fn dropped(&self) -> &[SoftmaxTotal] {
        self.selected.dropped()
    }

    /// log-sum-exp over the keys of all positions below `len`, `[group]`, after `search`. `scratch`: as [`HeadDecode::finish`]'s.
    pub fn dense_lses(&self, kernels: &Kernels, kv: &HeadKv, len: usize, scratch: &mut [f32]) -> Vec<f32> {
        dense_lses(kernels, kv, &self.searched, len, scratch)
    }

    /// Estimated share of the attention that was read `[group]`; after `finish`.
    pub fn masses(&self) -> &[f32] {
        self.merged.masses()
    }

    /// log-sum-exp of everything in the output, for one head; after `finish`.
    pub fn lse(&self, h: usize) -> f32 {
        self.attended.total().lse(h)
    }
}
