//! Attention over what a decode step reads: sinks, window and selected, in splits that any number of threads share.

use std::ops::Range;

use ctkvr_kernels::Kernels;

use crate::attention::partial::Partial;
use crate::kv::head_kv::HeadKv;
use crate::part::{Part, Shared};
use crate::refine::select::Selected;
use crate::refine::weigh::Weighed;
use crate::search::Searched;

/// Rows that attention reads as one split, into a sum of its own; these are added up in their order. What a sequence's sums look like so
/// depends on what it reads alone, never on how many threads share the work.
pub const SPLIT: usize = 256;
/// Keys that are scored in one go, and held: whole splits.
pub const PASS: usize = 4 * SPLIT;

/// The stages before, all done.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    pub searched: &'a Searched,
    pub weighed: &'a Weighed,
    pub selected: &'a Selected,
}

/// Sums of what was read, split by split.
#[derive(Default)]
pub struct Attended {
    /// Rows that are read: sinks, window, selected.
    num_rows: usize,
    /// One for each split of them; never shrinks.
    partials: Vec<Partial>,
    /// Where the threads write: the start of `partials`.
    out: Shared<Partial>,
}

impl Attended {
    /// Makes room for what was selected.
    pub fn make_room(&mut self, searched: &Searched, selected: &Selected) {
        self.num_rows = searched.layout.num_always() + selected.positions().len();
        self.partials.resize(self.partials.len().max(self.num_splits()), Partial::default());
        self.out = Shared::of(&mut self.partials);
    }

    /// Splits of what is read.
    fn num_splits(&self) -> usize {
        self.num_rows.div_ceil(SPLIT).max(1)
    }

    /// Attention over one part of the splits of what is read: sinks, window and selected, in this order. `scratch.scores` f32, at least
    /// group * `PASS`.
    ///
    /// # Safety
    /// After `make_room` for the same choice. Each split has its own partial: several threads may run different parts at once, and nothing
    /// else but [`crate::refine::unselected::UnselectedMean::average`].
    pub unsafe fn attend(&self, kernels: &Kernels, chosen: Chosen, kv: &HeadKv, part: Part, scratch: &mut AttendScratch) {
        let Searched { layout, group, head_dim, .. } = *chosen.searched;
        let splits = part.of(self.num_splits());
        let [sinks, window] = layout.always();
        let read = Read { sinks, window, rows: splits.start * SPLIT..self.num_rows.min(splits.end * SPLIT) };
        for first in read.rows.clone().step_by(PASS) {
            let pass = first..read.rows.end.min(first + PASS);
            score_always(kernels, chosen.searched, kv, &read, pass.clone(), &mut scratch.scores);
            for start in pass.clone().step_by(SPLIT) {
                // SAFETY: the split's own partial.
                let total = unsafe { &mut *self.out.start().add(start / SPLIT) };
                total.reset(group, head_dim);
                attend_split(kernels, chosen, kv, &read, (start, &pass), total, scratch);
            }
        }
    }

    /// Sums all splits up in the first, in their order, and returns it.
    pub fn merge_splits(&mut self) -> &mut Partial {
        let num_splits = self.num_splits();
        let (first, others) = self.partials[..num_splits].split_at_mut(1);
        others.iter().for_each(|p| first[0].merge(p));
        &mut first[0]
    }

    /// All of what was read, after [`Attended::merge_splits`].
    pub fn total(&self) -> &Partial {
        &self.partials[0]
    }
}

/// Scores of a pass's sinks and window, f32 `[group]` rows of `PASS`, each in its place.
fn score_always(kernels: &Kernels, searched: &Searched, kv: &HeadKv, read: &Read, pass: Range<usize>, scores: &mut [f32]) {
    for (keys, place) in [read.sinks_in(&pass), read.window_in(&pass)] {
        if !keys.is_empty() {
            let columns = &mut scores[place - pass.start..];
            kernels.score_rows(&searched.scaled, &kv.keys(keys.start, keys.len()), columns, PASS);
        }
    }
}

/// One split of a pass. Values that the thread reads next are asked for ahead.
fn attend_split(
    kernels: &Kernels,
    Chosen { searched, weighed, selected }: Chosen,
    kv: &HeadKv,
    read: &Read,
    (start, pass): (usize, &Range<usize>),
    total: &mut Partial,
    scratch: &mut AttendScratch,
) {
    let (group, head_dim) = (searched.group, searched.head_dim);
    let split = start..pass.end.min(start + SPLIT);
    let next = start..pass.end;
    for ((run, place), (ahead, _)) in
        [(read.sinks_in(&split), read.sinks_in(&next)), (read.window_in(&split), read.window_in(&next))]
    {
        if !run.is_empty() {
            let scores = &mut scratch.scores[place - pass.start..];
            scratch.partial.reset(group, head_dim);
            scratch.partial.attend(kernels, scores, PASS, &kv.values(run.start, ahead.len()).part(0, run.len()));
            total.merge(&scratch.partial);
        }
    }
    let run = read.selected_in(&split);
    if run.is_empty() {
        return;
    }
    let ahead = read.selected_in(&(start..read.rows.end));
    // SAFETY: candidates lie in the region, which is stored: the search checked them.
    let values = unsafe { kv.values_at(&selected.positions()[ahead]) }.part(0, run.len());
    scratch.partial.reset(group, head_dim);
    if searched.chooses {
        // The choice left weights.
        let (weights, maxima) = (&selected.scores()[run.start..], weighed.totals().iter().map(|total| total.max));
        scratch.partial.attend_weighted(kernels, weights, selected.positions().len(), maxima, &values);
    } else {
        for (h, scores) in selected.scores().chunks_exact(selected.positions().len()).enumerate() {
            scratch.scores[h * PASS..h * PASS + run.len()].copy_from_slice(&scores[run.clone()]);
        }
        scratch.partial.attend(kernels, &mut scratch.scores, PASS, &values);
    }
    total.merge(&scratch.partial);
}

/// One thread's memory for [`Attended::attend`].
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

/// Of `range`, which stands at `offset` in a row of things, what lies in `mine`.
fn overlap(mine: &Range<usize>, offset: usize, range: Range<usize>) -> Range<usize> {
    let clamp = |x: usize| x.clamp(offset, offset + range.len()) - offset + range.start;
    clamp(mine.start)..clamp(mine.end)
}
