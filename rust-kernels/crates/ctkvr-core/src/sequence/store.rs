//! One sequence's state: pages, recent queries, selector and index of every (layer, KV head).

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kv::head_kv::HeadKv;
use crate::options::{SelectorKind, SelectorOptions};
use crate::selector::HeadSelector;
use crate::sequence::recent_queries::{DECODE_STRIDE, RecentQueries};
use crate::step::{AttentionShape, SequenceMemory};
use ctkvr_kernels::KvFormat;

/// One KV head's selector and what it covers.
#[derive(Clone)]
pub struct HeadState {
    pub selector: Arc<dyn HeadSelector>,
    /// Where the positions that it chooses from end; later ones are read always.
    pub end: usize,
    /// Tokens stored when it last changed: a sequence cut shorter than that has an earlier state.
    pub made_at: usize,
    /// Tokens whose queries have had their turn to become centroids.
    pub grown_at: usize,
}

/// A build that is not finished.
pub struct PartialBuild {
    /// Tokens stored.
    pub len: usize,
    /// `[num_layers, num_kv_heads]`: those that are built.
    pub heads: Vec<Option<HeadState>>,
}

impl PartialBuild {
    /// Nothing built yet.
    pub fn new(len: usize, num_heads: usize) -> Self {
        Self { len, heads: vec![None; num_heads] }
    }

    fn bytes(&self) -> usize {
        self.heads.iter().flatten().map(|h| h.selector.bytes()).sum()
    }
}

impl HeadState {
    /// As it was when only `len` tokens were stored; `None` when it was not there yet.
    fn truncated(&self, len: usize) -> Option<Self> {
        if self.made_at > len {
            return self.selector.truncated(len);
        }
        Some(Self { grown_at: self.grown_at.min(len), ..self.clone() })
    }
}

/// What was built for one sequence; forks share its parts.
#[derive(Clone)]
pub struct SequenceIndex {
    /// First indexed position.
    pub start: usize,
    /// `[num_layers, num_kv_heads]`.
    pub heads: Vec<HeadState>,
    /// Settings it was built with.
    pub options: SelectorOptions,
    /// Tokens stored at the first build and at each later one that brought all heads up to date, ascending.
    pub built_at: Vec<usize>,
}

impl SequenceIndex {
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|h| h.selector.bytes()).sum()
    }

    /// Where the indexed positions of every head end.
    pub fn end(&self) -> usize {
        self.heads.iter().map(|h| h.end).min().unwrap_or(self.start)
    }

    /// The number of stored tokens at which head i grows next while tokens are generated. Heads take turns, two at a time, over
    /// `append_size` tokens; the first turn comes half of that after the last build.
    pub fn next_growth(&self, i: usize) -> usize {
        let (size, grown_at) = (self.options.append_size, self.heads[i].grown_at);
        let first = self.built_at.last().copied().unwrap_or(0) + size.div_ceil(2) + i / 2 * 2 * size / self.heads.len();
        if grown_at < first { first } else { first + ((grown_at - first) / size + 1) * size }
    }

    /// As it was when only `len` tokens were stored; `None` when it was not there yet.
    fn truncated(&self, len: usize) -> Option<Self> {
        let heads = self.heads.iter().map(|h| h.truncated(len)).collect::<Option<Vec<_>>>()?;
        let built_at: Vec<usize> = self.built_at.iter().copied().take_while(|&at| at <= len).collect();
        (!built_at.is_empty()).then(|| Self { heads, built_at, ..self.clone() })
    }
}

/// What the prompt that is being stored does to the queries of before it.
#[derive(Default)]
struct PromptQueries {
    /// Where it began; `None` before its first piece. What follows another prompt with nothing in between is taken for more of it.
    start: Option<usize>,
    /// All that were held before it overwrote the first: a prompt that fails or is aborted, however far it came, leaves no trace.
    before: Option<RecentQueries>,
}

/// A row of KV with all that decode needs.
pub struct Sequence {
    pub max_tokens: usize,
    pub len: usize,
    /// `[num_layers, num_kv_heads]`.
    pub heads: Vec<HeadKv>,
    pub recent: RecentQueries,
    prompt: PromptQueries,
    pub selector: SelectorOptions,
    pub index: Option<SequenceIndex>,
    pub partial: Option<PartialBuild>,
}

impl Sequence {
    pub fn new(shape: AttentionShape, max_tokens: usize, format: KvFormat, selector: SelectorOptions) -> Self {
        let row_len = shape.num_q_heads * shape.head_dim;
        let heads = (0..shape.num_layers * shape.num_kv_heads).map(|_| HeadKv::new(shape.head_dim, format)).collect();
        let recent = RecentQueries::new(shape.num_layers, recent_capacity(&selector, max_tokens), row_len);
        Self { max_tokens, len: 0, heads, recent, prompt: PromptQueries::default(), selector, index: None, partial: None }
    }

    pub fn fork(&self) -> Self {
        Self {
            max_tokens: self.max_tokens,
            len: self.len,
            heads: self.heads.iter().map(HeadKv::fork).collect(),
            recent: self.recent.clone(),
            prompt: PromptQueries::default(),
            selector: self.selector.clone(),
            index: self.index.clone(),
            partial: None,
        }
    }

    /// Before a piece of a prompt places its queries: room for them, and those kept that it is about to overwrite.
    pub fn make_room_for_prompt(&mut self, num_rows: usize) {
        let start = *self.prompt.start.get_or_insert(self.len);
        let before = self.recent.clone();
        self.widen_recent();
        // After many decodes it may also be less room.
        let drops = before.len() + num_rows > self.recent.capacity();
        if drops && self.prompt.before.is_none() && !before.of_positions(0..start).is_empty() {
            self.prompt.before = Some(before);
        }
    }

    /// The prompt is whole.
    pub fn end_prompt(&mut self) {
        self.prompt = PromptQueries::default();
    }

    /// Room for as many queries as a build makes centroids of: for a prompt, and whenever there is no index yet.
    fn widen_recent(&mut self) {
        self.recent = self.recent.resized(recent_capacity(&self.selector, self.max_tokens));
    }

    /// Once there is an index, tokens come one at a time: room for what grows it next.
    pub fn narrow_recent(&mut self) {
        self.end_prompt();
        let capacity = self.append_queries().min(recent_capacity(&self.selector, self.max_tokens));
        self.recent = self.recent.resized(capacity);
    }

    /// Before a decoded token's query is placed: more room, when there is none, up to what a cut of as much as the index remembers needs
    /// to grow again as it did: `CentroidIndex` holds twice as many centroids as a first block may have, itself among them.
    pub fn make_room_for_decode(&mut self) {
        self.end_prompt();
        let (least, most) = self.selector.centroid_bounds();
        let most = (2 * most - least + self.append_queries()).max(self.recent.capacity());
        if self.recent.len() == self.recent.capacity() && self.index.is_some() {
            self.recent = self.recent.resized(most.min(2 * self.recent.capacity()));
        }
    }

    /// Queries of two growths.
    fn append_queries(&self) -> usize {
        2 * self.selector.append_size.div_ceil(DECODE_STRIDE)
    }

    /// Changes the selector. An index stays when it was built with the same settings (how it is read may differ).
    pub fn set_selector(&mut self, selector: SelectorOptions) {
        self.partial = None;
        let keeps_index = self.index.as_ref().is_some_and(|i| i.options.same_build(&selector));
        self.selector = selector;
        if !keeps_index {
            self.index = None;
            self.widen_recent();
        }
    }

    /// Drops positions `>= len`; the index goes back to what it was then.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        self.partial = None;
        let prompt = std::mem::take(&mut self.prompt);
        if let Some(before) = prompt.before.filter(|_| prompt.start.is_some_and(|start| len <= start)) {
            self.recent = before;
        }
        self.recent.truncate(len);
        self.heads.iter_mut().for_each(|h| h.truncate(len));
        self.index = self.index.take().and_then(|i| i.truncated(len));
    }

    /// Makes room for `num_rows` more tokens; on an error nothing has changed that is visible.
    pub fn reserve(&mut self, num_rows: usize) -> Result<()> {
        let needed = self.len + num_rows;
        if needed > self.max_tokens {
            return Err(Error::ContextExceeded { max_tokens: self.max_tokens, needed });
        }
        self.heads.iter_mut().try_for_each(|h| h.reserve(self.len, needed))
    }

    /// Where a build's region lies when `len` tokens are stored: between sinks and window. Empty when the sequence is too short for
    /// retrieval.
    pub fn region(&self, len: usize) -> std::ops::Range<usize> {
        let start = self.selector.num_sink_tokens.min(len);
        let end = len.saturating_sub(self.selector.recent_window).max(start);
        if self.selector.kind == SelectorKind::Full || len < self.selector.dense_below { start..start } else { start..end }
    }

    pub fn memory(&self) -> SequenceMemory {
        SequenceMemory {
            kv_bytes: self.heads.iter().map(HeadKv::bytes).sum(),
            index_bytes: self.recent.bytes()
                + self.prompt.before.as_ref().map_or(0, RecentQueries::bytes)
                + self.index.as_ref().map_or(0, SequenceIndex::bytes)
                + self.partial.as_ref().map_or(0, PartialBuild::bytes),
        }
    }
}

/// Queries to keep for a build.
fn recent_capacity(selector: &SelectorOptions, max_tokens: usize) -> usize {
    selector.centroid_bounds().1.min(max_tokens).max(1)
}
