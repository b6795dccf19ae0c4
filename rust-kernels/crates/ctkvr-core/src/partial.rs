//! Partial attention: softmax over some of the keys, kept as (maximum, sum, weighted values) so that any number of parts merge
//! exactly by log-sum-exp.

use crate::kernels::{Kernels, Rows};

/// Softmax over some keys for each head of a group, not yet normalised.
#[derive(Default, Clone)]
pub(crate) struct Partial {
    /// Largest score `[group]`; -infinity when there are no keys.
    pub(crate) max: Vec<f32>,
    /// Sum of e^(score - max) `[group]`.
    pub(crate) sum: Vec<f32>,
    /// Sum of e^(score - max) times the value `[group, head_dim]`.
    pub(crate) values: Vec<f32>,
}

impl Partial {
    /// Empties it for `group` heads.
    pub(crate) fn reset(&mut self, group: usize, head_dim: usize) {
        self.max.clear();
        self.max.resize(group, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(group, 0.0);
        self.values.clear();
        self.values.resize(group * head_dim, 0.0);
    }

    /// Attends to `values` with the given scores (f32 `[group]` rows of `stride`, turned into weights in place).
    pub(crate) fn attend(&mut self, kernels: &Kernels, scores: &mut [f32], stride: usize, values: &Rows) {
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

    /// Adds another part's keys.
    pub(crate) fn merge(&mut self, other: &Partial) {
        let d = self.values.len() / self.max.len();
        for h in 0..self.max.len() {
            self.add(h, other.max[h], other.sum[h], 1.0, &other.values[h * d..(h + 1) * d]);
        }
    }

    /// Adds keys of one head that share one value: their weights sum to `sum` times e^max.
    pub(crate) fn add_uniform(&mut self, h: usize, max: f32, sum: f32, value: &[f32]) {
        self.add(h, max, sum, sum, value);
    }

    /// Adds weights of `sum` e^max and weighted values of `factor` e^max `values`.
    fn add(&mut self, h: usize, max: f32, sum: f32, factor: f32, values: &[f32]) {
        if max == f32::NEG_INFINITY {
            return;
        }
        let d = values.len();
        let top = self.max[h].max(max);
        let (old, new) = ((self.max[h] - top).exp(), (max - top).exp());
        self.max[h] = top;
        self.sum[h] = self.sum[h] * old + sum * new;
        let factor = factor * new;
        for (a, b) in self.values[h * d..(h + 1) * d].iter_mut().zip(values) {
            *a = *a * old + b * factor;
        }
    }

    /// log of the sum of e^score over this part's keys, for one head.
    pub(crate) fn lse(&self, h: usize) -> f32 {
        self.max[h] + self.sum[h].ln()
    }

    /// Writes the normalised output `[group, head_dim]`.
    pub(crate) fn write(&self, out: &mut [f32]) {
        let d = self.values.len() / self.max.len();
        for (h, sum) in self.sum.iter().enumerate() {
            let factor = if *sum > 0.0 { 1.0 / sum } else { 0.0 };
            for (o, v) in out[h * d..(h + 1) * d].iter_mut().zip(&self.values[h * d..]) {
                *o = v * factor;
            }
        }
    }
}
