//! The choice among scored candidates.

use ctkvr_kernels::Kernels;

use crate::refine::score::Scored;
use crate::refine::top_k::TopK;
use crate::refine::weigh::{SoftmaxTotal, Weighed};
use crate::retriever::{HeadRetriever, UNDRAWN};
use crate::search::Searched;
use crate::sum::sum_of;

/// What is read of the region, and the weight of what is not.
#[derive(Default)]
pub struct Selected {
    /// Ascending.
    positions: Vec<u32>,
    /// f32 `[group, positions]`: scores, or, where the choice needed them anyway, e^(score - maximum).
    scores: Vec<f32>,
    /// What was scored but not selected `[group]`; empty where everything was selected.
    dropped: Vec<SoftmaxTotal>,
    /// Of a random choice `[group]`; else empty.
    drawn: Vec<Drawn>,
    /// Normalised weights summed over the group `[num_candidates]`.
    group_weights: Vec<f32>,
    top_k: TopK,
}

/// The stages before, all done.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub scored: &'a Scored,
    pub weighed: &'a Weighed,
}

/// Log-sum-exp of drawn scores, and of what they stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    pub exact: f32,
    pub estimate: f32,
}

impl Selected {
    /// Chooses among the candidates. `head`: the one that proposed them.
    pub fn select(&mut self, kernels: &Kernels, searched: &mut Searched, weights: Weights, head: Option<&dyn HeadRetriever>) {
        let Weights { scored, weighed } = weights;
        let n = searched.num_candidates;
        self.positions.clear();
        self.scores.clear();
        self.dropped.clear();
        self.drawn.clear();
        if searched.chooses {
            let weights = scored.values(searched);
            self.sum_over_group(kernels, n, weights, weighed.totals());
            let top_p = searched.layout.top_p;
            let enough = if top_p < 1.0 { self.top_k.count_reaching(&self.group_weights, top_p) } else { n };
            self.top_k.select(kernels, &self.group_weights, searched.most_selected.min(enough), &mut self.positions);
            self.gather_weights(n, weights);
            if self.positions.len() < n {
                self.sum_dropped(weighed.totals());
            }
        } else if n > 0 {
            self.positions.extend(0..n as u32);
            self.scores.extend_from_slice(scored.values(searched));
            if let Some(head) = head {
                self.reweigh(kernels, searched, scored, head);
            }
        }
        searched.locate(&mut self.positions);
    }

    /// Softmax weights, each head normalised, summed over the group.
    fn sum_over_group(&mut self, kernels: &Kernels, n: usize, weights: &[f32], totals: &[SoftmaxTotal]) {
        self.group_weights.clear();
        self.group_weights.resize(n, 0.0);
        for (weights, total) in weights.chunks_exact(n).zip(totals) {
            kernels.add_scaled(weights, 1.0 / total.sum, &mut self.group_weights);
        }
    }

    /// The weights of what was chosen: attention needs no exponentials of it any more.
    fn gather_weights(&mut self, n: usize, weights: &[f32]) {
        for weights in weights.chunks_exact(n) {
            self.scores.extend(self.positions.iter().map(|&i| weights[i as usize]));
        }
    }

    /// Lets a method that drew its candidates at random turn their scores into an estimate; all of them are selected.
    fn reweigh(&mut self, kernels: &Kernels, searched: &mut Searched, scored: &Scored, head: &dyn HeadRetriever) {
        let (query, proposal, scratch) = searched.parts(kernels);
        if !head.reweigh(&query, proposal, scratch, &mut self.scores) {
            return;
        }
        let n = searched.num_candidates;
        for (exact, estimate) in scored.values(searched).chunks_exact(n).zip(self.scores.chunks_exact(n)) {
            let drawn = || exact.iter().zip(estimate).filter(|(_, e)| **e > UNDRAWN);
            self.drawn.push(Drawn { exact: lse(drawn().map(|(x, _)| *x)), estimate: lse(drawn().map(|(_, e)| *e)) });
        }
    }

    /// Weight of what was scored but not selected: all minus selected. The difference is good to rounding of the whole, which is
    /// what it is added to.
    fn sum_dropped(&mut self, totals: &[SoftmaxTotal]) {
        for (weights, &SoftmaxTotal { max, sum }) in self.scores.chunks_exact(self.positions.len()).zip(totals) {
            self.dropped.push(SoftmaxTotal { max, sum: (sum - sum_of(weights)).max(0.0) });
        }
    }

    /// Positions whose values are read beside sinks and window, ascending.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// f32 `[group, positions]`; see the field.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// `[group]`, or empty; see the field.
    pub fn dropped(&self) -> &[SoftmaxTotal] {
        &self.dropped
    }

    /// Of a random choice, for one head.
    pub fn drawn(&self, h: usize) -> Option<Drawn> {
        self.drawn.get(h).copied()
    }
}

/// log of the sum of e^score; -infinity for none.
fn lse(scores: impl Iterator<Item = f32> + Clone) -> f32 {
    let max = scores.clone().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY { max } else { max + scores.map(|s| (s - max).exp()).sum::<f32>().ln() }
}
