//! Exact causal attention of a block of new tokens, one KV head: online softmax over blocks of keys, each widened and transposed
//! once for all query heads of the group (FlashAttention's recurrence, arXiv 2205.14135, on a CPU's caches).

//!
//! A row's output is a function of its position, its query and the keys and values up to it, bit for bit, whatever shares the item and
//! however keys are dealt out: a row meets the keys in the same blocks and the same sums, what it does not see adds exactly nothing, and
//! sums over [`SPAN`] keys each are merged in order.

use std::ops::Range;

use crate::attention::partial::Partial;
use crate::attention::prefill_bf16::{Bf16Scratch, attend_span_bf16};
pub use crate::attention::prefill_item::PrefillItem;
use crate::kv::panels::{BLOCK, transpose, widen_rows};
use ctkvr_kernels::{Gemm, Kernels};

/// Query rows of one work item at most: large enough that widening a block of keys costs a few percent, small enough that what they add up
/// stays in the second-level cache.
const MAX_ROWS: usize = 768;

/// Keys whose sums are one: a row has one partial softmax for each span of them, at fixed positions, merged in order.
pub const SPAN: usize = 2048;

/// Position from which on a row's products are in bf16, where there are kernels for it: before, attention is little of a prompt's time, and
/// each key's rounding much of its result. (In a step of 8-bit activations its effect from here on cannot be told from that of another order
/// of sums in f32: docs/decisions/2026-12-01-prompt-attention.md.)
pub const MIN_BF16_POSITION: usize = 512;

/// Rows up to which a block's keys are not transposed, and its values are added as a decode adds them, in the same order of sums: panels pay
/// with more.
const FEW_ROWS: usize = 9;
/// Their columns in a product: one vector of the longest, or several.
const FEW_COLUMNS: usize = 16;

/// Tokens of one work item.
pub fn tokens_per_item(group: usize) -> usize {
    (MAX_ROWS / group).max(1)
}

/// Reused memory of one thread.
#[derive(Default)]
pub struct PrefillScratch {
    /// Scaled queries `[rows, head_dim]`; row = token * group + head.
    queries: Vec<f32>,
    /// Scores, then weights `[rows, BLOCK]`.
    scores: Vec<f32>,
    /// A block's keys or values, and its keys transposed.
    rows: Vec<f32>,
    panel: Vec<f32>,
    /// Scores of few rows `[BLOCK, FEW_COLUMNS]`.
    few_scores: Vec<f32>,
    bf16: Bf16Scratch,
    /// Of one span, where an item has several.
    span: Partial,
}

impl PrefillItem<'_> {
    /// Attends to the keys: `total` becomes the softmax of every row (token * group + head) over them.
    ///
    /// # Safety
    /// `queries` are live for the item's tokens.
    pub unsafe fn attend(&self, kernels: &Kernels, s: &mut PrefillScratch, total: &mut Partial) {
        let bf16 = kernels.bf16.filter(|_| self.first_position >= MIN_BF16_POSITION);
        // SAFETY: the caller's pointers.
        unsafe { self.scale_queries(&mut s.queries) };
        if let Some(bf16) = bf16 {
            s.bf16.take_queries(bf16, &s.queries, self.head_dim);
        }
        let mut span = std::mem::take(&mut s.span);
        for first in self.keys.clone().step_by(SPAN) {
            let keys = first..self.keys.end.min(first + SPAN);
            let target = if first == self.keys.start { &mut *total } else { &mut span };
            match bf16 {
                Some(bf16) => attend_span_bf16(self, bf16, &mut s.bf16, keys, target),
                None => self.attend_span(kernels, s, keys, target),
            }
            if first > self.keys.start {
                total.merge(&span);
            }
        }
        s.span = span;
    }

    /// # Safety
    /// `queries` are live for the item's tokens.
    unsafe fn scale_queries(&self, out: &mut Vec<f32>) {
        let (d, group) = (self.head_dim, self.group);
        let scale = 1.0 / (d as f32).sqrt();
        out.resize(self.num_rows() * d, 0.0);
        for (t, token) in out.chunks_exact_mut(group * d).enumerate() {
            // SAFETY: the caller's pointers.
            let source = unsafe { std::slice::from_raw_parts(self.queries.add(t * self.token_stride), group * d) };
            token.iter_mut().zip(source).for_each(|(q, x)| *q = x * scale);
        }
    }

    /// Writes the output of every token and head of the item, from the softmax over all keys that it may see.
    ///
    /// # Safety
    /// `out` is live for the item's tokens, and nobody else writes that output.
    pub unsafe fn write(&self, total: &Partial) {
        let (d, group) = (self.head_dim, self.group);
        for t in 0..self.num_tokens {
            // SAFETY: the caller's pointers.
            let target = unsafe { std::slice::from_raw_parts_mut(self.out.add(t * self.token_stride), group * d) };
            for (h, head) in target.chunks_exact_mut(d).enumerate() {
                let r = t * group + h;
                let factor = 1.0 / total.sum[r];
                // Keys of weight 0 may have made -0 a 0.
                head.iter_mut().zip(&total.values[r * d..]).for_each(|(out, x)| *out = x * factor + 0.0);
            }
        }
    }

    /// Attends to the keys of one span in f32.
    fn attend_span(&self, kernels: &Kernels, s: &mut PrefillScratch, keys: Range<usize>, total: &mut Partial) {
        let (rows, d) = (self.num_rows(), self.head_dim);
        s.scores.resize(rows * BLOCK, 0.0);
        s.rows.resize(BLOCK * d, 0.0);
        s.panel.resize(BLOCK * d, 0.0);
        total.reset(rows, d);
        for first in self.blocks(keys.clone(), BLOCK) {
            self.attend_block(kernels, s, total, first, keys.end);
        }
    }

    /// Adds the block of keys from `first` on, of a span that ends at `end`, to the rows that may see them.
    fn attend_block(&self, kernels: &Kernels, s: &mut PrefillScratch, total: &mut Partial, first: usize, end: usize) {
        let (d, group) = (self.head_dim, self.group);
        let count = BLOCK.min(end - first);
        // Tokens before this one see none of the block.
        let skip = first.saturating_sub(self.first_position);
        let first_row = skip * group;
        // Nor do tokens whose windows begin behind it.
        let end_token = (first + count - 1).saturating_add(self.window).saturating_sub(self.first_position).min(self.num_tokens);
        let num_rows = end_token.saturating_sub(skip) * group;
        // Of all that are left, so that the next block's are asked for in time.
        let (keys, values) = (self.kv.keys(first, end - first), self.kv.values(first, end - first));
        widen_rows(kernels, &keys, 0, count, &mut s.rows);
        if num_rows <= FEW_ROWS {
            self.score_few(kernels, s, first_row, num_rows, count);
        } else {
            self.score(kernels, s, first_row, num_rows, count);
        }
        for r in 0..num_rows {
            let position = self.first_position + skip + r / group;
            let visible = (position + 1 - first).min(count);
            let hidden = self.first_seen(skip + r / group).saturating_sub(first);
            let (row, at) = (&mut s.scores[r * BLOCK..(r + 1) * BLOCK], first_row + r);
            row[..hidden].fill(0.0);
            row[visible..].fill(0.0);
            let row = &mut row[hidden..visible];
            let max = total.max[at].max(kernels.max(row));
            if max > total.max[at] {
                let old = (total.max[at] - max).exp();
                total.sum[at] *= old;
                kernels.scale(&mut total.values[at * d..(at + 1) * d], old);
                total.max[at] = max;
            }
            total.sum[at] += kernels.exp_sub(row, max);
        }
        if num_rows <= FEW_ROWS {
            let total = &mut total.values[first_row * d..][..num_rows * d];
            kernels.add_weighted_rows(&s.scores, BLOCK, &values.part(0, count), total);
        } else {
            widen_rows(kernels, &values, 0, count, &mut s.rows);
            self.add_values(kernels, s, total, (first_row, num_rows), count);
        }
    }

    /// Scores of `num_rows` rows from `first_row` on against the `count` keys in `s.rows`.
    fn score(&self, kernels: &Kernels, s: &mut PrefillScratch, first_row: usize, num_rows: usize, count: usize) {
        let d = self.head_dim;
        transpose(&s.rows, count, d, &mut s.panel);
        kernels.gemm(Gemm {
            a: &s.queries[first_row * d..],
            lda: d,
            b: &s.panel,
            ldb: BLOCK,
            c: &mut s.scores,
            ldc: BLOCK,
            m: num_rows,
            n: BLOCK,
            k: d,
            accumulate: false,
        });
    }

    /// As `score` to the last bit, of up to `FEW_ROWS` rows: those are transposed, not the keys.
    fn score_few(&self, kernels: &Kernels, s: &mut PrefillScratch, first_row: usize, num_rows: usize, count: usize) {
        let d = self.head_dim;
        for (c, out) in s.panel.chunks_exact_mut(FEW_COLUMNS).take(d).enumerate() {
            for (r, x) in out.iter_mut().enumerate() {
                *x = if r < num_rows { s.queries[(first_row + r) * d + c] } else { 0.0 };
            }
        }
        s.few_scores.resize(BLOCK * FEW_COLUMNS, 0.0);
        kernels.gemm(Gemm {
            a: &s.rows,
            lda: d,
            b: &s.panel,
            ldb: FEW_COLUMNS,
            c: &mut s.few_scores,
            ldc: FEW_COLUMNS,
            m: count,
            n: FEW_COLUMNS,
            k: d,
            accumulate: false,
        });
        for (i, column) in s.few_scores.chunks_exact(FEW_COLUMNS).take(count).enumerate() {
            (0..num_rows).for_each(|r| s.scores[r * BLOCK + i] = column[r]);
        }
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
        kernels.gemm(Gemm {
            a: &s.scores,
            lda: BLOCK,
            b: &s.rows,
            ldb: d,
            c: &mut total.values[first_row * d..],
            ldc: d,
            m: num_rows,
            n: d,
            k: count,
            accumulate: true,
        });
    }
}
