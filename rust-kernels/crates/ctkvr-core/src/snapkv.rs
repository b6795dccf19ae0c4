//! SnapKV (Li et al. 2024, arXiv 2404.14469) as a selector: the positions that the prompt's last queries attend to most are chosen once,
//! when the prompt has been read, and every later step reads those. As published: an observation window of 32 queries, their softmax
//! weights summed, a maximum over 7 neighbouring positions, then the best (here `max_selected`, beside sinks and window). Query heads
//! that share keys have one choice: their weights are summed.

use crate::kernels::{Kernels, Rows};
use crate::options::SelectorOptions;
use crate::selector::{Candidates, HeadSelector, Proposal, Query};
use crate::top_k::TopK;

/// Queries whose attention is looked at.
const OBSERVED: usize = 32;
/// Positions over which a weight spreads.
const POOL: usize = 7;

/// The positions chosen for one KV head.
pub(crate) struct SnapKv {
    /// Ascending.
    positions: Vec<u32>,
}

/// What is chosen from.
pub(crate) struct SnapKvInput<'a> {
    /// All stored keys.
    pub(crate) keys: Rows<'a>,
    /// Positions to choose from.
    pub(crate) region: std::ops::Range<usize>,
    /// f32 `[num_queries, group, head_dim]`, the last ones stored, oldest first.
    pub(crate) queries: &'a [f32],
    pub(crate) group: usize,
}

impl SnapKv {
    pub(crate) fn build(kernels: &Kernels, input: &SnapKvInput, options: &SelectorOptions) -> Self {
        let (n, region) = (input.keys.len(), &input.region);
        let (d, group) = (input.keys.head_dim(), input.group);
        let num_queries = input.queries.len() / (group * d);
        let observed = OBSERVED.min(num_queries);
        let scale = 1.0 / (d as f32).sqrt();
        let mut votes = vec![0.0; region.len()];
        let mut scores = vec![0.0; group * n];
        for i in 0..observed {
            let query: Vec<f32> =
                input.queries[(num_queries - observed + i) * group * d..][..group * d].iter().map(|x| x * scale).collect();
            // A query sees the keys up to its own.
            let seen = n - (observed - 1 - i).min(n - 1);
            // SAFETY: the scores hold group rows of n; every head's first `seen` are counted.
            unsafe {
                (kernels.score_rows)(query.as_ptr(), group, &input.keys, scores.as_mut_ptr(), n);
                for row in scores.chunks_exact_mut(n) {
                    let max = (kernels.max)(row.as_ptr(), seen);
                    let sum = (kernels.exp_sub)(row.as_mut_ptr(), seen, max);
                    let of_region = &row[region.start..region.end.min(seen)];
                    (kernels.add_scaled)(of_region.as_ptr(), of_region.len(), 1.0 / sum, votes.as_mut_ptr());
                }
            }
        }
        let pooled: Vec<f32> = (0..votes.len())
            .map(|j| {
                let around = &votes[j.saturating_sub(POOL / 2)..(j + POOL / 2 + 1).min(votes.len())];
                around.iter().copied().fold(0.0, f32::max)
            })
            .collect();
        let keep = if options.max_selected == 0 { pooled.len() } else { options.max_selected.min(pooled.len()) };
        let mut positions = Vec::new();
        TopK::default().select(kernels, &pooled, keep, &mut positions);
        positions.iter_mut().for_each(|p| *p += region.start as u32);
        positions.shrink_to_fit();
        Self { positions }
    }
}

impl HeadSelector for SnapKv {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.positions.clear();
        out.positions.extend_from_slice(&self.positions);
        out.bytes_read = self.positions.len() * size_of::<u32>();
        out.candidates = Candidates::Listed;
    }
    fn bytes(&self) -> usize {
        self.positions.len() * size_of::<u32>()
    }
}
