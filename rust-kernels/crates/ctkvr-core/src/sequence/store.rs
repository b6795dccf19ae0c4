//! One sequence's state: pages, recent queries, settings, and what its method keeps of every (layer, KV head).

use crate::error::{Error, Result};
use crate::kv::block_table::BlockTable;
use crate::kv::head_kv::HeadKv;
use crate::retriever::HeadState;
use crate::selector::SelectorOptions;
use crate::sequence::recent_queries::{DECODE_STRIDE, RecentQueries};
use crate::step::{AttentionShape, SequenceMemory};

/// A build that is not finished.
pub struct PartialBuild {
    /// Tokens stored.
    pub len: usize,
    /// Of the indexed heads those that are built.
    pub heads: Vec<Option<HeadState>>,
}

impl PartialBuild {
    /// Nothing built yet.
    pub fn new(len: usize, num_heads: usize) -> Self {
        Self { len, heads: vec![None; num_heads] }
    }

    fn bytes(&self) -> usize {
        self.heads.iter().flatten().map(|h| h.head.bytes()).sum()
    }
}

/// What was built for one sequence; forks share its parts.
#[derive(Clone)]
pub struct SequenceIndex {
    /// First indexed position.
    pub start: usize,
    /// Of the indexed heads ([`AttentionShape::indexed_head`]), `[num_indexed_layers, num_kv_heads]`.
    pub heads: Vec<HeadState>,
    /// Settings it was built with.
    pub options: SelectorOptions,
    /// Tokens stored at the first build and at each later one that brought all heads up to date, ascending.
    pub built_at: Vec<usize>,
}

impl SequenceIndex {
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|h| h.head.bytes()).sum()
    }

    /// Where the indexed positions of every head end.
    pub fn end(&self) -> usize {
        self.heads.iter().map(|h| h.end).min().unwrap_or(self.start)
    }

    /// The number of stored tokens at which indexed head i grows next while tokens are generated. Heads take turns, two at a time, over
    /// `append_size` tokens; the first turn comes half of that after the last build.
    pub fn next_growth(&self, i: usize) -> usize {
        let (size, grown_at) = (self.options.build.append_size, self.heads[i].grown_at);
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
#[derive(Clone, Default)]
pub(super) struct PromptQueries {
    /// Where it began; `None` before its first piece. What follows another prompt with nothing in between is taken for more of it.
    pub start: Option<usize>,
    /// All that were held before it overwrote the first: a prompt that fails or is aborted, however far it came, leaves no trace.
    pub before: Option<RecentQueries>,
}

/// A row of KV with all that decode needs.
pub struct Sequence {
    pub shape: AttentionShape,
    pub max_tokens: usize,
    pub len: usize,
    pub kv: BlockTable,
    pub recent: RecentQueries,
    pub(super) prompt: PromptQueries,
    pub selector: SelectorOptions,
    pub index: Option<SequenceIndex>,
    pub partial: Option<PartialBuild>,
}

impl Sequence {
    /// An empty one; `kv`: of a pool for `shape`, without pages.
    pub fn new(shape: AttentionShape, kv: BlockTable, max_tokens: usize, selector: SelectorOptions) -> Self {
        let row_len = shape.num_q_heads * shape.head_dim;
        let recent = RecentQueries::new(shape.num_indexed_layers(), recent_capacity(&selector, max_tokens), row_len);
        Self { shape, max_tokens, len: 0, kv, recent, prompt: PromptQueries::default(), selector, index: None, partial: None }
    }

    /// Keys and values of head i: `layer * num_kv_heads + kv_head`.
    pub fn kv_head(&self, i: usize) -> HeadKv<'_> {
        self.kv.head(i)
    }

    /// A second sequence with the same content, also in the same middle of a prompt; pages and index are shared. An unfinished build is not
    /// taken along: the next one makes the same.
    pub fn fork(&self) -> Self {
        Self {
            shape: self.shape,
            max_tokens: self.max_tokens,
            len: self.len,
            kv: self.kv.fork(),
            recent: self.recent.clone(),
            // A fork may be cut back to before the prompt, as this may.
            prompt: self.prompt.clone(),
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
        let capacity = append_queries(&self.selector).min(recent_capacity(&self.selector, self.max_tokens));
        self.recent = self.recent.resized(capacity);
    }

    /// Before a decoded token's query is placed: more room, when there is none, up to what a cut of as much as the index remembers needs
    /// to grow again as it did: `CentroidIndex` holds twice as many centroids as a first block may have, itself among them.
    pub fn make_room_for_decode(&mut self) {
        self.end_prompt();
        let most = growth_capacity(&self.selector).max(self.recent.capacity());
        if self.recent.len() == self.recent.capacity() && self.index.is_some() {
            self.recent = self.recent.resized(most.min(2 * self.recent.capacity()));
        }
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
        self.kv.truncate(len);
        self.index = self.index.take().and_then(|i| i.truncated(len));
    }

    /// Makes room for `num_rows` more tokens; on an error nothing has changed.
    pub fn reserve(&mut self, num_rows: usize) -> Result<()> {
        let needed = self.len + num_rows;
        if needed > self.max_tokens {
            return Err(Error::ContextExceeded { max_tokens: self.max_tokens, needed });
        }
        self.kv.reserve(self.len, needed)
    }

    /// Where a build's region lies when `len` tokens are stored: between sinks and window. Empty when the sequence is too short for
    /// retrieval, or no layer sees everything.
    pub fn region(&self, len: usize) -> std::ops::Range<usize> {
        let start = self.selector.step.num_sink_tokens.min(len);
        let end = len.saturating_sub(self.selector.step.recent_window).max(start);
        let is_dense = self.selector.method.is_dense() || self.shape.num_indexed_layers() == 0;
        if is_dense || len < self.selector.step.dense_below { start..start } else { start..end }
    }

    pub fn memory(&self) -> SequenceMemory {
        SequenceMemory {
            kv_bytes: self.kv.bytes(),
            index_bytes: self.recent.bytes()
                + self.prompt.before.as_ref().map_or(0, RecentQueries::bytes)
                + self.index.as_ref().map_or(0, SequenceIndex::bytes)
                + self.partial.as_ref().map_or(0, PartialBuild::bytes),
        }
    }
}

/// Queries of two growths.
fn append_queries(selector: &SelectorOptions) -> usize {
    selector.build.append_size.div_ceil(DECODE_STRIDE).saturating_mul(2)
}

/// Queries to keep beside an index: see [`Sequence::make_room_for_decode`].
fn growth_capacity(selector: &SelectorOptions) -> usize {
    let (least, most) = selector.build.query_bounds();
    most.saturating_mul(2).saturating_sub(least).saturating_add(append_queries(selector))
}

/// The most queries that a sequence makes room for.
pub(super) fn most_recent_queries(selector: &SelectorOptions, max_tokens: usize) -> usize {
    recent_capacity(selector, max_tokens).max(growth_capacity(selector))
}

/// Queries to keep for a build.
fn recent_capacity(selector: &SelectorOptions, max_tokens: usize) -> usize {
    selector.build.query_bounds().1.min(max_tokens).max(1)
}
