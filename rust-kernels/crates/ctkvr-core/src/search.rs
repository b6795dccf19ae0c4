//! The first stage of a head's decode step: its query, what the method proposes to score, and how much of that may be read.

use std::ops::Range;

use ctkvr_kernels::{Kernels, Rows};

use crate::kv::head_kv::HeadKv;
use crate::retriever::{Candidates, HeadQuery, Proposal, ProposedTail, Scratch};

/// What the step reads always, and where the region lies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    /// Tokens stored, this one included.
    pub len: usize,
    /// The method's region, `start..end`; sinks lie before, window after. Empty: everything is read.
    pub start: usize,
    pub end: usize,
    /// 0 = all candidates are read.
    pub max_selected: usize,
    /// Share of the candidates' weight that is enough; 1 = as many as `max_selected` allows.
    pub top_p: f64,
}

impl Layout {
    /// Of a layer that sees `window` positions, the last ones: the region is what it does not see, and nothing of that is ever a candidate.
    pub fn local(len: usize, window: usize) -> Self {
        Self { len, start: 0, end: len.saturating_sub(window), max_selected: 0, top_p: 1.0 }
    }

    /// Positions of the region.
    pub fn region_len(&self) -> usize {
        self.end - self.start
    }

    /// Sinks and window: what is read always. Where that is everything, one of them is empty.
    pub fn always(&self) -> [Range<usize>; 2] {
        if self.start == self.end { [0..self.len, self.len..self.len] } else { [0..self.start, self.end..self.len] }
    }

    /// Positions that are read always.
    pub fn num_always(&self) -> usize {
        self.len - self.region_len()
    }
}

/// What is asked of one head.
#[derive(Clone, Copy)]
pub struct HeadStep<'a> {
    /// f32 `[group, head_dim]`, after rotary embedding.
    pub query: &'a [f32],
    pub group: usize,
    pub layout: Layout,
    /// Whether a query that is unlike everything indexed reads everything.
    pub may_repair: bool,
}

/// What the search gave.
#[derive(Default)]
pub struct Searched {
    pub group: usize,
    pub head_dim: usize,
    pub layout: Layout,
    /// f32 `[group, head_dim]`.
    pub query: Vec<f32>,
    /// The same times 1/sqrt(head_dim).
    pub scaled: Vec<f32>,
    pub proposal: Proposal,
    scratch: Scratch,
    /// Whether everything is read because the query is an outlier.
    pub repairs: bool,
    pub num_candidates: usize,
    /// Most candidates whose values are read.
    pub most_selected: usize,
    /// Whether so many, or those that reach a share of the weight, are chosen out of more.
    pub chooses: bool,
}

impl Searched {
    /// Takes the query of this layer and asks `search`, which fills a cleared proposal; one that does nothing proposes nothing.
    ///
    /// # Panics
    /// When it proposes a position outside the region: what follows reads keys by their positions, and a method may be anybody's.
    pub fn search(&mut self, kernels: &Kernels, step: &HeadStep, search: impl FnOnce(HeadQuery<'_>, &mut Scratch, &mut Proposal)) {
        let HeadStep { query, group, layout, may_repair } = *step;
        self.group = group;
        self.head_dim = query.len() / group;
        self.layout = layout;
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        self.query.clear();
        self.query.extend_from_slice(query);
        self.scaled.clear();
        self.scaled.extend(query.iter().map(|x| x * scale));
        self.proposal.clear();
        let asked = HeadQuery { query: &self.query, scaled: &self.scaled, group, max_selected: layout.max_selected, kernels };
        search(asked, &mut self.scratch, &mut self.proposal);
        self.repairs = may_repair && self.proposal.is_outlier;
        if self.repairs {
            self.proposal.candidates = Candidates::All;
            self.proposal.tail = ProposedTail::None;
        }
        let n = match self.proposal.candidates {
            Candidates::None => 0,
            Candidates::Region | Candidates::All => layout.region_len(),
            Candidates::Listed => {
                // Without a branch for each: thousands of positions a head.
                let (start, len) = (layout.start as u32, layout.region_len() as u32);
                let is_outside = self.proposal.positions.iter().fold(false, |any, p| any | (p.wrapping_sub(start) >= len));
                assert!(!is_outside, "a retriever proposed positions outside its region");
                self.proposal.positions.len()
            }
        };
        let all = self.proposal.reads_all || self.proposal.candidates == Candidates::All;
        self.num_candidates = n;
        self.most_selected = if all || layout.max_selected == 0 { n } else { layout.max_selected.min(n) };
        self.chooses = n > 0 && (self.most_selected < n || (!all && layout.top_p < 1.0));
    }

    /// Keys of all candidates, in their order.
    pub fn candidate_keys<'a>(&'a self, kv: &'a HeadKv) -> Rows<'a> {
        match self.proposal.candidates {
            // SAFETY: the search checked that they lie in the region, which is stored.
            Candidates::Listed => unsafe { kv.keys_at(&self.proposal.positions) },
            _ => kv.keys(self.layout.start, self.num_candidates),
        }
    }

    /// Scored positions, ascending, when the method listed them; else none.
    pub fn candidates(&self) -> &[u32] {
        if self.proposal.candidates == Candidates::Listed { &self.proposal.positions } else { &[] }
    }

    /// Turns indexes of candidates into positions.
    pub fn locate(&self, indexes: &mut [u32]) {
        match self.proposal.candidates {
            Candidates::Listed => indexes.iter_mut().for_each(|i| *i = self.proposal.positions[*i as usize]),
            _ => indexes.iter_mut().for_each(|i| *i += self.layout.start as u32),
        }
    }

    /// The query as it was searched for, the proposal, and the search's scratch: for [`crate::retriever::HeadRetriever::reweigh`].
    pub fn parts<'a>(&'a mut self, kernels: &'a Kernels) -> (HeadQuery<'a>, &'a Proposal, &'a mut Scratch) {
        let (group, max_selected) = (self.group, self.layout.max_selected);
        let query = HeadQuery { query: &self.query, scaled: &self.scaled, group, max_selected, kernels };
        (query, &self.proposal, &mut self.scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::tables;

    fn search(positions: &[u32]) -> Searched {
        let layout = Layout { len: 100, start: 10, end: 80, ..Layout::default() };
        let step = HeadStep { query: &[0.5; 16], group: 1, layout, may_repair: false };
        let mut searched = Searched::default();
        searched.search(tables(16)[0], &step, |_, _, out| {
            out.candidates = Candidates::Listed;
            out.positions.extend_from_slice(positions);
        });
        searched
    }

    #[test]
    fn the_region_may_be_proposed_whole() {
        assert_eq!(search(&(10..80).collect::<Vec<_>>()).num_candidates, 70);
        assert_eq!(search(&[]).num_candidates, 0);
    }

    #[test]
    #[should_panic(expected = "outside its region")]
    fn a_sink_is_not_to_be_proposed() {
        search(&[9, 10]);
    }

    #[test]
    #[should_panic(expected = "outside its region")]
    fn nor_what_is_in_the_window() {
        search(&[10, 80]);
    }
}
