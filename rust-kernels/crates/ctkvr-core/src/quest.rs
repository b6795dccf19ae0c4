//! Quest (Tang et al. 2024, arXiv 2406.10774) as a selector: of each page of 16 positions the smallest and the largest value in every
//! dimension of its keys are kept; they bound the score that any key of the page can have, and the pages of highest bound are read whole.
//! As published: pages of 16, `max_selected` tokens in all, the first two layers dense. Query heads that share keys have one choice, by
//! the mean of their bounds.

use crate::error::Result;
use crate::kernels::{Kernels, Rows};
use crate::kv::HeadKv;
use crate::options::SelectorOptions;
use crate::selector::{Candidates, HeadSelector, Proposal, Query};
use crate::top_k::TopK;

/// Positions of one page. Not the pages of the KV store.
pub(crate) const QUEST_PAGE: usize = 16;
/// Layers that read everything.
pub(crate) const QUEST_DENSE_LAYERS: usize = 2;

/// One KV head's page summaries.
pub(crate) struct Quest {
    /// Row p: largest values of page p as key, smallest as value; they are keys' own f16 values, so nothing is rounded.
    summaries: HeadKv,
    num_pages: usize,
    start: usize,
    len: usize,
    /// 0 = all.
    max_pages: usize,
}

impl Quest {
    /// `keys`: the region's, in order, whose first is at position `start`.
    pub(crate) fn build(kernels: &Kernels, keys: &Rows, start: usize, options: &SelectorOptions) -> Result<Self> {
        let (d, len) = (keys.head_dim(), keys.len());
        let num_pages = len.div_ceil(QUEST_PAGE);
        let mut summaries = HeadKv::new(d);
        summaries.reserve(0, num_pages)?;
        let mut row = vec![0.0; d];
        let (mut largest, mut smallest) = (vec![0.0; d], vec![0.0; d]);
        for page in 0..num_pages {
            largest.fill(f32::NEG_INFINITY);
            smallest.fill(f32::INFINITY);
            for i in page * QUEST_PAGE..((page + 1) * QUEST_PAGE).min(len) {
                // SAFETY: row i exists; both hold d values, a multiple of the lanes.
                unsafe { (kernels.widen)(keys.row(i), d, row.as_mut_ptr()) };
                for ((max, min), x) in largest.iter_mut().zip(&mut smallest).zip(&row) {
                    *max = max.max(*x);
                    *min = min.min(*x);
                }
            }
            // SAFETY: reserved above, and nobody else has the pages.
            unsafe {
                let (max, min) = summaries.slot(page);
                (kernels.narrow)(largest.as_ptr(), d, max);
                (kernels.narrow)(smallest.as_ptr(), d, min);
            }
        }
        let max_pages = options.max_selected.div_ceil(QUEST_PAGE);
        Ok(Self { summaries, num_pages, start, len, max_pages })
    }

    /// Mean over the group of each page's bound, less the smallest one: what the choice needs, without negative numbers.
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
                unsafe { (query.kernels.add_scaled)(row.as_ptr(), n, 1.0 / group as f32, scratch.bounds.as_mut_ptr()) };
            }
        }
        let least = scratch.bounds.iter().copied().fold(f32::INFINITY, f32::min);
        scratch.bounds.iter_mut().for_each(|b| *b -= least);
    }
}

/// Reused memory of a choice.
#[derive(Default)]
pub(crate) struct QuestScratch {
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
        let keep = if self.max_pages == 0 { self.num_pages } else { self.max_pages.min(self.num_pages) };
        scratch.top_k.select(query.kernels, &scratch.bounds, keep, &mut scratch.pages);
        for &page in &scratch.pages {
            let first = page as usize * QUEST_PAGE;
            let positions = first..(first + QUEST_PAGE).min(self.len);
            out.positions.extend(positions.map(|p| (self.start + p) as u32));
        }
        out.num_probed = self.num_pages;
        out.bytes_read = 2 * size_of::<u16>() * self.num_pages * self.summaries.keys(0, 0).head_dim();
    }
    fn bytes(&self) -> usize {
        self.summaries.bytes()
    }
}
