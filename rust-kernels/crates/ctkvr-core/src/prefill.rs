//! Exact causal attention of a block of new tokens, one KV head: online softmax over blocks of keys, each widened and transposed
//! once for all query heads of the group (FlashAttention's recurrence, arXiv 2205.14135, on a CPU's caches).

use std::ops::Range;

use crate::kernels::{Bf16Kernels, Bf16Product, Gemm, Kernels, PANEL_COLUMNS};
use crate::kv::HeadKv;
use crate::panels::{BLOCK, transpose, widen_rows};
use crate::partial::Partial;

/// Query rows of one work item at most: large enough that widening a block of keys costs a few percent, small enough that its
/// scores stay in the second-level cache.
const MAX_ROWS: usize = 768;

/// Keys from which on products are in bf16, where there are kernels for it: before, attention is little of a prompt's time, and each key's
/// rounding much of its result.
const MIN_BF16_KEYS: usize = 2048;

/// Rows up to which a block's keys and values are read as a decode reads them: panels pay with more.
const FEW_ROWS: usize = 9;

/// How a block's keys and values meet the item's rows.
#[derive(Clone, Copy)]
enum Products<'a> {
    /// As a decode reads them.
    Rows,
    /// In f32, widened and transposed once for all rows.
    Panels,
    Bf16(&'a Bf16Kernels),
}

/// Tokens of one work item.
pub(crate) fn tokens_per_item(group: usize) -> usize {
    (MAX_ROWS / group).max(1)
}

/// Reused memory of one thread.
#[derive(Default)]
pub(crate) struct PrefillScratch {
    /// Scaled queries `[rows, head_dim]`; row = token * group + head.
    queries: Vec<f32>,
    /// Scores, then weights `[rows, BLOCK]`.
    scores: Vec<f32>,
    rows: Vec<f32>,
    panel: Vec<f32>,
    /// In bf16: the queries, a block's rows, their panels `[BLOCK / 32 or head_dim / 32, .., 32, 2]`, and the weights `[rows, BLOCK]`.
    narrow_queries: Vec<u16>,
    narrow_rows: Vec<u16>,
    narrow_panels: Vec<u16>,
    narrow_weights: Vec<u16>,
}

/// Some consecutive new tokens of one sequence and KV head; their keys and values are stored already.
pub(crate) struct PrefillItem<'a> {
    pub(crate) kv: &'a HeadKv,
    /// Position of the first token.
    pub(crate) first_position: usize,
    pub(crate) num_tokens: usize,
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
    /// First token's query, first head of the group; a token's heads are contiguous.
    pub(crate) queries: *const f32,
    /// Likewise for the output.
    pub(crate) out: *mut f32,
    /// Values from one token to the next, in both.
    pub(crate) token_stride: usize,
    /// Positions that are attended to, as far as a token may see them: whole blocks of `BLOCK`, but for the end.
    pub(crate) keys: Range<usize>,
}

impl PrefillItem<'_> {
    /// Attends to the keys: `total` becomes the softmax of every row (token * group + head) over them.
    ///
    /// # Safety
    /// `queries` are live for the item's tokens.
    pub(crate) unsafe fn attend(&self, kernels: &Kernels, s: &mut PrefillScratch, total: &mut Partial) {
        let (d, group) = (self.head_dim, self.group);
        let rows = self.num_tokens * group;
        let scale = 1.0 / (d as f32).sqrt();
        s.queries.resize(rows * d, 0.0);
        for (t, token) in s.queries.chunks_exact_mut(group * d).enumerate() {
            // SAFETY: the caller's pointers.
            let source = unsafe { std::slice::from_raw_parts(self.queries.add(t * self.token_stride), group * d) };
            token.iter_mut().zip(source).for_each(|(q, x)| *q = x * scale);
        }
        let products = match kernels.bf16 {
            _ if rows <= FEW_ROWS => Products::Rows,
            Some(bf16) if self.first_position + self.num_tokens >= MIN_BF16_KEYS => Products::Bf16(bf16),
            _ => Products::Panels,
        };
        if let Products::Bf16(bf16) = products {
            s.narrow_queries.resize(rows * d, 0);
            s.narrow_rows.resize(BLOCK * d, 0);
            s.narrow_panels.resize(BLOCK * d.next_multiple_of(PANEL_COLUMNS), 0);
            s.narrow_weights.resize(rows * BLOCK, 0);
            // SAFETY: both hold rows * d values.
            unsafe { (bf16.narrow)(s.queries.as_ptr(), rows * d, s.narrow_queries.as_mut_ptr()) };
        }
        s.scores.resize(rows * BLOCK, 0.0);
        s.rows.resize(BLOCK * d, 0.0);
        s.panel.resize(BLOCK * d, 0.0);
        total.reset(rows, d);
        for first in self.keys.clone().step_by(BLOCK) {
            self.attend_block(kernels, products, s, total, first, BLOCK.min(self.keys.end - first));
        }
    }

    /// Writes the output of every token and head of the item, from the softmax over all keys that it may see.
    ///
    /// # Safety
    /// `out` is live for the item's tokens, and nobody else writes that output.
    pub(crate) unsafe fn write(&self, total: &Partial) {
        let (d, group) = (self.head_dim, self.group);
        for t in 0..self.num_tokens {
            // SAFETY: the caller's pointers.
            let target = unsafe { std::slice::from_raw_parts_mut(self.out.add(t * self.token_stride), group * d) };
            for (h, head) in target.chunks_exact_mut(d).enumerate() {
                let r = t * group + h;
                head.copy_from_slice(&total.values[r * d..(r + 1) * d]);
                let factor = 1.0 / total.sum[r];
                head.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }

    /// Adds keys `first..first + count` to the rows that may see them.
    fn attend_block(
        &self,
        kernels: &Kernels,
        products: Products,
        s: &mut PrefillScratch,
        total: &mut Partial,
        first: usize,
        count: usize,
    ) {
        let (d, group) = (self.head_dim, self.group);
        // Tokens before this one see none of the block.
        let skip = first.saturating_sub(self.first_position);
        let first_row = skip * group;
        let num_rows = self.num_tokens * group - first_row;
        // Of all that are left, so that the next block's are asked for in time.
        let left = self.keys.end - first;
        let (keys, values) = (self.kv.keys(first, left), self.kv.values(first, left));
        if let Products::Bf16(_) | Products::Panels = products {
            widen_rows(kernels, &keys, 0, count, &mut s.rows);
        }
        match products {
            Products::Bf16(bf16) => self.score_bf16(bf16, s, first_row, num_rows, count),
            Products::Panels => self.score(kernels, s, first_row, num_rows, count),
            Products::Rows => {
                let queries = &s.queries[first_row * d..];
                // SAFETY: queries and scores hold at least num_rows rows.
                unsafe { (kernels.score_rows)(queries.as_ptr(), num_rows, &keys.part(0, count), s.scores.as_mut_ptr(), BLOCK) };
            }
        }
        for r in 0..num_rows {
            let position = self.first_position + skip + r / group;
            let visible = (position + 1 - first).min(count);
            let (row, at) = (&mut s.scores[r * BLOCK..(r + 1) * BLOCK], first_row + r);
            row[visible..].fill(0.0);
            // SAFETY: `visible` values of the row, bounded by the new maximum; one row of the total.
            unsafe {
                let max = total.max[at].max((kernels.max)(row.as_ptr(), visible));
                if max > total.max[at] {
                    let old = (total.max[at] - max).exp();
                    total.sum[at] *= old;
                    (kernels.scale)(total.values[at * d..].as_mut_ptr(), d, old);
                    total.max[at] = max;
                }
                total.sum[at] += (kernels.exp_sub)(row.as_mut_ptr(), visible, max);
            }
        }
        if let Products::Bf16(_) | Products::Panels = products {
            widen_rows(kernels, &values, 0, count, &mut s.rows);
        }
        match products {
            Products::Bf16(bf16) => self.add_values_bf16(bf16, s, total, (first_row, num_rows), count),
            Products::Panels => self.add_values(kernels, s, total, (first_row, num_rows), count),
            Products::Rows => {
                let (total, values) = (&mut total.values[first_row * d..], values.part(0, count));
                // SAFETY: scores and total hold at least num_rows rows.
                unsafe { (kernels.add_weighted_rows)(s.scores.as_ptr(), BLOCK, num_rows, &values, total.as_mut_ptr()) };
            }
        }
    }

    /// Scores of `num_rows` rows from `first_row` on against the `count` keys in `s.rows`.
    fn score(&self, kernels: &Kernels, s: &mut PrefillScratch, first_row: usize, num_rows: usize, count: usize) {
        let d = self.head_dim;
        transpose(&s.rows, count, d, &mut s.panel);
        let scores = Gemm {
            a: s.queries[first_row * d..].as_ptr(),
            lda: d,
            b: s.panel.as_ptr(),
            ldb: BLOCK,
            c: s.scores.as_mut_ptr(),
            ldc: BLOCK,
            m: num_rows,
            n: BLOCK,
            k: d,
            accumulate: false,
        };
        // SAFETY: scores hold at least num_rows rows; the rest as allocated in `run`.
        unsafe { (kernels.gemm)(&scores) };
    }

    /// Adds the `count` values in `s.rows`, weighted by the scores, to those of `num_rows` rows from `first_row` on.
    fn add_values(
        &self,
        kernels: &Kernels,
        s: &PrefillScratch,
        total: &mut Partial,
        (first_row, num_rows): (usize, usize),
        count: usize,
    ) {
        let d = self.head_dim;
        let output = Gemm {
            a: s.scores.as_ptr(),
            lda: BLOCK,
            b: s.rows.as_ptr(),
            ldb: d,
            c: total.values[first_row * d..].as_mut_ptr(),
            ldc: d,
            m: num_rows,
            n: d,
            k: count,
            accumulate: true,
        };
        // SAFETY: as above; the total holds num_rows rows from first_row on.
        unsafe { (kernels.gemm)(&output) };
    }

    /// As `score`, in bf16.
    fn score_bf16(&self, bf16: &Bf16Kernels, s: &mut PrefillScratch, first_row: usize, num_rows: usize, count: usize) {
        let d = self.head_dim;
        narrow_block(bf16, s, count, d);
        for (panel, first) in s.narrow_panels.chunks_exact_mut(PANEL_COLUMNS * d).zip((0..BLOCK).step_by(PANEL_COLUMNS)) {
            // SAFETY: a panel's keys lie in the block; scores hold at least num_rows rows; the rest as allocated in `run`.
            unsafe {
                (bf16.pack_columns)(s.narrow_rows[first * d..].as_ptr(), d, panel.as_mut_ptr());
                (bf16.product)(&Bf16Product {
                    a: s.narrow_queries[first_row * d..].as_ptr(),
                    lda: d,
                    panel: panel.as_ptr(),
                    c: s.scores[first..].as_mut_ptr(),
                    ldc: BLOCK,
                    m: num_rows,
                    columns: PANEL_COLUMNS,
                    k: d,
                    accumulate: false,
                });
            }
        }
    }

    /// As `add_values`, in bf16.
    fn add_values_bf16(
        &self,
        bf16: &Bf16Kernels,
        s: &mut PrefillScratch,
        total: &mut Partial,
        (first_row, num_rows): (usize, usize),
        count: usize,
    ) {
        let d = self.head_dim;
        narrow_block(bf16, s, count, d);
        // SAFETY: both hold num_rows * BLOCK values.
        unsafe { (bf16.narrow)(s.scores.as_ptr(), num_rows * BLOCK, s.narrow_weights.as_mut_ptr()) };
        let k = count.next_multiple_of(2);
        for (panel, first) in s.narrow_panels.chunks_exact_mut(PANEL_COLUMNS * BLOCK).zip((0..d).step_by(PANEL_COLUMNS)) {
            let columns = PANEL_COLUMNS.min(d - first);
            // SAFETY: a panel's columns lie in the block's rows; the total holds num_rows rows from first_row on.
            unsafe {
                (bf16.pack_rows)(s.narrow_rows[first..].as_ptr(), d, k, columns, panel.as_mut_ptr());
                (bf16.product)(&Bf16Product {
                    a: s.narrow_weights.as_ptr(),
                    lda: BLOCK,
                    panel: panel.as_ptr(),
                    c: total.values[first_row * d + first..].as_mut_ptr(),
                    ldc: d,
                    m: num_rows,
                    columns,
                    k,
                    accumulate: true,
                });
            }
        }
    }
}

/// Narrows the `count` rows in `s.rows` to bf16; the block's other rows become 0.
fn narrow_block(bf16: &Bf16Kernels, s: &mut PrefillScratch, count: usize, d: usize) {
    // SAFETY: both hold count * d values.
    unsafe { (bf16.narrow)(s.rows.as_ptr(), count * d, s.narrow_rows.as_mut_ptr()) };
    s.narrow_rows[count * d..].fill(0);
}
