//! Exact scores of candidates.

use ctkvr_kernels::Kernels;

use crate::kv::head_kv::HeadKv;
use crate::part::{Part, Shared};
use crate::search::Searched;

/// Scores of all candidates; never shrinks. Where the best are chosen, [`crate::refine::weigh::Weighed`] turns them into weights in place, as
/// both together would not fit in the first-level cache.
#[derive(Default)]
pub struct Scored {
    /// f32 `[group, num_candidates]`, and room of longer steps.
    values: Vec<f32>,
    /// Where the threads write: the start of `values`.
    out: Shared<f32>,
}

impl Scored {
    /// Makes room for what the search proposed.
    pub fn make_room(&mut self, searched: &Searched) {
        self.values.resize(self.values.len().max(searched.num_candidates * searched.group), 0.0);
        self.out = Shared::of(&mut self.values);
    }

    /// Exact scores of one part of the candidates.
    ///
    /// # Safety
    /// After `make_room` for the same search. Parts write disjoint scores: several threads may run different parts at once, and nothing else.
    pub unsafe fn score(&self, kernels: &Kernels, searched: &Searched, kv: &HeadKv, part: Part) {
        let range = part.of(searched.num_candidates);
        // The next part is as a rule this thread's as well.
        let rows = searched.candidate_keys(kv).part(range.start, range.len());
        // SAFETY: scores hold group rows of num_candidates; this part's columns are nobody else's.
        unsafe {
            let out = self.out.start().add(range.start);
            kernels.score_rows_into_columns(&searched.scaled, &rows, out, searched.num_candidates);
        }
    }

    /// f32 `[group, num_candidates]`.
    pub fn values(&self, searched: &Searched) -> &[f32] {
        &self.values[..searched.group * searched.num_candidates]
    }

    /// Where [`Scored::values`] begins, for who has some of them to itself.
    pub(crate) fn start(&self) -> *mut f32 {
        self.out.start()
    }
}
