//! A block of keys and values against the query rows of a prompt, in bf16: a few rows at a time, whose scores and weights stay in the
//! first-level cache from the first product to the second.
//!
//! What a row gets depends on its query, its position and the block alone. Each value is summed in one order, pair by pair, whichever rows
//! share the pass; keys that a row does not see have weight 0, which changes no sum but the sign of a zero.

#![cfg_attr(not(any(test, target_arch = "x86_64")), allow(dead_code, reason = "no other CPU has products in bf16 yet"))]

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod software;
#[cfg(test)]
mod tests;

use crate::Aligned;
use crate::bf16::{PANEL_COLUMNS, RawProduct};

/// Keys of a block: the scores of [`Products::ROWS`] rows, f32, fill most of the first-level cache; panels and totals pass by from the second.
pub const BF16_BLOCK: usize = 256;

/// One block; what is [`Aligned`] begins with a cache line. Depth is a head's values, rounded up to a multiple of [`PANEL_COLUMNS`]: what
/// is beyond them is 0.
pub struct Bf16Block<'a> {
    /// bf16 `[rows, depth]`, already times 1/sqrt(head_dim); rows up to the next multiple of [`BF16_ROWS`] are read.
    pub queries: &'a Aligned<u16>,
    /// Panels of keys: bf16 `[BF16_BLOCK / 32, depth / 2, 32, 2]`, of which as many are read as rows see keys.
    pub keys: &'a Aligned<u16>,
    /// Panels of values: bf16 `[depth / 32, BF16_BLOCK / 2, 32, 2]`.
    pub values: &'a Aligned<u16>,
    /// Reused: [`BF16_SCORES`] values.
    pub scores: &'a mut Aligned<f32>,
    /// Of every row, over the blocks so far: largest score, and sum of e^(score - max); f32 `[rows]`.
    pub max: &'a mut [f32],
    pub sum: &'a mut [f32],
    /// Sum of e^(score - max) times the value: f32 `[rows, depth]`; rows up to the next multiple of [`BF16_ROWS`] are written.
    pub totals: &'a mut Aligned<f32>,
    pub depth: usize,
    pub num_rows: usize,
    /// Rows of one token.
    pub group: usize,
    /// Keys in the block, at most `BF16_BLOCK`; those after them are 0, to the next multiple of 32.
    pub num_keys: usize,
    /// The first row's position less the block's first.
    pub position: isize,
    /// Positions that a row sees, its own included; `usize::MAX`: all.
    pub window: usize,
}

/// The same by pointers.
pub(crate) struct RawBlock {
    pub(crate) queries: *const u16,
    pub(crate) keys: *const u16,
    pub(crate) values: *const u16,
    pub(crate) scores: *mut f32,
    pub(crate) max: *mut f32,
    pub(crate) sum: *mut f32,
    pub(crate) totals: *mut f32,
    pub(crate) depth: usize,
    pub(crate) num_rows: usize,
    pub(crate) group: usize,
    pub(crate) num_keys: usize,
    pub(crate) position: isize,
    pub(crate) window: usize,
}

/// What the number of rows is rounded up to where tiles are read and written.
pub const BF16_ROWS: usize = 16;
/// Scores of one row lie apart by a line more than a block's: a power of two would crowd them in some sets of the cache.
const STRIDE: usize = BF16_BLOCK + 16;
/// Most rows of one pass.
const MAX_ROWS: usize = 32;
/// Scores of one pass: f32 `[MAX_ROWS, STRIDE]`.
pub const BF16_SCORES: usize = MAX_ROWS * STRIDE;

impl RawBlock {
    /// Keys of the block that a row sees.
    fn visible(&self, row: usize) -> usize {
        (self.position + 1 + (row / self.group) as isize).clamp(0, self.num_keys as isize) as usize
    }

    /// Keys of the block before those that a row sees.
    fn hidden(&self, row: usize) -> usize {
        let seen = usize::try_from(self.position + 1 + (row / self.group) as isize).unwrap_or(0);
        seen.saturating_sub(self.window).min(self.num_keys)
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
    unsafe fn multiply(&mut self, p: &RawProduct);
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
    /// Of these, scores at the beginning that do not count.
    hidden: [usize; CHUNK],
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
pub(super) unsafe fn attend_block<P: Products, S: Softmax>(b: &RawBlock) {
    let mut products = P::new();
    let mut first = b.first_row();
    while first < b.num_rows {
        let rows = P::ROWS.min(b.num_rows - first);
        let limit = b.visible(first + rows - 1).next_multiple_of(PANEL_COLUMNS);
        // SAFETY: the caller's buffers hold the rows, and the block's panels; a weight takes half of its score's bytes.
        unsafe {
            for key in (0..limit).step_by(PANEL_COLUMNS) {
                products.multiply(&RawProduct {
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
                products.multiply(&RawProduct {
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

/// A score that is no row's largest, and whose weight is 0.
const HIDDEN: f32 = -1e30;

/// Of each row that sees some of the block, gives keys before its window the weight 0.
#[inline(always)]
unsafe fn hide(chunk: &Chunk) {
    for (r, hidden) in chunk.hidden[..chunk.rows].iter().enumerate() {
        // SAFETY: the caller's rows.
        (0..*hidden).for_each(|i| unsafe { *chunk.scores.add(r * STRIDE + i) = HIDDEN });
    }
}

/// Turns some rows' scores into weights, and rescales what they have so far where their largest score has grown.
#[inline(always)]
unsafe fn weigh_rows<S: Softmax>(b: &RawBlock, first: usize, rows: usize, scores: *mut f32, limit: usize) {
    let mut chunk = Chunk { scores, rows, visible: [0; CHUNK], hidden: [0; CHUNK], limit };
    for i in 0..rows {
        let (visible, hidden) = (b.visible(first + i), b.hidden(first + i));
        (chunk.visible[i], chunk.hidden[i]) = if hidden < visible { (visible, hidden) } else { (0, 0) };
    }
    // SAFETY: the caller's rows.
    unsafe { hide(&chunk) };
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
