//! What a sequence needs at most: bytes of pages, of the queries that it keeps, and of its index. The layouts are this crate's and the
//! methods' own ([`crate::retriever::Retriever::bytes_needed`]); whoever admits or refuses asks here and derives nothing.
//!
//! It is what a sequence holds between operations. While an index is built anew the old one still stands.

use ctkvr_kernels::{KvFormat, PAGE_SIZE};

use crate::options::StepOptions;
use crate::retriever::HeadSize;
use crate::selector::SelectorOptions;
use crate::sequence::recent_queries::DECODE_STRIDE;
use crate::step::{AttentionShape, SequenceMemory};

/// Times the most queries of a first build that are kept so that a cut can grow again: as many centroids as an index holds, see
/// `index/centroid_index.rs`.
const HELD_QUERIES: usize = 2;

/// A sequence whose memory is asked for.
#[derive(Debug, Clone, Copy)]
pub struct MemoryQuestion<'a> {
    pub shape: AttentionShape,
    pub format: KvFormat,
    pub selector: &'a SelectorOptions,
    /// The most tokens it may store.
    pub max_tokens: usize,
    /// Tokens stored, at most `max_tokens`.
    pub num_tokens: usize,
}

impl MemoryQuestion<'_> {
    /// The most bytes that it holds between operations. Rises with `num_tokens`.
    pub fn need(&self) -> SequenceMemory {
        SequenceMemory {
            kv_bytes: self.kv_bytes(),
            index_bytes: self.query_bytes() + self.shape.num_indexed_heads() * self.head_bytes(),
        }
    }

    fn kv_bytes(&self) -> usize {
        self.num_tokens.div_ceil(PAGE_SIZE) * self.shape.page_shape().page_bytes(self.format)
    }

    /// Positions that are indexed; none where everything is read.
    fn num_keys(&self) -> usize {
        let StepOptions { num_sink_tokens, recent_window, dense_below, .. } = self.selector.step;
        let is_dense = self.selector.method.is_dense() || self.num_tokens < dense_below;
        if is_dense { 0 } else { self.num_tokens.saturating_sub(num_sink_tokens.saturating_add(recent_window)) }
    }

    /// The queries from which centroids are made, f16: room for them is there from the first token on, whatever the selector.
    fn query_bytes(&self) -> usize {
        let row_bytes = self.shape.num_indexed_layers() * self.shape.num_q_heads * self.shape.head_dim * size_of::<u16>();
        let (least, most) = self.selector.build.query_bounds();
        let for_prompt = most.min(self.max_tokens).max(1);
        // Of generated tokens those are kept that a cut needs to grow again, and those of two growths.
        let of_growths = 2 * self.selector.build.append_size.div_ceil(DECODE_STRIDE);
        let grown = (HELD_QUERIES * most - least).saturating_add(of_growths).min(2 * self.num_tokens);
        let for_answer = if self.num_keys() > 0 { grown.max(for_prompt) } else { for_prompt };
        // A later prompt keeps those of before it until it is whole: once it is long enough to overwrite some.
        let before = if self.num_tokens > for_prompt { for_answer } else { 0 };
        row_bytes * for_answer.max(for_prompt + before)
    }

    /// The index of one KV head. Layers that a method leaves dense are counted too.
    fn head_bytes(&self) -> usize {
        let num_keys = self.num_keys();
        if num_keys == 0 {
            return 0;
        }
        let (head_dim, group) = (self.shape.head_dim, self.shape.group_size());
        self.selector.method.bytes_needed(&HeadSize { num_keys, head_dim, group, options: self.selector.build })
    }
}
