//! A piece of a prompt's attention.

use std::ops::Range;

use crate::kv::head_kv::HeadKv;

/// Some consecutive new tokens of one sequence and KV head, all before [`super::prefill::MIN_BF16_POSITION`] or none; their keys and values are
/// stored already.
pub struct PrefillItem<'a> {
    pub kv: HeadKv<'a>,
    /// Position of the first token.
    pub first_position: usize,
    pub num_tokens: usize,
    /// Positions that a token sees, its own included; `usize::MAX`: all.
    pub window: usize,
    pub group: usize,
    pub head_dim: usize,
    /// First token's query, first head of the group; a token's heads are contiguous.
    pub queries: *const f32,
    /// Likewise for the output.
    pub out: *mut f32,
    /// Values from one token to the next, in both.
    pub token_stride: usize,
    /// Positions that are attended to, as far as a token may see them: whole spans of `SPAN`, but for the end. Some token sees some of each span.
    pub keys: Range<usize>,
}

impl PrefillItem<'_> {
    pub fn num_rows(&self) -> usize {
        self.num_tokens * self.group
    }

    /// First position that token i sees.
    pub fn first_seen(&self, i: usize) -> usize {
        (self.first_position + i + 1).saturating_sub(self.window)
    }

    /// Of the keys `first..end` those from the first block of `block` keys on that any token sees.
    pub fn blocks(&self, keys: Range<usize>, block: usize) -> impl Iterator<Item = usize> + use<> {
        let unseen = self.first_seen(0).saturating_sub(keys.start) / block;
        (keys.start + unseen * block..keys.end).step_by(block)
    }
}
