//! Chooses which of many queries become centroids so that old ones are represented too (design 2.1, `spread`). Plain f64 in one fixed
//! order, as packages/centroid-index/src/spread-queries.ts has it: both choose the same ones, bit for bit.

/// Indexes of `count` of the queries (f32 `[n, group, head_dim]`, oldest first), ascending: the newer half of `count` are the last ones,
/// the others are picked one by one from the earlier ones, each the one whose largest cosine of pooled vectors to those chosen before is
/// smallest (ties: smaller index). All of them when there are no more than `count`.
pub fn spread_queries(queries: &[f32], group: usize, head_dim: usize, count: usize) -> Vec<usize> {
    let n = queries.len() / (group * head_dim);
    if n <= count {
        return (0..n).collect();
    }
    let pooled: Vec<f64> = queries.chunks_exact(group * head_dim).flat_map(|query| pool(query, head_dim)).collect();
    let row = |i: usize| &pooled[i * head_dim..(i + 1) * head_dim];
    let num_earlier = n - count.div_ceil(2);
    let mut nearest = vec![f64::NEG_INFINITY; num_earlier];
    let mut chosen: Vec<usize> = (num_earlier..n).collect();
    for c in num_earlier..n {
        move_near(&mut nearest, row, c);
    }
    while chosen.len() < count {
        let mut best = 0;
        for i in 1..num_earlier {
            if nearest[i] < nearest[best] {
                best = i;
            }
        }
        chosen.push(best);
        move_near(&mut nearest, row, best);
        // Larger than every cosine: never picked again.
        nearest[best] = f64::INFINITY;
    }
    chosen.sort_unstable();
    chosen
}

/// Raises each query's largest cosine to the chosen ones by that to one more.
fn move_near<'a>(nearest: &mut [f64], row: impl Fn(usize) -> &'a [f64], chosen: usize) {
    let other = row(chosen);
    for (i, largest) in nearest.iter_mut().enumerate() {
        let mut dot = 0.0;
        for (a, b) in row(i).iter().zip(other) {
            dot += a * b;
        }
        if dot > *largest {
            *largest = dot;
        }
    }
}

/// Normalised sum of the normalised heads; zeros where there is no direction.
fn pool(query: &[f32], head_dim: usize) -> Vec<f64> {
    let mut sum = vec![0.0; head_dim];
    for head in query.chunks_exact(head_dim) {
        let head: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
        let length = length(&head);
        if length > 0.0 {
            sum.iter_mut().zip(&head).for_each(|(s, x)| *s += x / length);
        }
    }
    let length = length(&sum);
    if length > 0.0 {
        sum.iter_mut().for_each(|s| *s /= length);
    }
    sum
}

fn length(x: &[f64]) -> f64 {
    let mut squares = 0.0;
    for v in x {
        squares += v * v;
    }
    squares.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_are_the_last_and_half_the_farthest() {
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let queries: Vec<f32> = [0.0, 90.0, 180.0, 170.0, 40.0, 10.0, 5.0].into_iter().flat_map(at).collect();
        // 10 and 5 degrees are the last; 180 is the farthest from them, then 90.
        assert_eq!(spread_queries(&queries, 1, 2, 4), [1, 2, 5, 6]);
        assert_eq!(spread_queries(&queries, 1, 2, 3), [2, 5, 6]);
        assert_eq!(spread_queries(&queries, 1, 2, 1), [6]);
        assert_eq!(spread_queries(&queries, 1, 2, 9), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn ties_go_to_the_smaller_index() {
        assert_eq!(spread_queries(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 1, 2, 3), [0, 2, 3]);
        assert_eq!(spread_queries(&[0.0; 8], 1, 2, 3), [0, 2, 3]);
    }
}
