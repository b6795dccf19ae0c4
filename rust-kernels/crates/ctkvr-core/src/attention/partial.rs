//! Partial attention: softmax over some of the keys, kept as (maximum, sum, weighted values) so that any number of parts merge
//! exactly by log-sum-exp.

use ctkvr_kernels::{Kernels, Rows};

/// Softmax over some keys for each head of a group, not yet normalised.
#[derive(Default, Clone)]
pub struct Partial {
    /// Largest score `[group]`; -infinity when there are no keys.
    pub max: Vec<f32>,
    /// Sum of e^(score - max) `[group]`.
    pub sum: Vec<f32>,
    /// Sum of e^(score - max) times the value `[group, head_dim]`.
    pub values: Vec<f32>,
}

impl Partial {
    /// Empties it for `group` heads.
    pub fn reset(&mut self, group: usize, head_dim: usize) {
        self.max.clear();
        self.max.resize(group, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(group, 0.0);
        self.values.clear();
        self.values.resize(group * head_dim, 0.0);
    }

    /// Attends to `values` with the given scores (f32 `[group]` rows of `stride`, turned into weights in place).
    pub fn attend(&mut self, kernels: &Kernels, scores: &mut [f32], stride: usize, values: &Rows) {
        let (group, n) = (self.max.len(), values.len());
        assert!(n <= stride && scores.len() >= (group - 1) * stride + n);
        if n == 0 {
            return;
        }
        for h in 0..group {
            let row = &mut scores[h * stride..h * stride + n];
            // SAFETY: the row holds n values, max bounds them.
            unsafe {
                self.max[h] = (kernels.max)(row.as_ptr(), n);
                self.sum[h] = (kernels.exp_sub)(row.as_mut_ptr(), n, self.max[h]);
            }
        }
        // SAFETY: scores hold group rows of the stride, self.values group * head_dim.
        unsafe { (kernels.add_weighted_rows)(scores.as_ptr(), stride, group, values, self.values.as_mut_ptr()) };
    }

    /// Attends to `values` with weights that are e^(score - maximum) already: f32 `[group]` rows of `stride`, and each head's maximum.
    pub fn attend_weighted(
        &mut self,
        kernels: &Kernels,
        weights: &[f32],
        stride: usize,
        maxima: impl Iterator<Item = f32>,
        values: &Rows,
    ) {
        let (group, n) = (self.max.len(), values.len());
        assert!(n <= stride && weights.len() >= (group - 1) * stride + n);
        for (h, max) in maxima.enumerate() {
            self.max[h] = max;
            self.sum[h] = sum_of(&weights[h * stride..h * stride + n]);
        }
        // SAFETY: weights hold group rows of the stride, self.values group * head_dim.
        unsafe { (kernels.add_weighted_rows)(weights.as_ptr(), stride, group, values, self.values.as_mut_ptr()) };
    }

    /// Adds another part's keys.
    pub fn merge(&mut self, other: &Partial) {
        let d = self.values.len() / self.max.len();
        for h in 0..self.max.len() {
            self.add(h, other.max[h], other.sum[h], 1.0, &other.values[h * d..(h + 1) * d]);
        }
    }

    /// Adds keys of one head that share one value: their weights sum to `sum` times e^max.
    pub fn add_uniform(&mut self, h: usize, max: f32, sum: f32, value: &[f32]) {
        self.add(h, max, sum, sum, value);
    }

    /// Adds weights of `sum` e^max and weighted values of `factor` e^max `values`.
    fn add(&mut self, h: usize, max: f32, sum: f32, factor: f32, values: &[f32]) {
        if max == f32::NEG_INFINITY {
            return;
        }
        let d = values.len();
        // One of the two has the larger maximum, and is not scaled.
        let (old, new) = if max > self.max[h] { ((self.max[h] - max).exp(), 1.0) } else { (1.0, (max - self.max[h]).exp()) };
        self.max[h] = self.max[h].max(max);
        self.sum[h] = self.sum[h] * old + sum * new;
        let factor = factor * new;
        for (a, b) in self.values[h * d..(h + 1) * d].iter_mut().zip(values) {
            *a = *a * old + b * factor;
        }
    }

    /// log of the sum of e^score over this part's keys, for one head.
    pub fn lse(&self, h: usize) -> f32 {
        self.max[h] + self.sum[h].ln()
    }

    /// Writes the normalised output `[group, head_dim]`.
    pub fn write(&self, out: &mut [f32]) {
        let d = self.values.len() / self.max.len();
        for (h, sum) in self.sum.iter().enumerate() {
            let factor = if *sum > 0.0 { 1.0 / sum } else { 0.0 };
            for (o, v) in out[h * d..(h + 1) * d].iter_mut().zip(&self.values[h * d..]) {
                *o = v * factor;
            }
        }
    }
}

/// In eight running sums: one would wait for itself.
pub fn sum_of(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut sums = [0f32; 8];
    chunks.iter().for_each(|chunk| sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x));
    rest.iter().copied().chain(sums).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, store, tables};

    const D: usize = 16;
    const GROUP: usize = 3;

    #[test]
    fn weights_that_are_known_attend_as_their_scores_do() {
        for kernels in tables(D) {
            for n in [1, 9, 40] {
                let mut random = Random(n as u64);
                let kv = store(&random.reals(n * D, 1), &random.reals(n * D, 2), D);
                let (scores, values) = (random.reals(GROUP * n, 4), kv.values(0, n));
                // Against any offset, as of a maximum that others have too.
                let offsets = [4.0, 5.0, 6.0];
                let weights: Vec<f32> =
                    (0..GROUP).flat_map(|h| scores[h * n..(h + 1) * n].iter().map(move |s| (s - offsets[h]).exp())).collect();
                let (mut by_score, mut by_weight) = (Partial::default(), Partial::default());
                by_score.reset(GROUP, D);
                by_score.attend(kernels, &mut scores.clone(), n, &values);
                by_weight.reset(GROUP, D);
                by_weight.attend_weighted(kernels, &weights, n, offsets.into_iter(), &values);
                let (mut a, mut b) = ([0.0; GROUP * D], [0.0; GROUP * D]);
                by_score.write(&mut a);
                by_weight.write(&mut b);
                for h in 0..GROUP {
                    // An exponential and a sum of n values each: (3e-7 + (n + 2) 2^-24), twice; values are at most 2.
                    let budget = 2.0 * (3e-7 + (n + 2) as f32 * 2f32.powi(-24));
                    assert!((by_score.lse(h) - by_weight.lse(h)).abs() <= budget + 8.0 * f32::EPSILON, "{} n {n}", kernels.name);
                    for (a, b) in a[h * D..(h + 1) * D].iter().zip(&b[h * D..(h + 1) * D]) {
                        assert!((a - b).abs() <= 2.0 * 2.0 * budget, "{} n {n} head {h}: {a} and {b}", kernels.name);
                    }
                }
            }
        }
    }
}
