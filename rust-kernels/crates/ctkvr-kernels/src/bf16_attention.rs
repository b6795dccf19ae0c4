//! A block of keys and values against the query rows of a prompt, in bf16: a few rows at a time, whose scores and weights stay in the
//! first-level cache from the first product to the second.
//!
//! What a row gets depends on its query, its position and the block alone. Each value is summed in one order, pair by pair, whichever rows
//! share the pass; keys that a row does not see have weight 0, which changes no sum but the sign of a zero.

#![cfg_attr(not(any(test, target_arch = "x86_64")), allow(dead_code, reason = "no other CPU has products in bf16 yet"))]

use super::bf16::{Bf16Product, PANEL_COLUMNS};

/// Keys of a block: the scores of [`Products::ROWS`] rows, f32, fill most of the first-level cache; panels and totals pass by from the second.
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

/// Rows whose softmax is taken together: a vector of them.
const CHUNK: usize = 16;

/// The scores of up to [`CHUNK`] rows, `STRIDE` apart.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    scores: *mut f32,
    rows: usize,
    /// Scores of each row that count; what is after them, to `limit`, a multiple of 32, has weight 0.
    visible: [usize; CHUNK],
    limit: usize,
}

/// The softmax between the two products.
pub(super) trait Softmax {
    /// Largest score of each row; -infinity for a row that sees nothing.
    unsafe fn largest(chunk: &Chunk) -> [f32; CHUNK];
    /// Turns scores into weights e^(score - max) bf16, in place: the first half of a row's bytes. Returns the sum of each row's weights, in
    /// f32.
    unsafe fn weigh(chunk: &Chunk, max: &[f32; CHUNK]) -> [f32; CHUNK];
    /// Asks for n values.
    unsafe fn prefetch(x: *const f32, n: usize);
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
            S::prefetch(b.totals.add(first * b.depth), rows * b.depth);
            for i in (0..rows).step_by(CHUNK) {
                weigh_rows::<S>(b, first + i, CHUNK.min(rows - i), b.scores.add(i * STRIDE), limit);
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

/// Turns some rows' scores into weights, and rescales what they have so far where their largest score has grown.
#[inline(always)]
unsafe fn weigh_rows<S: Softmax>(b: &Bf16Block, first: usize, rows: usize, scores: *mut f32, limit: usize) {
    let mut chunk = Chunk { scores, rows, visible: [0; CHUNK], limit };
    for (i, visible) in chunk.visible[..rows].iter_mut().enumerate() {
        *visible = b.visible(first + i);
    }
    // SAFETY: the caller's rows.
    unsafe {
        let largest = S::largest(&chunk);
        let mut max = [0.0; CHUNK];
        for (i, max) in max[..rows].iter_mut().enumerate() {
            let row = first + i;
            *max = *b.max.add(row);
            if largest[i] > *max {
                let factor = (*max - largest[i]).exp();
                S::rescale(b.totals.add(row * b.depth), b.depth, factor);
                *b.sum.add(row) *= factor;
                *max = largest[i];
                *b.max.add(row) = *max;
            }
        }
        for (i, sum) in S::weigh(&chunk, &max)[..rows].iter().enumerate() {
            *b.sum.add(first + i) += sum;
        }
    }
}

/// 2^f for f from 0 to 1 is 1 + f (A + f (B + f C)) but for 1.04e-4 of it, and exactly at both ends: a weight is rounded to bf16, by 2^-9.
const A: f32 = 0.695_424_3;
const B: f32 = 0.226_307_69;
const C: f32 = 0.078_267_97;

/// One value at a time, with plain products or with tiles in plain Rust: what the others are tested against.
pub(super) mod software {
    use super::super::bf16 as bf16_kernels;
    use super::{A, B, Bf16Block, Bf16Product, C, CHUNK, Chunk, Products, STRIDE, Softmax, attend_block};
    use half::bf16;
    use std::f32::consts::LOG2_E;

    pub(in super::super) unsafe fn attend(b: &Bf16Block) {
        // SAFETY: the contract is the caller's.
        unsafe { attend_block::<InPlain, Plain>(b) }
    }

    #[cfg(test)]
    pub(in super::super) unsafe fn attend_on_tiles(b: &Bf16Block) {
        // SAFETY: the contract is the caller's.
        unsafe { attend_block::<super::super::amx::InTiles<super::super::amx::software::Plain>, Plain>(b) }
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
        unsafe fn largest(chunk: &Chunk) -> [f32; CHUNK] {
            let mut largest = [f32::NEG_INFINITY; CHUNK];
            for (r, largest) in largest[..chunk.rows].iter_mut().enumerate() {
                // SAFETY: the caller's rows.
                (0..chunk.visible[r]).for_each(|i| *largest = largest.max(unsafe { *chunk.scores.add(r * STRIDE + i) }));
            }
            largest
        }

        unsafe fn weigh(chunk: &Chunk, max: &[f32; CHUNK]) -> [f32; CHUNK] {
            let mut sums = [0.0; CHUNK];
            for (r, sum) in sums[..chunk.rows].iter_mut().enumerate() {
                let offset = max[r] * LOG2_E;
                for i in 0..chunk.limit {
                    // SAFETY: the caller's rows; what is written was read before.
                    unsafe {
                        let row = chunk.scores.add(r * STRIDE);
                        let x = (*row.add(i)).mul_add(LOG2_E, -offset);
                        let f = x - x.floor();
                        let power = f.mul_add(f.mul_add(f.mul_add(C, B), A), 1.0);
                        let weight = if i < chunk.visible[r] { power * x.floor().exp2() } else { 0.0 };
                        *row.cast::<u16>().add(i) = bf16::from_f32(weight).to_bits();
                        *sum += weight;
                    }
                }
            }
            sums
        }

        unsafe fn prefetch(_: *const f32, _: usize) {}

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
    use super::{A, B, Bf16Block, Bf16Product, C, CHUNK, Chunk, Products, STRIDE, Softmax, attend_block};
    use std::arch::x86_64::*;
    use std::f32::consts::LOG2_E;

    const LANES: usize = 16;

    /// Everything is inlined into a function that has the target features.
    pub(in super::super) struct Vectors;

    impl Softmax for Vectors {
        #[inline(always)]
        unsafe fn largest(chunk: &Chunk) -> [f32; CHUNK] {
            unsafe {
                let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
                let mut rows = [lowest; CHUNK];
                for (r, row) in rows[..chunk.rows].iter_mut().enumerate() {
                    let (x, n) = (chunk.scores.add(r * STRIDE), chunk.visible[r]);
                    let mut max = [lowest; 2];
                    let mut i = 0;
                    while i + 2 * LANES <= n {
                        max[0] = _mm512_max_ps(max[0], _mm512_load_ps(x.add(i)));
                        max[1] = _mm512_max_ps(max[1], _mm512_load_ps(x.add(i + LANES)));
                        i += 2 * LANES;
                    }
                    while i < n {
                        max[0] = _mm512_max_ps(max[0], _mm512_mask_load_ps(lowest, first_lanes(n - i), x.add(i)));
                        i += LANES;
                    }
                    *row = _mm512_max_ps(max[0], max[1]);
                }
                lanes_of_each::<true>(rows)
            }
        }

        #[inline(always)]
        unsafe fn weigh(chunk: &Chunk, max: &[f32; CHUNK]) -> [f32; CHUNK] {
            unsafe {
                let scale = _mm512_set1_ps(LOG2_E);
                let mut sums = [_mm512_setzero_ps(); CHUNK];
                for (r, total) in sums[..chunk.rows].iter_mut().enumerate() {
                    let (row, visible) = (chunk.scores.add(r * STRIDE), chunk.visible[r]);
                    let (offset, out) = (_mm512_set1_ps(max[r] * LOG2_E), row.cast::<u16>());
                    let mut sum = [_mm512_setzero_ps(); 2];
                    let mut i = 0;
                    while i + 2 * LANES <= visible {
                        let x = [power(row.add(i), scale, offset), power(row.add(i + LANES), scale, offset)];
                        sum = [_mm512_add_ps(sum[0], x[0]), _mm512_add_ps(sum[1], x[1])];
                        store(out.add(i), x);
                        i += 2 * LANES;
                    }
                    while i < chunk.limit {
                        let left = visible.saturating_sub(i);
                        let masks = [first_lanes(left), first_lanes(left.saturating_sub(LANES))];
                        let x = [
                            _mm512_maskz_mov_ps(masks[0], power(row.add(i), scale, offset)),
                            _mm512_maskz_mov_ps(masks[1], power(row.add(i + LANES), scale, offset)),
                        ];
                        sum = [_mm512_add_ps(sum[0], x[0]), _mm512_add_ps(sum[1], x[1])];
                        store(out.add(i), x);
                        i += 2 * LANES;
                    }
                    *total = _mm512_add_ps(sum[0], sum[1]);
                }
                lanes_of_each::<false>(sums)
            }
        }

        #[inline(always)]
        unsafe fn prefetch(x: *const f32, n: usize) {
            (0..n).step_by(LANES).for_each(|i| unsafe { _mm_prefetch::<_MM_HINT_T0>(x.add(i).cast()) });
        }

        #[inline(always)]
        unsafe fn rescale(x: *mut f32, n: usize, factor: f32) {
            for i in (0..n).step_by(LANES) {
                unsafe { _mm512_store_ps(x.add(i), _mm512_mul_ps(_mm512_load_ps(x.add(i)), _mm512_set1_ps(factor))) };
            }
        }
    }

    #[inline(always)]
    fn first_lanes(count: usize) -> __mmask16 {
        ((1u32 << count.min(LANES)) - 1) as __mmask16
    }

    /// The larger of two values each, or their sum.
    #[inline(always)]
    unsafe fn join<const LARGER: bool>(a: __m512, b: __m512) -> __m512 {
        unsafe { if LARGER { _mm512_max_ps(a, b) } else { _mm512_add_ps(a, b) } }
    }

    /// Joins the lanes of each row's vector, every row's in one order.
    #[inline(always)]
    unsafe fn lanes_of_each<const LARGER: bool>(rows: [__m512; CHUNK]) -> [f32; CHUNK] {
        unsafe {
            // Quarters (0 and 2, 1 and 3) of rows i and i + 8.
            let mut halves = [_mm512_setzero_ps(); 8];
            for (i, x) in halves.iter_mut().enumerate() {
                let (a, b) = (rows[i], rows[i + 8]);
                *x = join::<LARGER>(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            }
            // One quarter each of rows i, i + 8, i + 4 and i + 12.
            let mut quarters = [_mm512_setzero_ps(); 4];
            for (i, x) in quarters.iter_mut().enumerate() {
                let (a, b) = (halves[i], halves[i + 4]);
                *x = join::<LARGER>(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            }
            let [a, b, c, d] = quarters;
            let even = join::<LARGER>(_mm512_unpacklo_ps(a, c), _mm512_unpackhi_ps(a, c));
            let odd = join::<LARGER>(_mm512_unpacklo_ps(b, d), _mm512_unpackhi_ps(b, d));
            let all = join::<LARGER>(_mm512_unpacklo_ps(even, odd), _mm512_unpackhi_ps(even, odd));
            let mut out = [0.0; CHUNK];
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_shuffle_f32x4::<0xd8>(all, all));
            out
        }
    }

    /// 2^(x scale - offset) of 16 values: the fraction by a polynomial, the whole part as an exponent.
    #[inline(always)]
    unsafe fn power(x: *const f32, scale: __m512, offset: __m512) -> __m512 {
        /// x less the next integer below.
        const FRACTION: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
        unsafe {
            let x = _mm512_fmsub_ps(_mm512_load_ps(x), scale, offset);
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
    use crate::testing::{Random, TestPages, dot};
    use crate::{Bf16Kernels, KvFormat, bf16_depth};
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
