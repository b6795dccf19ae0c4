//! Whether similar queries attend to the same keys, for the group and for each head: the paper's second observation (arXiv 2512.15550),
//! one point per pair of queries.

use crate::error::{Error, Result};
use crate::rotary::query_cosine::{check_rows, dot};

/// One point per pair of queries.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlapBySimilarity {
    /// Mean cosine over the heads `[num_pairs]`.
    pub similarity: Vec<f64>,
    /// Share of the first query's top keys that are also the second's `[num_pairs]`.
    pub overlap: Vec<f64>,
    /// Each head's cosine `[num_pairs, group]`.
    pub head_similarity: Vec<f64>,
    /// The same share for each head's own top keys `[num_pairs, group]`.
    pub head_overlap: Vec<f64>,
}

/// Queries and keys of one KV head.
pub struct OverlapInput<'a> {
    /// f32 `[num_queries, group, head_dim]`, rotated.
    pub queries: &'a [f32],
    /// f32 `[num_keys, head_dim]`, rotated.
    pub keys: &'a [f32],
    pub group: usize,
    pub head_dim: usize,
    /// Keys in a set, 1 to num_keys.
    pub top_k: usize,
    /// Rows of `queries` `[num_pairs, 2]`.
    pub pairs: &'a [u32],
}

/// Similarity and top-k overlap of pairs of queries. The top k of a head are its keys of highest q.k, those of the group the keys of
/// highest sum of that over its heads; ties go to the smaller position. Scores are f64, `[group + 1, num_keys]` of them at a time.
pub fn overlap_by_similarity(input: &OverlapInput) -> Result<OverlapBySimilarity> {
    const OP: &str = "overlapBySimilarity";
    let &OverlapInput { queries, keys, group, head_dim, top_k, pairs } = input;
    let num_queries = check_rows(OP, "queries", queries, group, head_dim)?;
    let num_keys = check_rows(OP, "keys", keys, 1, head_dim)?;
    if top_k == 0 || top_k > num_keys {
        let expected = format!("from 1 to {num_keys}, the number of keys");
        return Err(Error::InvalidOption { option: "topK", expected, actual: top_k.to_string() });
    }
    if !pairs.len().is_multiple_of(2) {
        return Err(Error::ShapeMismatch { op: OP, what: "pairs", expected: pairs.len() + 1, actual: pairs.len() });
    }
    if let Some(row) = pairs.iter().find(|row| **row as usize >= num_queries) {
        let expected = format!("rows of {num_queries} queries");
        return Err(Error::InvalidOption { option: "pairs", expected, actual: row.to_string() });
    }
    let num_pairs = pairs.len() / 2;
    let mut found = OverlapBySimilarity {
        similarity: Vec::with_capacity(num_pairs),
        overlap: Vec::with_capacity(num_pairs),
        head_similarity: Vec::with_capacity(num_pairs * group),
        head_overlap: Vec::with_capacity(num_pairs * group),
    };
    let mut known: Vec<KeySets> = Vec::new();
    let mut scores = vec![0.0; (group + 1) * num_keys];
    for pair in pairs.chunks_exact(2) {
        // Sets of the pair before serve again: chains and fans of pairs score each query once.
        let mut take = |row: u32, known: &mut Vec<KeySets>| match known.iter().position(|sets| sets.row == row) {
            Some(at) => known.swap_remove(at),
            None => KeySets::of(input, row, &mut scores),
        };
        let a = take(pair[0], &mut known);
        let b = if pair[1] == pair[0] { a.clone() } else { take(pair[1], &mut known) };
        let vector = |row: u32, head: usize| &queries[(row as usize * group + head) * head_dim..][..head_dim];
        let cosines = (0..group).map(|head| cosine(vector(pair[0], head), vector(pair[1], head)));
        found.head_similarity.extend(cosines);
        let of_pair = &found.head_similarity[found.head_similarity.len() - group..];
        found.similarity.push(of_pair.iter().sum::<f64>() / group as f64);
        let shares = a.sets.iter().zip(&b.sets).map(|(a, b)| num_shared(a, b) as f64 / top_k as f64);
        found.head_overlap.extend(shares);
        found.overlap.extend(found.head_overlap.pop());
        known = vec![a, b];
    }
    Ok(found)
}

/// The top keys of one query.
#[derive(Clone)]
struct KeySets {
    row: u32,
    /// Each head's, then the group's; positions ascending.
    sets: Vec<Vec<u32>>,
}

impl KeySets {
    /// `scores` is scratch `[group + 1, num_keys]`.
    fn of(input: &OverlapInput, row: u32, scores: &mut [f64]) -> Self {
        let &OverlapInput { queries, keys, group, head_dim, top_k, .. } = input;
        let num_keys = keys.len() / head_dim;
        let heads = queries[row as usize * group * head_dim..].chunks_exact(head_dim).take(group);
        let (of_heads, of_group) = scores.split_at_mut(group * num_keys);
        of_group.fill(0.0);
        for (query, row) in heads.zip(of_heads.chunks_exact_mut(num_keys)) {
            for ((key, score), sum) in keys.chunks_exact(head_dim).zip(row).zip(of_group.iter_mut()) {
                *score = dot(query, key);
                *sum += *score;
            }
        }
        Self { row, sets: scores.chunks_exact(num_keys).map(|row| highest(row, top_k)).collect() }
    }
}

/// Indexes of the k highest scores, ascending; ties go to the smaller index. 1 <= k <= scores.
fn highest(scores: &[f64], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    let better = |a: &u32, b: &u32| {
        let (x, y) = (scores[*a as usize], scores[*b as usize]);
        y.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(b))
    };
    order.select_nth_unstable_by(k - 1, better);
    order.truncate(k);
    order.sort_unstable();
    order
}

/// How many numbers two ascending lists share.
fn num_shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().filter(|x| b.binary_search(x).is_ok()).count()
}

/// In [-1, 1]; 0 when one is zeros.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (aa, bb) = (dot(a, a), dot(b, b));
    if aa > 0.0 && bb > 0.0 { (dot(a, b) / (aa * bb).sqrt()).clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [f32; 8] = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0];

    fn overlap(queries: &[f32], group: usize, pairs: &[u32]) -> Result<OverlapBySimilarity> {
        overlap_by_similarity(&OverlapInput { queries, keys: &KEYS, group, head_dim: 2, top_k: 2, pairs })
    }

    #[test]
    fn equal_queries_share_all_opposite_none_orthogonal_half() {
        let found = overlap(&[2.0, 1.0, -2.0, -1.0, 1.0, -2.0], 1, &[0, 0, 0, 1, 0, 2, 2, 1]).unwrap();
        assert_eq!(found.overlap, [1.0, 0.0, 0.5, 0.5]);
        assert_eq!(found.overlap, found.head_overlap);
        for (got, expected) in found.similarity.iter().zip([1.0, -1.0, 0.0, 0.0]) {
            assert!((got - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_group_ranks_by_the_sum_of_its_heads() {
        // Of both queries head 0 wants keys 0 and 1; head 1 outweighs it in the second, for keys 2 and 3.
        let found = overlap(&[2.0, 1.0, 1.0, 0.5, 2.0, 1.0, -4.0, -3.0], 2, &[0, 1]).unwrap();
        assert_eq!(found.head_overlap, [1.0, 0.0]);
        assert_eq!(found.overlap, [0.0]);
        assert!((found.head_similarity[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn ties_go_to_the_smaller_position() {
        assert_eq!(highest(&[1.0, 2.0, 1.0, 2.0, 1.0], 3), [0, 1, 3]);
        assert_eq!(highest(&[0.0, -0.0, 0.0], 2), [0, 1]);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(matches!(overlap(&[1.0, 0.0], 1, &[0, 1]), Err(Error::InvalidOption { option: "pairs", .. })));
        assert!(matches!(overlap(&[1.0, 0.0], 1, &[0]), Err(Error::ShapeMismatch { .. })));
        assert!(matches!(overlap(&[1.0, f32::NAN], 1, &[]), Err(Error::NonFinite { .. })));
        let no_keys = OverlapInput { queries: &[], keys: &[], group: 1, head_dim: 2, top_k: 1, pairs: &[] };
        assert!(matches!(overlap_by_similarity(&no_keys), Err(Error::InvalidOption { option: "topK", .. })));
        assert!(overlap(&[], 1, &[]).unwrap().overlap.is_empty());
    }
}
