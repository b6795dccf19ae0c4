//! Softmax over the candidates, where the best are chosen.

use ctkvr_kernels::Kernels;

use crate::part::{Part, Shared};
use crate::refine::score::Scored;
use crate::search::Searched;

/// A head's largest score, and the sum of e^(score - largest).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SoftmaxTotal {
    pub max: f32,
    pub sum: f32,
}

/// Each query head's total. The weights, e^(score - largest), stand in the place of the scores.
#[derive(Default)]
pub struct Weighed {
    /// `[group]`.
    totals: Vec<SoftmaxTotal>,
    /// Where the threads write: the start of `totals`.
    out: Shared<SoftmaxTotal>,
}

impl Weighed {
    /// Makes room for what the search proposed.
    pub fn make_room(&mut self, searched: &Searched) {
        self.totals.resize(searched.group, SoftmaxTotal::default());
        self.out = Shared::of(&mut self.totals);
    }

    /// Weighs one part's query heads; nothing where every candidate is read.
    ///
    /// # Safety
    /// After every part of `scored`. Parts write disjoint heads: several threads may run different parts at once, and nothing else.
    pub unsafe fn weigh(&self, kernels: &Kernels, searched: &Searched, scored: &Scored, part: Part) {
        if !searched.chooses {
            return;
        }
        let n = searched.num_candidates;
        for h in part.of(searched.group) {
            // SAFETY: the head's own scores, max bounds them, and its own total.
            unsafe {
                let weights = std::slice::from_raw_parts_mut(scored.start().add(h * n), n);
                let max = kernels.max(weights);
                *self.out.start().add(h) = SoftmaxTotal { max, sum: kernels.exp_sub(weights, max) };
            }
        }
    }

    /// `[group]`; as they were before where every candidate is read.
    pub fn totals(&self) -> &[SoftmaxTotal] {
        &self.totals
    }
}
