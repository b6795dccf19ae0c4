//! SnapKV (Li et al. 2024, arXiv 2404.14469) as a retrieval method: the positions that the prompt's last queries attend to most are chosen once,
//! when the prompt has been read, and every later step reads those. As published for LongBench: an observation window of 32 queries,
//! their softmax weights summed, a maximum over 7 neighbouring positions, then the best. Ours: `max_selected` of them beside sinks and
//! window, and query heads that share keys have one choice, by the sum of their weights (the authors' code keeps a copy of the keys for
//! each query head, so that each has its own budget).

use std::sync::Arc;

use ctkvr_core::refine::top_k::TopK;
use ctkvr_core::retriever::{
    BuildInput, Candidates, HeadQuery, HeadRetriever, HeadSize, Proposal, Retriever, Scratch, same_options,
};
use ctkvr_core::{Error, Result};

/// Queries whose attention is looked at.
const OBSERVED: usize = 32;
/// Positions over which a weight spreads.
const POOL: usize = 7;

/// The method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SnapKv {
    /// Positions that are kept of a region; 0 = all.
    pub max_selected: usize,
}

/// The positions chosen for one KV head.
struct Chosen {
    /// Ascending.
    positions: Vec<u32>,
}

impl SnapKv {
    fn choose(&self, input: &BuildInput) -> Result<Chosen> {
        let kernels = input.kernels;
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
            kernels.score_rows(&query, &input.keys, &mut scores, n);
            for row in scores.chunks_exact_mut(n) {
                let max = kernels.max(&row[..seen]);
                let sum = kernels.exp_sub(&mut row[..seen], max);
                let of_region = &row[region.start..region.end.min(seen)];
                kernels.add_scaled(of_region, 1.0 / sum, &mut votes[..of_region.len()]);
            }
        }
        let pooled: Vec<f32> = (0..votes.len())
            .map(|j| {
                let around = &votes[j.saturating_sub(POOL / 2)..(j + POOL / 2 + 1).min(votes.len())];
                around.iter().copied().fold(0.0, f32::max)
            })
            .collect();
        let keep = if self.max_selected == 0 { pooled.len() } else { self.max_selected.min(pooled.len()) };
        let mut positions = Vec::new();
        TopK::default().select(kernels, &pooled, keep, &mut positions);
        positions.iter_mut().for_each(|p| *p += region.start as u32);
        positions.shrink_to_fit();
        Ok(Chosen { positions })
    }
}

impl Retriever for SnapKv {
    fn name(&self) -> &'static str {
        "snapkv"
    }

    fn build(&self, input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        Ok(Arc::new(self.choose(input)?))
    }

    fn same_build(&self, other: &dyn Retriever) -> bool {
        same_options(self, other)
    }

    fn bytes_needed(&self, size: &HeadSize) -> usize {
        let kept = if self.max_selected == 0 { size.num_keys } else { self.max_selected.min(size.num_keys) };
        kept * size_of::<u32>()
    }

    fn decode(&self, bytes: &[u8], input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        let (words, rest) = bytes.as_chunks();
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        let is_whole = words.next().is_some_and(|count| count as usize == words.len()) && rest.is_empty();
        let positions: Vec<u32> = words.collect();
        let inside = positions.iter().all(|&p| input.region.contains(&(p as usize)));
        if !is_whole || !inside || !positions.is_sorted_by(|a, b| a < b) {
            let expected = format!("a count and as many, ascending, within {:?}", input.region);
            return Err(Error::BadIndexImage { field: "positions", expected, actual: "others".into() });
        }
        Ok(Arc::new(Chosen { positions }))
    }
}

impl HeadRetriever for Chosen {
    fn search(&self, _query: &HeadQuery, _scratch: &mut Scratch, out: &mut Proposal) {
        out.positions.extend_from_slice(&self.positions);
        out.bytes_read = self.positions.len() * size_of::<u32>();
        out.candidates = Candidates::Listed;
        out.reads_all = true;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.positions.len() as u32).to_le_bytes());
        out.extend(self.positions.iter().flat_map(|p| p.to_le_bytes()));
    }

    fn bytes(&self) -> usize {
        self.positions.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, dot, input, store, tables};

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
                    let input = input(kernels, (&kv, n), region.clone(), (&queries, 3));
                    let chosen = SnapKv { max_selected: keep }.choose(&input)?.positions;
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
        let method = SnapKv { max_selected: 5 };
        for kernels in tables(D) {
            let input = |queries| input(kernels, (&kv, 40), 3..30, (queries, 1));
            assert_eq!(method.choose(&input(&[1.0; D]))?.positions, [3, 4, 5, 6, 7]);
            let refused = method.choose(&input(&[])).err();
            assert_eq!(refused, Some(Error::ShapeMismatch { op: "buildIndex", what: "queries", expected: D, actual: 0 }));
        }
        Ok(())
    }
}
