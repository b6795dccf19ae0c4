//! A block of keys and values against the query rows of a prompt, in bf16: a few rows at a time, whose scores and weights stay in the
//! first-level cache from the first product to the second.
//!
//! What a row gets depends on its query, its position and the block alone. Each value is summed in one order, pair by pair, whichever rows
//! share the pass; keys that a row does not see have weight 0, which changes no sum but the sign of a zero.

#![cfg_attr(not(any(test, target_arch = "x86_64")), allow(dead_code, reason = "no other CPU has products in bf16 yet"))]

use super::bf16::{Bf16Product, PANEL_COLUMNS};

/// Keys of a block: the scores of [`Products::ROWS`] rows, f32, leave room in the first-level cache for the tiles that pass by.
pub const BF16_BLOCK: usize = 256;

/// One block; everything begins with a cache line, as in [`crate::Aligned`]. Depth is a head's values, rounded up to a multiple of [`PANEL_COLUMNS`]: what is beyond them is 0.
pub struct Bf16Block {
    /// bf16 `[rows, depth]`, already times 1/sqrt(head_dim); rows up to the next multiple of [`BF16_ROWS`] are read.
    pub queries: *const u16,
    /// Panels of keys: bf16 `[BF16_BLOCK / 32, depth / 2, 32, 2]`, of which as many are read as rows see keys.
    pub keys: *const u16,
    /// Panels of values: bf16 `[depth / 32, BF16_BLOCK / 2, 32, 2]`.
    pub values: *const u16,
    /// Reused: [`BF16_SCORES`] values.
    pub scores: *mut f32,
    /// Of every row, over the blocks so far: largest score, and sum of e^(score - max); f32 `[rows]`.
    pub max: *mut f32,
    pub sum: *mut f32,
    /// Sum of e^(score - max) times the value: f32 `[rows, depth]`; rows up to the next multiple of [`BF16_ROWS`] are written.
    pub totals: *mut f32,
    pub depth: usize,
    pub num_rows: usize,
    /// Rows of one token.
    pub group: usize,
    /// Keys in the block, at most `BF16_BLOCK`; those after them are 0, to the next multiple of 32.
    pub num_keys: usize,
    /// The first row's position less the block's first.
    pub position: isize,
}

/// What the number of rows is rounded up to where tiles are read and written.
pub const BF16_ROWS: usize = 16;
/// Scores of one row lie apart by a line more than a block's: a power of two would crowd them in some sets of the cache.
const STRIDE: usize = BF16_BLOCK + 16;
/// Most rows of one pass.
const MAX_ROWS: usize = 32;
/// Scores of one pass: f32 `[MAX_ROWS, STRIDE]`.
pub const BF16_SCORES: usize = MAX_ROWS * STRIDE;

impl Bf16Block {
    /// Keys of the block that a row sees.
    fn visible(&self, row: usize) -> usize {
        (self.position + 1 + (row / self.group) as isize).clamp(0, self.num_keys as isize) as usize
    }

    /// The first row that sees any of them, or one shortly before it.
    fn first_row(&self) -> usize {
        let row = usize::try_from(-self.position).unwrap_or(0) * self.group;
        row - row % BF16_ROWS
    }
}

/// Products of a few rows with one panel.
pub(super) trait Products {
    /// Rows of one pass, a multiple or a divisor of the rows that one product takes at once.
    const ROWS: usize;
    fn new() -> Self;
    /// As [`super::Bf16Kernels::product`], of at most `ROWS` rows and whole panels, k a multiple of 32.
    unsafe fn multiply(&mut self, p: &Bf16Product);
}

/// The softmax between the two products.
pub(super) trait Softmax {
    /// Largest of n values, n > 0.
    unsafe fn largest(x: *const f32, n: usize) -> f32;
    /// Turns a row of `limit` scores, of which the first `visible` count, into weights e^(score - max) bf16, in place: the first half of the
    /// row's bytes. `limit` is a multiple of 32. Returns the weights' sum, in f32.
    unsafe fn weigh(row: *mut f32, visible: usize, limit: usize, max: f32) -> f32;
    /// x *= factor, n values, a multiple of 32.
    unsafe fn rescale(x: *mut f32, n: usize, factor: f32);
}

/// See [`super::Bf16Kernels::attend_block`].
#[inline(always)]
pub(super) unsafe fn attend_block<P: Products, S: Softmax>(b: &Bf16Block) {
    let mut products = P::new();
    let mut first = b.first_row();
    while first < b.num_rows {
        let rows = P::ROWS.min(b.num_rows - first);
        let limit = b.visible(first + rows - 1).next_multiple_of(PANEL_COLUMNS);
        // SAFETY: the caller's buffers hold the rows, and the block's panels; a weight takes half of its score's bytes.
        unsafe {
            for key in (0..limit).step_by(PANEL_COLUMNS) {
                products.multiply(&Bf16Product {
                    a: b.queries.add(first * b.depth),
                    lda: b.depth,
                    panel: b.keys.add(key * b.depth),
                    c: b.scores.add(key),
                    ldc: STRIDE,
                    m: rows,
                    columns: PANEL_COLUMNS,
                    k: b.depth,
                    accumulate: false,
                });
            }
            for i in 0..rows {
                weigh_row::<S>(b, first + i, b.scores.add(i * STRIDE), limit);
            }
            for column in (0..b.depth).step_by(PANEL_COLUMNS) {
                products.multiply(&Bf16Product {
                    a: b.scores.cast(),
                    lda: 2 * STRIDE,
                    panel: b.values.add(column * BF16_BLOCK),
                    c: b.totals.add(first * b.depth + column),
                    ldc: b.depth,
                    m: rows,
                    columns: PANEL_COLUMNS,
                    k: limit,
                    accumulate: true,
                });
            }
        }
        first += rows;
    }
}

/// Turns a row's scores into weights, and rescales what it has so far where its largest score has grown.
#[inline(always)]
unsafe fn weigh_row<S: Softmax>(b: &Bf16Block, row: usize, scores: *mut f32, limit: usize) {
    let visible = b.visible(row);
    // SAFETY: the caller's row.
    unsafe {
        let (max, sum) = (&mut *b.max.add(row), &mut *b.sum.add(row));
        if visible > 0 {
            let largest = S::largest(scores, visible);
            if largest > *max {
                let factor = (*max - largest).exp();
                S::rescale(b.totals.add(row * b.depth), b.depth, factor);
                *sum *= factor;
                *max = largest;
            }
        }
        *sum += S::weigh(scores, visible, limit, *max);
    }
}

/// 2^f for f from 0 to 1 is 1 + f (A + f (B + f C)) but for 1.04e-4 of it, and exactly at both ends: a weight is rounded to bf16, by 2^-9.
const A: f32 = 0.695_424_3;
const B: f32 = 0.226_307_69;
const C: f32 = 0.078_267_97;

/// One value at a time, with plain products or with tiles in plain Rust: what the others are tested against.
#[cfg(test)]
pub(super) mod software {
    use super::super::{amx, bf16 as bf16_kernels};
    use super::{A, B, Bf16Block, Bf16Product, C, Products, Softmax, attend_block};
    use half::bf16;
    use std::f32::consts::LOG2_E;

    pub(in super::super) unsafe fn attend(b: &Bf16Block) {
        // SAFETY: the contract is the caller's.
        unsafe { attend_block::<InPlain, Plain>(b) }
    }

    pub(in super::super) unsafe fn attend_on_tiles(b: &Bf16Block) {
        // SAFETY: the contract is the caller's.
        unsafe { attend_block::<amx::InTiles<amx::software::Plain>, Plain>(b) }
    }

    struct InPlain;

    impl Products for InPlain {
        const ROWS: usize = 5;
        fn new() -> Self {
            Self
        }
        unsafe fn multiply(&mut self, p: &Bf16Product) {
            // SAFETY: the contract is the caller's.
            unsafe { (bf16_kernels::SCALAR.product)(p) }
        }
    }

    struct Plain;

    impl Softmax for Plain {
        unsafe fn largest(x: *const f32, n: usize) -> f32 {
            // SAFETY: the caller's n values.
            (0..n).fold(f32::NEG_INFINITY, |max, i| max.max(unsafe { *x.add(i) }))
        }

        unsafe fn weigh(row: *mut f32, visible: usize, limit: usize, max: f32) -> f32 {
            let offset = max * LOG2_E;
            let mut sum = 0.0;
            for i in 0..limit {
                // SAFETY: the caller's row; what is written was read before.
                unsafe {
                    let x = (*row.add(i)).mul_add(LOG2_E, -offset);
                    let f = x - x.floor();
                    let power = f.mul_add(f.mul_add(f.mul_add(C, B), A), 1.0);
                    let weight = if i < visible { power * x.floor().exp2() } else { 0.0 };
                    *row.cast::<u16>().add(i) = bf16::from_f32(weight).to_bits();
                    sum += weight;
                }
            }
            sum
        }

        unsafe fn rescale(x: *mut f32, n: usize, factor: f32) {
            // SAFETY: the caller's n values.
            (0..n).for_each(|i| unsafe { *x.add(i) *= factor });
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

    use super::super::bf16;
    use super::{A, B, Bf16Block, Bf16Product, C, Products, Softmax, attend_block};
    use std::arch::x86_64::*;
    use std::f32::consts::LOG2_E;

    const LANES: usize = 16;

    /// Everything is inlined into a function that has the target features.
    pub(in super::super) struct Vectors;

    impl Softmax for Vectors {
        #[inline(always)]
        unsafe fn largest(x: *const f32, n: usize) -> f32 {
            unsafe {
                let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
                let mut max = [lowest; 2];
                let mut i = 0;
                while i + 2 * LANES <= n {
                    max[0] = _mm512_max_ps(max[0], _mm512_loadu_ps(x.add(i)));
                    max[1] = _mm512_max_ps(max[1], _mm512_loadu_ps(x.add(i + LANES)));
                    i += 2 * LANES;
                }
                while i < n {
                    max[0] = _mm512_max_ps(max[0], _mm512_mask_loadu_ps(lowest, first_lanes(n - i), x.add(i)));
                    i += LANES;
                }
                _mm512_reduce_max_ps(_mm512_max_ps(max[0], max[1]))
            }
        }

        #[inline(always)]
        unsafe fn weigh(row: *mut f32, visible: usize, limit: usize, max: f32) -> f32 {
            unsafe {
                let (scale, offset) = (_mm512_set1_ps(LOG2_E), _mm512_set1_ps(max * LOG2_E));
                let mut sum = [_mm512_setzero_ps(); 2];
                let out = row.cast::<u16>();
                let mut i = 0;
                while i + 2 * LANES <= visible {
                    let x = [
                        power(_mm512_loadu_ps(row.add(i)), scale, offset),
                        power(_mm512_loadu_ps(row.add(i + LANES)), scale, offset),
                    ];
                    sum = [_mm512_add_ps(sum[0], x[0]), _mm512_add_ps(sum[1], x[1])];
                    store(out.add(i), x);
                    i += 2 * LANES;
                }
                while i < limit {
                    let left = visible.saturating_sub(i);
                    let masks = [first_lanes(left), first_lanes(left.saturating_sub(LANES))];
                    let x = [
                        _mm512_maskz_mov_ps(masks[0], power(_mm512_loadu_ps(row.add(i)), scale, offset)),
                        _mm512_maskz_mov_ps(masks[1], power(_mm512_loadu_ps(row.add(i + LANES)), scale, offset)),
                    ];
                    sum = [_mm512_add_ps(sum[0], x[0]), _mm512_add_ps(sum[1], x[1])];
                    store(out.add(i), x);
                    i += 2 * LANES;
                }
                _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]))
            }
        }

        #[inline(always)]
        unsafe fn rescale(x: *mut f32, n: usize, factor: f32) {
            for i in (0..n).step_by(LANES) {
                unsafe { _mm512_storeu_ps(x.add(i), _mm512_mul_ps(_mm512_loadu_ps(x.add(i)), _mm512_set1_ps(factor))) };
            }
        }
    }

    #[inline(always)]
    fn first_lanes(count: usize) -> __mmask16 {
        ((1u32 << count.min(LANES)) - 1) as __mmask16
    }

    /// 2^(x scale - offset): the fraction by a polynomial, the whole part as an exponent.
    #[inline(always)]
    unsafe fn power(x: __m512, scale: __m512, offset: __m512) -> __m512 {
        /// x less the next integer below.
        const FRACTION: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
        unsafe {
            let x = _mm512_fmsub_ps(x, scale, offset);
            let f = _mm512_reduce_ps::<FRACTION>(x);
            let p = _mm512_fmadd_ps(f, _mm512_set1_ps(C), _mm512_set1_ps(B));
            let p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(A));
            let p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(1.0));
            // The instruction takes the integer below itself.
            _mm512_scalef_ps(p, x)
        }
    }

    #[inline(always)]
    unsafe fn store(out: *mut u16, x: [__m512; 2]) {
        unsafe {
            let pair = _mm512_cvtne2ps_pbh(x[1], x[0]);
            _mm512_storeu_si512(out.cast(), std::mem::transmute::<__m512bh, __m512i>(pair));
        }
    }

    /// Products of vectors.
    struct InVectors;

    impl Products for InVectors {
        /// Twice the rows that a product keeps in registers.
        const ROWS: usize = 24;
        #[inline(always)]
        fn new() -> Self {
            Self
        }
        #[inline(always)]
        unsafe fn multiply(&mut self, p: &Bf16Product) {
            unsafe { (bf16::AVX512.product)(p) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(in super::super) unsafe fn attend(b: &Bf16Block) {
        unsafe { attend_block::<InVectors, Vectors>(b) }
    }

    #[cfg(target_os = "linux")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(in super::super) unsafe fn attend_on_tiles(b: &Bf16Block) {
        use super::super::amx::{InTiles, Registers};
        unsafe { attend_block::<InTiles<Registers>, Vectors>(b) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bf16::tests::{all, narrowed};
    use super::*;
    use crate::aligned::Aligned;
    use crate::kernels::{Bf16Kernels, bf16_depth};
    use crate::test_rows::{Random, dot, store};
    use half::bf16;

    /// Rows that attend to all keys up to their own.
    struct Case {
        d: usize,
        group: usize,
        num_tokens: usize,
        first_position: usize,
        num_keys: usize,
    }

    impl Case {
        fn num_rows(&self) -> usize {
            self.num_tokens * self.group
        }

        fn visible(&self, row: usize) -> usize {
            (self.first_position + row / self.group + 1).min(self.num_keys)
        }

        /// Largest score, sum of weights and their sums of values, of each row, over all blocks in turn. Inputs f32 that bf16 holds.
        fn attend(&self, kernels: &Bf16Kernels, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<(f32, f32, Vec<f32>)> {
            let (d, depth, rows) = (self.d, bf16_depth(self.d), self.num_rows());
            let kv = store(keys, values, d);
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
                // SAFETY: the buffers hold these rows and a block's panels.
                unsafe {
                    (kernels.pack_keys)(&kv.keys(first, num_keys), key_panels.as_mut_ptr());
                    (kernels.pack_values)(&kv.values(first, num_keys), value_panels.as_mut_ptr());
                    (kernels.attend_block)(&Bf16Block {
                        queries: narrow.as_ptr(),
                        keys: key_panels.as_ptr(),
                        values: value_panels.as_ptr(),
                        scores: scores.as_mut_ptr(),
                        max: max.as_mut_ptr(),
                        sum: sum.as_mut_ptr(),
                        totals: totals.as_mut_ptr(),
                        depth,
                        num_rows: rows,
                        group: self.group,
                        num_keys,
                        position: self.first_position as isize - first as isize,
                    });
                }
            }
            let row = |r: usize| totals[r * depth..r * depth + d].to_vec();
            (0..rows).map(|r| (max[r], sum[r], row(r))).collect()
        }
    }

    const CASES: [Case; 8] = [
        Case { d: 64, group: 3, num_tokens: 1, first_position: 40, num_keys: 41 },
        Case { d: 64, group: 1, num_tokens: 16, first_position: 0, num_keys: 16 },
        Case { d: 64, group: 3, num_tokens: 3, first_position: 254, num_keys: 257 },
        Case { d: 64, group: 7, num_tokens: 20, first_position: 250, num_keys: 270 },
        Case { d: 16, group: 2, num_tokens: 33, first_position: 500, num_keys: 533 },
        Case { d: 80, group: 5, num_tokens: 9, first_position: 700, num_keys: 709 },
        Case { d: 96, group: 9, num_tokens: 40, first_position: 240, num_keys: 280 },
        Case { d: 256, group: 4, num_tokens: 5, first_position: 300, num_keys: 305 },
    ];

    #[test]
    fn equals_f64_within_the_budget() {
        for case in &CASES {
            let d = case.d;
            let mut random = Random(d as u64);
            let mut reals = |n: usize, most: i64| -> Vec<f32> {
                random.reals(n, most).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
            };
            let (queries, keys, values) = (reals(case.num_rows() * d, 1), reals(case.num_keys * d, 1), reals(case.num_keys * d, 2));
            for kernels in all() {
                for (r, (max, sum, totals)) in case.attend(kernels, &queries, &keys, &values).into_iter().enumerate() {
                    let n = case.visible(r);
                    let query = &queries[r * d..(r + 1) * d];
                    let scores: Vec<f64> = (0..n).map(|i| dot(query, &keys[i * d..(i + 1) * d])).collect();
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
                        let exact = (0..n).map(|i| weights[i] * f64::from(values[i * d + c])).sum::<f64>() / exact_sum;
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
        for case in &CASES {
            let d = case.d;
            let mut random = Random(7);
            let (keys, values) = (random.integers(case.num_keys * d, 9), random.integers(case.num_keys * d, 9));
            for kernels in all() {
                let rows = case.attend(kernels, &vec![0.0; case.num_rows() * d], &keys, &values);
                for (r, (max, sum, totals)) in rows.into_iter().enumerate() {
                    let n = case.visible(r);
                    assert_eq!((max, sum), (0.0, n as f32), "{} d {d} row {r}", kernels.name);
                    let exact: Vec<f32> = (0..d).map(|c| (0..n).map(|i| values[i * d + c]).sum()).collect();
                    assert_eq!(totals, exact, "{} d {d} row {r}", kernels.name);
                }
            }
        }
    }

    /// Far below the maximum a weight is nothing, not something wrong.
    #[test]
    fn weights_far_below_vanish() {
        let case = Case { d: 16, group: 1, num_tokens: 1, first_position: 39, num_keys: 40 };
        let (mut queries, mut keys) = (vec![0.0; 16], vec![0.0; 40 * 16]);
        queries[0] = 64.0;
        // Scores -128 i: most are far below what f32 holds as an exponential.
        (0..40).for_each(|i| keys[i * 16] = -2.0 * i as f32);
        for kernels in all() {
            let rows = case.attend(kernels, &queries, &keys, &vec![3.0; 40 * 16]);
            assert_eq!(rows[0], (0.0, 1.0, vec![3.0; 16]), "{}", kernels.name);
        }
    }
}
