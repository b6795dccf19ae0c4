//! How similar rotated queries are to their neighbours, for the group and for each head: the paper's first observation (arXiv
//! 2512.15550). One pass, f64, memory of one number per head vector.

use crate::error::{Error, Result};

/// Statistics of rows of numbers `[num_rows]` each; NaN for a row without numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStatistics {
    pub mean: Vec<f64>,
    pub min: Vec<f64>,
    pub max: Vec<f64>,
    /// Of the whole population.
    pub standard_deviation: Vec<f64>,
}

/// Cosines of queries that far apart.
#[derive(Debug, Clone, PartialEq)]
pub struct CosineByDistance {
    /// Pairs counted `[num_distances]`.
    pub count: Vec<u32>,
    /// Of the mean cosine over the heads of a pair `[num_distances]`.
    pub group: RowStatistics,
    /// Of each head's own cosine `[num_distances, group]`.
    pub heads: RowStatistics,
}

/// Cosines of queries `distances[i]` positions apart. `queries` f32 `[num_tokens, group, head_dim]`, rotated, at consecutive positions.
/// A head of zeros has cosine 0 with everything.
pub fn cosine_by_distance(queries: &[f32], group: usize, head_dim: usize, distances: &[u32]) -> Result<CosineByDistance> {
    let num_tokens = check_rows("cosineByDistance", "queries", queries, group, head_dim)?;
    let vector = |i: usize| &queries[i * head_dim..(i + 1) * head_dim];
    let inverse_lengths: Vec<f64> = (0..num_tokens * group)
        .map(|i| {
            let squares = dot(vector(i), vector(i));
            if squares > 0.0 { 1.0 / squares.sqrt() } else { 0.0 }
        })
        .collect();
    let mut count = Vec::with_capacity(distances.len());
    let mut of_group = vec![Running::default(); distances.len()];
    let mut of_heads = vec![Running::default(); distances.len() * group];
    for (i, distance) in distances.iter().map(|d| *d as usize).enumerate() {
        let num_pairs = num_tokens.saturating_sub(distance);
        count.push(num_pairs as u32);
        for token in 0..num_pairs {
            let mut sum = 0.0;
            for (head, running) in of_heads[i * group..(i + 1) * group].iter_mut().enumerate() {
                let (a, b) = (token * group + head, (token + distance) * group + head);
                // Two roundings may carry the cosine of equal vectors beyond 1.
                let cosine = (dot(vector(a), vector(b)) * inverse_lengths[a] * inverse_lengths[b]).clamp(-1.0, 1.0);
                running.add(cosine);
                sum += cosine;
            }
            of_group[i].add(sum / group as f64);
        }
    }
    Ok(CosineByDistance { count, group: results(&of_group), heads: results(&of_heads) })
}

/// Mean, extremes and spread of a stream of numbers, by Welford's method: no sum of squares that would cancel.
#[derive(Clone, Copy)]
struct Running {
    count: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Default for Running {
    fn default() -> Self {
        Self { count: 0.0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Running {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let from_old_mean = value - self.mean;
        self.mean += from_old_mean / self.count;
        self.squares += from_old_mean * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }
}

fn results(rows: &[Running]) -> RowStatistics {
    let of = |value: fn(&Running) -> f64| rows.iter().map(|r| if r.count == 0.0 { f64::NAN } else { value(r) }).collect();
    RowStatistics {
        mean: of(|r| r.mean),
        min: of(|r| r.min),
        max: of(|r| r.max),
        standard_deviation: of(|r| (r.squares / r.count).sqrt()),
    }
}

/// a . b in f64, four sums at a time: in f32 the cosine of neighbours would be all rounding.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; 4];
    let (blocks_a, blocks_b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    for (x, y) in blocks_a.zip(blocks_b) {
        for i in 0..4 {
            sums[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Number of rows `[group, head_dim]` in `values`, all finite.
pub fn check_rows(op: &'static str, what: &'static str, values: &[f32], group: usize, head_dim: usize) -> Result<usize> {
    for (option, size) in [("groupSize", group), ("headDim", head_dim)] {
        if size == 0 {
            return Err(Error::InvalidOption { option, expected: "at least 1".into(), actual: "0".into() });
        }
    }
    let row = group * head_dim;
    let num_rows = values.len() / row;
    if values.len() != num_rows * row {
        return Err(Error::ShapeMismatch { op, what, expected: num_rows * row, actual: values.len() });
    }
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::NonFinite { op, what, index }),
        None => Ok(num_rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotary::embedding::{RopePairing, RotaryEmbedding};
    use crate::rotary::scaling::RopeScaling;

    #[test]
    fn a_vector_rotated_along_has_the_mean_cosine_of_the_angles() {
        let mut queries = vec![1.0; 10 * 2 * 4];
        let rope = RotaryEmbedding::new(4, 4, RopePairing::Half, 1e4, &RopeScaling::None).unwrap();
        rope.rotate(&mut queries, None, 2, false).unwrap();
        let found = cosine_by_distance(&queries, 2, 4, &[0, 1, 5, 9, 10]).unwrap();
        assert_eq!(found.count, [10, 9, 5, 1, 0]);
        for (i, distance) in [0.0, 1.0, 5.0, 9.0f64].into_iter().enumerate() {
            let expected = (distance.cos() + (distance / 100.0).cos()) / 2.0;
            for got in
                [found.group.mean[i], found.group.min[i], found.group.max[i], found.heads.mean[2 * i], found.heads.mean[2 * i + 1]]
            {
                assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
            }
            assert!(found.group.standard_deviation[i] < 1e-6);
        }
        assert!(found.group.mean[4].is_nan() && found.heads.standard_deviation[9].is_nan());
    }

    #[test]
    fn statistics_are_per_head_and_zeros_have_no_direction() {
        // Head 0: equal, then opposite. Head 1: zeros against anything.
        let queries = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 3.0, 0.0, -2.0, 0.0, 1.0, 1.0];
        let found = cosine_by_distance(&queries, 2, 2, &[1]).unwrap();
        let half_sqrt = 0.5f64.sqrt();
        assert_eq!(found.heads.min, [-1.0, 0.0]);
        assert_eq!(found.heads.mean[0], 0.0);
        assert_eq!(found.heads.standard_deviation[0], 1.0);
        assert!((found.heads.max[1] - half_sqrt).abs() < 1e-15);
        assert!((found.group.max[0] - 0.5).abs() < 1e-15);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(matches!(cosine_by_distance(&[0.0; 7], 1, 4, &[1]), Err(Error::ShapeMismatch { .. })));
        assert!(matches!(cosine_by_distance(&[0.0, f32::INFINITY], 1, 2, &[1]), Err(Error::NonFinite { index: 1, .. })));
        assert!(matches!(cosine_by_distance(&[], 0, 2, &[1]), Err(Error::InvalidOption { .. })));
        assert_eq!(cosine_by_distance(&[], 1, 2, &[1]).unwrap().count, [0]);
    }
}
