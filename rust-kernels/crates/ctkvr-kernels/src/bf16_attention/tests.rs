use super::super::bf16::tests::{all, narrowed};
use super::*;
use crate::aligned::Aligned;
use crate::testing::{Random, TestPages, dot, few};
use crate::{Bf16Kernels, KvFormat, bf16_depth};
use half::bf16;

/// Rows that attend to the keys up to their own that are in their window.
struct Case {
    d: usize,
    group: usize,
    num_tokens: usize,
    first_position: usize,
    num_keys: usize,
    window: usize,
}

impl Case {
    fn num_rows(&self) -> usize {
        self.num_tokens * self.group
    }

    fn visible(&self, row: usize) -> usize {
        (self.first_position + row / self.group + 1).min(self.num_keys)
    }

    fn hidden(&self, row: usize) -> usize {
        (self.first_position + row / self.group + 1).saturating_sub(self.window)
    }

    /// Largest score, sum of weights and their sums of values, of each row, over all blocks in turn. Inputs f32 that bf16 holds.
    fn attend(&self, kernels: &Bf16Kernels, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<(f32, f32, Vec<f32>)> {
        let (d, depth, rows) = (self.d, bf16_depth(self.d), self.num_rows());
        let kv = TestPages::new(keys, values, d, KvFormat::F16);
        let mut narrow = Aligned::<u16>::new();
        narrow.resize(rows.next_multiple_of(BF16_ROWS) * depth);
        for (row, out) in narrowed(queries).chunks_exact(d).zip(narrow.chunks_exact_mut(depth)) {
            out[..d].copy_from_slice(row);
        }
        let (mut key_panels, mut value_panels) = (Aligned::<u16>::new(), Aligned::<u16>::new());
        key_panels.resize(BF16_BLOCK * depth);
        value_panels.resize(BF16_BLOCK * depth);
        let (mut scores, mut totals) = (Aligned::<f32>::new(), Aligned::<f32>::new());
        scores.resize(BF16_SCORES);
        // What lies there from before must not count.
        scores.fill(f32::NAN);
        totals.resize(rows.next_multiple_of(BF16_ROWS) * depth);
        let (mut max, mut sum) = (vec![f32::NEG_INFINITY; rows], vec![0.0; rows]);
        for first in (0..self.num_keys).step_by(BF16_BLOCK) {
            let num_keys = BF16_BLOCK.min(self.num_keys - first);
            kernels.pack_keys(&kv.keys(first, num_keys), &mut key_panels);
            kernels.pack_values(&kv.values(first, num_keys), &mut value_panels);
            kernels.attend_block(Bf16Block {
                queries: &narrow,
                keys: &key_panels,
                values: &value_panels,
                scores: &mut scores,
                max: &mut max,
                sum: &mut sum,
                totals: &mut totals,
                depth,
                num_rows: rows,
                group: self.group,
                num_keys,
                position: self.first_position as isize - first as isize,
                window: self.window,
            });
        }
        let row = |r: usize| totals[r * depth..r * depth + d].to_vec();
        (0..rows).map(|r| (max[r], sum[r], row(r))).collect()
    }
}

const CASES: [Case; 11] = [
    Case { d: 64, group: 3, num_tokens: 1, first_position: 40, num_keys: 41, window: usize::MAX },
    Case { d: 64, group: 1, num_tokens: 16, first_position: 0, num_keys: 16, window: usize::MAX },
    Case { d: 64, group: 3, num_tokens: 3, first_position: 254, num_keys: 257, window: usize::MAX },
    Case { d: 64, group: 7, num_tokens: 20, first_position: 250, num_keys: 270, window: usize::MAX },
    Case { d: 16, group: 2, num_tokens: 33, first_position: 500, num_keys: 533, window: usize::MAX },
    Case { d: 80, group: 5, num_tokens: 9, first_position: 700, num_keys: 709, window: usize::MAX },
    Case { d: 96, group: 9, num_tokens: 40, first_position: 240, num_keys: 280, window: usize::MAX },
    Case { d: 256, group: 4, num_tokens: 5, first_position: 300, num_keys: 305, window: usize::MAX },
    Case { d: 64, group: 3, num_tokens: 20, first_position: 290, num_keys: 310, window: 40 },
    Case { d: 32, group: 2, num_tokens: 40, first_position: 500, num_keys: 540, window: 1 },
    Case { d: 64, group: 1, num_tokens: 70, first_position: 480, num_keys: 550, window: 257 },
];

#[test]
fn equals_f64_within_the_budget() {
    for case in few(2, CASES) {
        let d = case.d;
        let mut random = Random(d as u64);
        let mut reals =
            |n: usize, most: i64| -> Vec<f32> { random.reals(n, most).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect() };
        let (queries, keys, values) = (reals(case.num_rows() * d, 1), reals(case.num_keys * d, 1), reals(case.num_keys * d, 2));
        for kernels in all() {
            for (r, (max, sum, totals)) in case.attend(kernels, &queries, &keys, &values).into_iter().enumerate() {
                let (hidden, n) = (case.hidden(r), case.visible(r));
                let query = &queries[r * d..(r + 1) * d];
                let scores: Vec<f64> = (hidden..n).map(|i| dot(query, &keys[i * d..(i + 1) * d])).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let exact_sum: f64 = weights.iter().sum();
                // A score is a sum of d products that f32 holds, of values up to 1 (Higham, Accuracy and Stability, 3.1).
                let eps = f64::from(f32::EPSILON);
                let score = (d + 2) as f64 * eps * d as f64;
                assert!((f64::from(max) - top).abs() <= score, "{} d {d} row {r}: {max} for {top}", kernels.name);
                // A weight: two scores' errors, three roundings of an exponent of up to 2 d log2(e), the polynomial and its roundings; and
                // the factors of three blocks.
                let weight = 2.0 * score + 6.0 * eps * d as f64 + 1.04e-4 + 12.0 * eps;
                let adding = (n + 4) as f64 * eps;
                let error = (f64::from(sum) / exact_sum - 1.0).abs();
                assert!(error <= weight + adding, "{} d {d} row {r}: a sum off by {error}", kernels.name);
                // Weights in bf16, on values of up to 2; the output is a quotient.
                let budget = 2.0 * (2f64.powi(-9) + 2.0 * (weight + adding));
                for (c, total) in totals.iter().enumerate() {
                    let exact = (hidden..n).map(|i| weights[i - hidden] * f64::from(values[i * d + c])).sum::<f64>() / exact_sum;
                    let error = (f64::from(*total) / f64::from(sum) - exact).abs();
                    assert!(error <= budget, "{} d {d} row {r} value {c}: off by {error}, {budget} allowed", kernels.name);
                }
            }
        }
    }
}

/// Of a query of zeros every key's weight is 1: which keys a row sees shows in exact sums.
#[test]
fn is_exact_on_small_integers() {
    for case in few(2, CASES) {
        let d = case.d;
        let mut random = Random(7);
        let (keys, values) = (random.integers(case.num_keys * d, 9), random.integers(case.num_keys * d, 9));
        for kernels in all() {
            let rows = case.attend(kernels, &vec![0.0; case.num_rows() * d], &keys, &values);
            for (r, (max, sum, totals)) in rows.into_iter().enumerate() {
                let seen = case.hidden(r)..case.visible(r);
                assert_eq!((max, sum), (0.0, seen.len() as f32), "{} d {d} row {r}", kernels.name);
                let exact: Vec<f32> = (0..d).map(|c| seen.clone().map(|i| values[i * d + c]).sum()).collect();
                assert_eq!(totals, exact, "{} d {d} row {r}", kernels.name);
            }
        }
    }
}

/// Far below the maximum a weight is nothing, not something wrong.
#[test]
fn weights_far_below_vanish() {
    let case = Case { d: 16, group: 1, num_tokens: 1, first_position: 39, num_keys: 40, window: usize::MAX };
    let (mut queries, mut keys) = (vec![0.0; 16], vec![0.0; 40 * 16]);
    queries[0] = 64.0;
    // Scores -128 i: most are far below what f32 holds as an exponential.
    (0..40).for_each(|i| keys[i * 16] = -2.0 * i as f32);
    for kernels in all() {
        let rows = case.attend(kernels, &queries, &keys, &vec![3.0; 40 * 16]);
        assert_eq!(rows[0], (0.0, 1.0, vec![3.0; 16]), "{}", kernels.name);
    }
}
