//! One sequence's state: pages, recent queries, selector and index of every (layer, KV head).

use std::sync::Arc;

use crate::backend::{AttentionShape, SequenceMemory};
use crate::error::{Error, Result};
use crate::kv::HeadKv;
use crate::options::{SelectorKind, SelectorOptions};
use crate::recent_queries::RecentQueries;
use crate::selector::HeadSelector;

/// What a build made for one sequence: immutable, shared by forks.
pub(crate) struct SequenceIndex {
    /// Indexed positions.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// `[num_layers, num_kv_heads]`.
    pub(crate) heads: Vec<Box<dyn HeadSelector>>,
    pub(crate) bytes: usize,
    /// Settings it was built with.
    pub(crate) options: SelectorOptions,
}

/// A row of KV with all that decode needs.
pub(crate) struct Sequence {
    pub(crate) max_tokens: usize,
    pub(crate) len: usize,
    /// `[num_layers, num_kv_heads]`.
    pub(crate) heads: Vec<HeadKv>,
    /// `[num_layers]`; copied when a fork writes.
    pub(crate) recent: Vec<Arc<RecentQueries>>,
    /// First position whose query is still in the ring.
    pub(crate) recent_from: usize,
    pub(crate) selector: SelectorOptions,
    pub(crate) index: Option<Arc<SequenceIndex>>,
}

impl Sequence {
    pub(crate) fn new(shape: AttentionShape, max_tokens: usize, selector: SelectorOptions) -> Self {
        let mut sequence = Self {
            max_tokens,
            len: 0,
            heads: (0..shape.num_layers * shape.num_kv_heads).map(|_| HeadKv::new(shape.head_dim)).collect(),
            recent: Vec::new(),
            recent_from: 0,
            selector,
            index: None,
        };
        sequence.resize_recent(shape);
        sequence
    }

    pub(crate) fn fork(&self) -> Self {
        Self {
            max_tokens: self.max_tokens,
            len: self.len,
            heads: self.heads.iter().map(HeadKv::fork).collect(),
            recent: self.recent.clone(),
            recent_from: self.recent_from,
            selector: self.selector.clone(),
            index: self.index.clone(),
        }
    }

    /// A ring as long as the selector's centroids need; what the old one held stays.
    fn resize_recent(&mut self, shape: AttentionShape) {
        let capacity = self.selector.num_centroids.min(self.max_tokens).max(1);
        if self.recent.first().is_some_and(|r| r.capacity() == capacity) {
            return;
        }
        let row_len = shape.num_q_heads * shape.head_dim;
        let held = self.recent_positions();
        let kept = held.start.max(held.end.saturating_sub(capacity))..held.end;
        let old = std::mem::take(&mut self.recent);
        self.recent = (0..shape.num_layers).map(|_| Arc::new(RecentQueries::new(capacity, row_len))).collect();
        for (new, old) in self.recent.iter_mut().zip(&old) {
            for position in kept.clone() {
                // SAFETY: both rows hold row_len values.
                unsafe { std::ptr::copy_nonoverlapping(old.row(position).as_ptr(), new.slot(position), row_len) };
            }
        }
        self.recent_from = kept.start;
    }

    /// Positions whose queries are held.
    pub(crate) fn recent_positions(&self) -> std::ops::Range<usize> {
        let capacity = self.recent.first().map_or(0, |r| r.capacity());
        self.recent_from.max(self.len.saturating_sub(capacity)).min(self.len)..self.len
    }

    /// Changes the selector. An index stays when it was built with the same settings (how it is read may differ).
    pub(crate) fn set_selector(&mut self, shape: AttentionShape, selector: SelectorOptions) {
        self.selector = selector;
        self.resize_recent(shape);
        if self.index.as_ref().is_some_and(|i| !i.options.same_build(&self.selector)) {
            self.index = None;
        }
    }

    /// Drops positions `>= len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.recent_from = self.recent_positions().start.min(len);
        self.len = len;
        self.heads.iter_mut().for_each(|h| h.truncate(len));
        if self.index.as_ref().is_some_and(|i| i.end > len) {
            self.index = None;
        }
    }

    /// Makes room for `num_rows` more tokens; on an error nothing has changed that is visible.
    pub(crate) fn reserve(&mut self, num_rows: usize) -> Result<()> {
        let needed = self.len + num_rows;
        if needed > self.max_tokens {
            return Err(Error::ContextExceeded { max_tokens: self.max_tokens, needed });
        }
        self.heads.iter_mut().try_for_each(|h| h.reserve(self.len, needed))
    }

    /// Where the next build's region lies: between sinks and window. Empty when the sequence is too short for retrieval.
    pub(crate) fn region(&self) -> std::ops::Range<usize> {
        let start = self.selector.num_sink_tokens.min(self.len);
        let end = self.len.saturating_sub(self.selector.recent_window).max(start);
        if self.selector.kind == SelectorKind::Full || self.len < self.selector.dense_below { start..start } else { start..end }
    }

    pub(crate) fn memory(&self) -> SequenceMemory {
        let recent: usize = self.recent.iter().map(|r| r.bytes()).sum();
        SequenceMemory {
            kv_bytes: self.heads.iter().map(HeadKv::bytes).sum(),
            index_bytes: recent + self.index.as_ref().map_or(0, |i| i.bytes),
        }
    }
}
