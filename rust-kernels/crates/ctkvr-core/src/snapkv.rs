//! SnapKV (Li et al. 2024, arXiv 2404.14469) as a selector: the positions that the prompt's last queries attend to most are chosen once,
//! when the prompt has been read, and every later step reads those. As published for LongBench: an observation window of 32 queries,
//! their softmax weights summed, a maximum over 7 neighbouring positions, then the best. Ours: `max_selected` of them beside sinks and
//! window, and query heads that share keys have one choice, by the sum of their weights (the authors' code keeps a copy of the keys for
//! each query head, so that each has its own budget).

use crate::error::{Error, Result};
use crate::options::SelectorOptions;
use crate::refine::top_k::TopK;
use crate::selector::{Candidates, HeadSelector, Proposal, Query};
use ctkvr_kernels::{Kernels, Rows};

/// Queries whose attention is looked at.
const OBSERVED: usize = 32;
/// Positions over which a weight spreads.
const POOL: usize = 7;

/// The positions chosen for one KV head.
pub struct SnapKv {
    /// Ascending.
    positions: Vec<u32>,
}

/// What is chosen from.
pub struct SnapKvInput<'a> {
    /// All stored keys.
    pub keys: Rows<'a>,
    /// Positions to choose from.
    pub region: std::ops::Range<usize>,
    /// f32 `[num_queries, group, head_dim]`, the last ones stored, oldest first.
    pub queries: &'a [f32],
    pub group: usize,
}

impl SnapKv {
    pub fn build(kernels: &Kernels, input: &SnapKvInput, options: &SelectorOptions) -> Result<Self> {
        let (n, region) = (input.keys.len(), &input.region);
        let (d, group) = (input.keys.head_dim(), input.group);
        let num_queries = input.queries.len() / (group * d);
        if num_queries == 0 {
            return Err(Error::ShapeMismatch { op: "buildIndex", what: "queries", expected: group * d, actual: 0 });
        }
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
        Ok(Self { positions })
    }
}

impl HeadSelector for SnapKv {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.positions.clear();
        out.positions.extend_from_slice(&self.positions);
        out.bytes_read = self.positions.len() * size_of::<u32>();
        out.candidates = Candidates::Listed;
        out.reads_all = true;
    }
    fn bytes(&self) -> usize {
        self.positions.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, dot, store, tables};

    const D: usize = 16;

    /// Pooled votes of the region in f64, from the definition.
    fn plain(keys: &[f32], region: std::ops::Range<usize>, queries: &[f32], group: usize) -> Vec<f64> {
        let (n, num_queries) = (keys.len() / D, queries.len() / (group * D));
        let mut votes = vec![0.0; region.len()];
        let first = num_queries.saturating_sub(OBSERVED);
        for i in first..num_queries {
            for query in queries[i * group * D..][..group * D].chunks_exact(D) {
                let seen = n - (num_queries - 1 - i);
                let weights: Vec<f64> = (0..seen).map(|j| (dot(query, &keys[j * D..][..D]) / (D as f64).sqrt()).exp()).collect();
                let sum: f64 = weights.iter().sum();
                region.clone().filter(|&j| j < seen).for_each(|j| votes[j - region.start] += weights[j] / sum);
            }
        }
        let around = |j: usize| j.saturating_sub(POOL / 2)..(j + POOL / 2 + 1).min(votes.len());
        (0..votes.len()).map(|j| votes[around(j)].iter().copied().fold(0.0, f64::max)).collect()
    }

    /// Scores are at most 2 * 2 * 16 / 4 = 16 with 17 roundings: 16 * 17 * 2^-24 = 1.7e-5 in the exponent, the same again for the
    /// maximum's; exp and the division add 3e-7 and 2^-24, sums of up to 600 weights and 96 votes (696 + 8) 2^-24 = 4.2e-5.
    const BUDGET: f64 = 2.0 * 1.7e-5 + 4e-7 + 4.2e-5;

    #[test]
    fn keeps_the_positions_that_the_definition_names() -> Result<()> {
        for kernels in tables(D) {
            for (n, num_queries, keep) in [(600, 50, 100), (600, 32, 64), (60, 3, 7), (41, 5, 1), (41, 40, 1000), (41, 5, 0)] {
                let mut random = Random(n as u64 + keep as u64);
                let (keys, queries) = (random.reals(n * D, 2), random.reals(num_queries * 3 * D, 2));
                let kv = store(&keys, &keys, D);
                for region in [4..n - 32, 4..5, 4..n] {
                    let input = SnapKvInput { keys: kv.keys(0, n), region: region.clone(), queries: &queries, group: 3 };
                    let options = SelectorOptions { max_selected: keep, ..SelectorOptions::full() };
                    let chosen = SnapKv::build(kernels, &input, &options)?.positions;
                    let votes = plain(&keys, region.clone(), &queries, 3);
                    let expected = if keep == 0 { votes.len() } else { keep.min(votes.len()) };
                    let what = format!("{} n {n} queries {num_queries} keep {keep} region {region:?}", kernels.name);
                    assert_eq!(chosen.len(), expected, "{what}");
                    assert!(chosen.is_sorted_by(|a, b| a < b), "{what}");
                    let mut sorted = votes.clone();
                    sorted.sort_by(|a, b| b.total_cmp(a));
                    let (mut kept, mut dropped) = (f64::MAX, 0.0f64);
                    for (j, vote) in votes.iter().enumerate() {
                        if chosen.binary_search(&((region.start + j) as u32)).is_ok() {
                            kept = kept.min(*vote);
                        } else {
                            dropped = dropped.max(*vote);
                        }
                    }
                    // Two positions may swap only when their votes are closer than the budget.
                    assert!(dropped <= kept * (1.0 + 2.0 * BUDGET), "{what}: dropped {dropped}, kept {kept}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn ties_go_to_the_smaller_position_and_no_query_is_refused() -> Result<()> {
        let kv = store(&[1.0; 40 * D], &[1.0; 40 * D], D);
        let options = SelectorOptions { max_selected: 5, ..SelectorOptions::full() };
        for kernels in tables(D) {
            let input = |queries| SnapKvInput { keys: kv.keys(0, 40), region: 3..30, queries, group: 1 };
            assert_eq!(SnapKv::build(kernels, &input(&[1.0; D]), &options)?.positions, [3, 4, 5, 6, 7]);
            let refused = SnapKv::build(kernels, &input(&[]), &options).err();
            assert_eq!(refused, Some(Error::ShapeMismatch { op: "buildIndex", what: "queries", expected: D, actual: 0 }));
        }
        Ok(())
    }
}
