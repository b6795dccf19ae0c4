//! Quest (Tang et al. 2024, arXiv 2406.10774) as a selector: of each page of 16 positions the smallest and the largest value in every
//! dimension of its keys are kept; they bound the score that any key of the page can have, and the pages of highest bound are read whole
//! (section 3). As in the authors' code: pages of 16, the first two layers dense. Ours: the budget, `max_selected` positions in whole
//! pages, does not count sinks and window, and query heads that share keys have one choice, by the sum of their bounds (the paper's models
//! share none).

use crate::error::Result;
use crate::kv::head_kv::HeadKv;
use crate::kv::panels::widen_rows;
use crate::refine::top_k::TopK;
use crate::selector::{Candidates, HeadSelector, Proposal, Query};
use ctkvr_kernels::{Kernels, KvFormat, Rows};

/// Positions of one page. Not the pages of the KV store.
pub const QUEST_PAGE: usize = 16;
/// Layers that read everything.
pub const QUEST_DENSE_LAYERS: usize = 2;

/// One KV head's page summaries.
pub struct Quest {
    /// Row p: largest values of page p as key, smallest as value; of keys in f16 they are the keys' own values, so nothing is rounded.
    summaries: HeadKv,
    num_pages: usize,
    start: usize,
    len: usize,
}

impl Quest {
    /// `keys`: the region's, in order, whose first is at position `start`.
    pub fn build(kernels: &Kernels, keys: &Rows, start: usize) -> Result<Self> {
        let (d, len) = (keys.head_dim(), keys.len());
        let num_pages = len.div_ceil(QUEST_PAGE);
        let mut summaries = HeadKv::new(d, KvFormat::F16);
        summaries.reserve(0, num_pages)?;
        let mut row = vec![0.0; d];
        let (mut largest, mut smallest) = (vec![0.0; d], vec![0.0; d]);
        for page in 0..num_pages {
            largest.fill(f32::NEG_INFINITY);
            smallest.fill(f32::INFINITY);
            for i in page * QUEST_PAGE..((page + 1) * QUEST_PAGE).min(len) {
                widen_rows(kernels, keys, i, 1, &mut row);
                for ((max, min), x) in largest.iter_mut().zip(&mut smallest).zip(&row) {
                    *max = max.max(*x);
                    *min = min.min(*x);
                }
            }
            // SAFETY: reserved above, and nobody else has the pages.
            unsafe { summaries.store(kernels, page, largest.as_ptr(), smallest.as_ptr()) };
        }
        Ok(Self { summaries, num_pages, start, len })
    }

    /// Sum over the group of each page's bound, less the smallest one: what the choice needs, without negative numbers.
    fn bounds(&self, query: &Query, scratch: &mut QuestScratch) {
        let (n, d) = (self.num_pages, self.summaries.keys(0, 0).head_dim());
        let group = query.scaled.len() / d;
        scratch.bounds.clear();
        scratch.bounds.resize(n, 0.0);
        scratch.scores.resize(group * n, 0.0);
        // q.k is at most the sum of q's positive parts times the largest values and its negative parts times the smallest.
        for (positive, rows) in [(true, self.summaries.keys(0, n)), (false, self.summaries.values(0, n))] {
            scratch.part.clear();
            scratch.part.extend(query.scaled.iter().map(|x| if positive { x.max(0.0) } else { x.min(0.0) }));
            // SAFETY: the scores hold group rows of n.
            unsafe { (query.kernels.score_rows)(scratch.part.as_ptr(), group, &rows, scratch.scores.as_mut_ptr(), n) };
            for row in scratch.scores[..group * n].chunks_exact(n) {
                // SAFETY: both hold n values.
                unsafe { (query.kernels.add_scaled)(row.as_ptr(), n, 1.0, scratch.bounds.as_mut_ptr()) };
            }
        }
        let least = scratch.bounds.iter().copied().fold(f32::INFINITY, f32::min);
        scratch.bounds.iter_mut().for_each(|b| *b -= least);
    }
}

/// Reused memory of a choice.
#[derive(Default)]
pub struct QuestScratch {
    part: Vec<f32>,
    scores: Vec<f32>,
    bounds: Vec<f32>,
    pages: Vec<u32>,
    top_k: TopK,
}

impl HeadSelector for Quest {
    fn propose(&self, query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::Listed;
        out.positions.clear();
        let scratch = &mut out.quest;
        self.bounds(query, scratch);
        let keep = if query.max_selected == 0 { self.num_pages } else { (query.max_selected / QUEST_PAGE).max(1) };
        scratch.top_k.select(query.kernels, &scratch.bounds, keep, &mut scratch.pages);
        for &page in &scratch.pages {
            let first = page as usize * QUEST_PAGE;
            let positions = first..(first + QUEST_PAGE).min(self.len);
            out.positions.extend(positions.map(|p| (self.start + p) as u32));
        }
        out.reads_all = true;
        out.num_probed = scratch.pages.len();
        out.bytes_read = 2 * size_of::<u16>() * self.num_pages * self.summaries.keys(0, 0).head_dim();
    }
    fn bytes(&self) -> usize {
        self.summaries.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, store, tables};

    const D: usize = 16;
    const START: usize = 5;

    /// Positions of the pages of highest bound, from the definition. Small integers: every sum is exact, in any order.
    fn plain(keys: &[f32], query: &[f32], max_selected: usize) -> Vec<u32> {
        let n = keys.len() / D;
        let bound = |page: usize| {
            let rows = page * QUEST_PAGE..((page + 1) * QUEST_PAGE).min(n);
            let of_head =
                |q: &[f32]| (0..D).map(|c| rows.clone().map(|i| q[c] * keys[i * D + c]).fold(f32::MIN, f32::max)).sum::<f32>();
            query.chunks_exact(D).map(of_head).sum::<f32>()
        };
        let mut pages: Vec<usize> = (0..n.div_ceil(QUEST_PAGE)).collect();
        pages.sort_by(|&a, &b| bound(b).total_cmp(&bound(a)).then(a.cmp(&b)));
        if max_selected > 0 {
            pages.truncate((max_selected / QUEST_PAGE).max(1));
        }
        let mut positions: Vec<u32> =
            pages.iter().flat_map(|p| p * QUEST_PAGE..((p + 1) * QUEST_PAGE).min(n)).map(|i| (START + i) as u32).collect();
        positions.sort_unstable();
        positions
    }

    #[test]
    fn reads_the_pages_that_the_definition_names() -> Result<()> {
        for kernels in tables(D) {
            for (seed, n) in [1, 2, 15, 16, 17, 160, 333, 1000].into_iter().enumerate() {
                // Few different values: many bounds tie.
                for most in [1, 6] {
                    let mut random = Random(seed as u64);
                    let stored = random.integers((START + n) * D, most);
                    let kv = store(&stored, &stored, D);
                    let quest = Quest::build(kernels, &kv.keys(START, n), START)?;
                    for (group, max_selected) in [(1, 32), (3, 64), (3, 7), (5, 0), (2, 10_000)] {
                        let scaled = random.integers(group * D, 3);
                        let mut out = Proposal::default();
                        quest.propose(&Query { query: &scaled, scaled: &scaled, max_selected, kernels }, &mut out);
                        let what = format!("{} n {n} seed {seed} most {most} group {group} of {max_selected}", kernels.name);
                        assert_eq!(out.positions, plain(&stored[START * D..], &scaled, max_selected), "{what}");
                        assert_eq!(out.num_probed, out.positions.len().div_ceil(QUEST_PAGE), "{what}");
                        assert_eq!(out.bytes_read, n.div_ceil(QUEST_PAGE) * 2 * D * 2, "{what}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_bound_is_no_less_than_any_score_of_its_page() -> Result<()> {
        let mut random = Random(7);
        let stored = random.integers(100 * D, 9);
        let kv = store(&stored, &stored, D);
        for kernels in tables(D) {
            let quest = Quest::build(kernels, &kv.keys(0, 100), 0)?;
            let query = random.integers(D, 4);
            let (mut scratch, mut scores) = (QuestScratch::default(), vec![0.0; 100]);
            quest.bounds(&Query { query: &query, scaled: &query, max_selected: 0, kernels }, &mut scratch);
            // SAFETY: one head, 100 scores.
            unsafe { (kernels.score_rows)(query.as_ptr(), 1, &kv.keys(0, 100), scores.as_mut_ptr(), 100) };
            // Bounds are given less the smallest one: the best page's gap to its best score tells by how much.
            let pages: Vec<f32> = scores.chunks(QUEST_PAGE).map(|p| p.iter().copied().fold(f32::MIN, f32::max)).collect();
            let full: Vec<f32> = (0..pages.len())
                .map(|p| {
                    let rows = p * QUEST_PAGE..((p + 1) * QUEST_PAGE).min(100);
                    (0..D).map(|c| rows.clone().map(|i| query[c] * stored[i * D + c]).fold(f32::MIN, f32::max)).sum()
                })
                .collect();
            let least = full.iter().copied().fold(f32::MAX, f32::min);
            for (p, best) in pages.iter().enumerate() {
                assert_eq!(scratch.bounds[p], full[p] - least, "{} page {p}", kernels.name);
                assert!(full[p] >= *best, "{} page {p}: bound {} below {best}", kernels.name, full[p]);
            }
        }
        Ok(())
    }
}
