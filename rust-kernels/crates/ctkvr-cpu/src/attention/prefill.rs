//! Rows of prompts: exact attention over everything before them, or over a local layer's window, in items that any thread may take.

use std::sync::atomic::Ordering;

use ctkvr_core::AttentionShape;
use ctkvr_core::attention::prefill::PrefillItem;
use ctkvr_core::attention::prefill_parts::PrefillParts;

use crate::attention::layer_io::LayerIo;
use crate::attention::step::{AttentionStep, StepRows};

impl AttentionStep<'_> {
    /// Row `index` of the step's prefill rows: which rows it belongs to, and which of them it is.
    pub(super) fn prefill_row(&self, mut index: usize) -> Option<(&StepRows<'_>, usize)> {
        for rows in &self.rows[self.num_decode_rows..] {
            if index < rows.append.num_rows {
                return Some((rows, index));
            }
            index -= rows.append.num_rows;
        }
        None
    }

    /// The items of a layer's prefill rows.
    pub(super) fn prefills_of(&self, layer: usize) -> &PrefillParts {
        if self.shape.window(layer).is_some() { self.local_prefills } else { self.prefills }
    }

    /// The next item of the prefill rows' attention over what they see, if one is left; whether it was done.
    pub(super) fn prefill(&self, layer: usize, io: &LayerIo, thread: usize) -> bool {
        let AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. } = self.shape;
        let group = self.shape.group_size();
        if self.prefills_of(layer).is_empty() {
            return false;
        }
        let taken = self.prefills_taken.fetch_add(1, Ordering::Relaxed);
        let Some((part, piece, keys)) = self.prefills_of(layer).items().nth(taken) else { return false };
        let rows = &self.rows[part.rows];
        let offset = (rows.first_row + part.first_token) * num_q_heads * d + part.kv_head * group * d;
        let item = PrefillItem {
            kv: rows.sequence.kv_head(layer * num_kv_heads + part.kv_head),
            first_position: rows.sequence.len + part.first_token,
            num_tokens: part.num_tokens,
            window: self.shape.window(layer).unwrap_or(usize::MAX),
            group,
            head_dim: d,
            // SAFETY: io holds these rows.
            queries: unsafe { io.queries.add(offset) },
            // SAFETY: as above.
            out: unsafe { io.out.add(offset) },
            token_stride: num_q_heads * d,
            keys,
        };
        let scratch = self.scratch(thread);
        let total = &mut scratch.prefill_total;
        // SAFETY: every item is one thread's, and one item of each part writes the part's tokens and heads.
        unsafe {
            item.attend(self.kernels, &mut scratch.prefill, total);
            if part.hand_in(piece, total) {
                item.write(total);
            }
        }
        true
    }
}
