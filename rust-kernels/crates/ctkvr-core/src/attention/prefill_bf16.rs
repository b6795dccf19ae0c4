//! Attention of a prompt's rows in bf16: keys and values narrowed and packed once a block for all rows of an item.

use std::ops::Range;

use crate::attention::partial::Partial;
use crate::attention::prefill_item::PrefillItem;
use ctkvr_kernels::Aligned;
use ctkvr_kernels::{BF16_BLOCK, BF16_ROWS, BF16_SCORES, Bf16Block, Bf16Kernels, bf16_depth};

/// Reused memory of one thread.
#[derive(Default)]
pub struct Bf16Scratch {
    /// bf16 `[rows, depth]`, scaled; rows and depth rounded up to whole tiles, 0 there.
    queries: Aligned<u16>,
    /// Panels of one block, its scores, and what rows add up, see [`Bf16Block`].
    keys: Aligned<u16>,
    values: Aligned<u16>,
    scores: Aligned<f32>,
    totals: Aligned<f32>,
}

impl Bf16Scratch {
    /// Narrows scaled queries f32 `[rows, head_dim]`.
    pub fn take_queries(&mut self, bf16: &Bf16Kernels, queries: &[f32], head_dim: usize) {
        let depth = bf16_depth(head_dim);
        let rows = (queries.len() / head_dim).next_multiple_of(BF16_ROWS);
        self.queries.resize(rows * depth);
        self.queries.fill(0);
        for (row, out) in queries.chunks_exact(head_dim).zip(self.queries.chunks_exact_mut(depth)) {
            bf16.narrow(row, &mut out[..head_dim]);
        }
        self.keys.resize(BF16_BLOCK * depth);
        self.values.resize(BF16_BLOCK * depth);
        self.scores.resize(BF16_SCORES);
        self.totals.resize(rows * depth);
    }
}

/// Attends to the keys of one span; the scratch has the item's queries.
pub fn attend_span_bf16(item: &PrefillItem, bf16: &Bf16Kernels, s: &mut Bf16Scratch, keys: Range<usize>, total: &mut Partial) {
    let (num_rows, d, depth) = (item.num_rows(), item.head_dim, bf16_depth(item.head_dim));
    total.reset(num_rows, d);
    s.totals.fill(0.0);
    for first in item.blocks(keys.clone(), BF16_BLOCK) {
        let (left, num_keys) = (keys.end - first, BF16_BLOCK.min(keys.end - first));
        // Of all that are left, so that the next block's are asked for in time.
        let (keys, values) = (item.kv.keys(first, left), item.kv.values(first, left));
        bf16.pack_keys(&keys.part(0, num_keys), &mut s.keys);
        bf16.pack_values(&values.part(0, num_keys), &mut s.values);
        bf16.attend_block(Bf16Block {
            queries: &s.queries,
            keys: &s.keys,
            values: &s.values,
            scores: &mut s.scores,
            max: &mut total.max,
            sum: &mut total.sum,
            totals: &mut s.totals,
            depth,
            num_rows,
            group: item.group,
            num_keys,
            position: item.first_position as isize - first as isize,
            window: item.window,
        });
    }
    for (row, values) in s.totals.chunks_exact(depth).zip(total.values.chunks_exact_mut(d)) {
        values.copy_from_slice(&row[..d]);
    }
}
