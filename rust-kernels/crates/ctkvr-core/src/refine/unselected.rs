//! Mean value of what was scored and not selected, where every key is scored.

use std::cell::UnsafeCell;

use ctkvr_kernels::Kernels;

use crate::refine::score::Scored;
use crate::refine::select::Selected;
use crate::retriever::{HeadRetriever, ProposedTail, Scratch};
use crate::search::Searched;

/// Made by one thread while others attend.
#[derive(Default)]
pub struct UnselectedMean(UnsafeCell<Mean>);

#[derive(Default)]
struct Mean {
    /// f32 `[group, head_dim]`.
    value: Vec<f32>,
    /// Bytes of index read for it.
    bytes_read: usize,
    scratch: Scratch,
}

impl UnselectedMean {
    /// Before a step.
    pub fn clear(&mut self) {
        self.0.get_mut().bytes_read = 0;
    }

    /// Makes the mean where the tail wants it. `head`: the one that proposed the candidates. Overwrites the weights of what was selected.
    ///
    /// # Safety
    /// Once after the choice, by one thread; others may attend at the same time, and nothing else.
    pub unsafe fn average(
        &self,
        kernels: &Kernels,
        searched: &Searched,
        scored: &Scored,
        selected: &Selected,
        head: Option<&dyn HeadRetriever>,
    ) {
        let is_wanted = searched.proposal.tail == ProposedTail::Scored && !selected.dropped().is_empty();
        let Some(head) = head.filter(|_| is_wanted) else { return };
        // SAFETY: attention reads neither these weights, of which it has its own copy, nor the mean.
        let (weights, mean) = unsafe {
            let len = searched.group * searched.num_candidates;
            (std::slice::from_raw_parts_mut(scored.start(), len), &mut *self.0.get())
        };
        for weights in weights.chunks_exact_mut(searched.num_candidates) {
            selected.positions().iter().for_each(|&p| weights[p as usize - searched.layout.start] = 0.0);
        }
        mean.bytes_read = head.mean_of_unselected(kernels, weights, &mut mean.scratch, &mut mean.value);
    }

    /// f32 `[group, head_dim]`.
    pub fn value(&mut self) -> &[f32] {
        &self.0.get_mut().value
    }

    /// Bytes of index read for it in this step.
    pub fn bytes_read(&mut self) -> usize {
        self.0.get_mut().bytes_read
    }
}
