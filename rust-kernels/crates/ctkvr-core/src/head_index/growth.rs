//! How one head's index follows its tokens: growth while they are appended, the end of a turn, repair, cuts and forks. What it becomes
//! depends on what was appended and in which phase, never on how the appends were cut.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{HeadIndex, check_finite, check_len};
use crate::error::{Error, Result};
use crate::index::block_builder::BlockInput;
use crate::index::centroid_index::{CentroidIndex, FirstInput};
use crate::selector::{Ctkvr, HeadSelector};
use crate::sequence::recent_queries::DECODE_STRIDE;
use crate::step::Phase;

/// Tokens that follow those stored.
pub struct AppendInput<'a> {
    /// f32 `[num_new, head_dim]`, after rotary embedding; stored as f16.
    pub keys: &'a [f32],
    /// f32 `[num_new, head_dim]`; stored as f16.
    pub values: &'a [f32],
    /// f32 `[num_new, group, head_dim]`, after rotary embedding.
    pub queries: &'a [f32],
    /// [`Phase::Decode`]: one query in four is kept, and the index grows every `append_size` tokens. [`Phase::Prefill`]: all are kept, until
    /// [`HeadIndex::extend`].
    pub phase: Phase,
}

impl HeadIndex {
    /// Stores more tokens. On an error nothing has changed.
    pub fn append(&mut self, input: &AppendInput, cancel: &AtomicBool) -> Result<()> {
        let num_new = input.keys.len() / self.head_dim;
        check_len("keys", input.keys.len(), num_new * self.head_dim)?;
        check_len("values", input.values.len(), input.keys.len())?;
        check_len("queries", input.queries.len(), num_new * self.row_len())?;
        for (what, data) in [("keys", input.keys), ("values", input.values), ("queries", input.queries)] {
            check_finite(what, data)?;
        }
        let (first, ctkvr) = (self.num_tokens, self.ctkvr.clone());
        let outcome = self.append_checked(input, cancel);
        if outcome.is_err() {
            self.num_tokens = first;
            self.kv.truncate(first);
            Arc::make_mut(&mut self.kept).truncate(first);
            self.ctkvr = ctkvr;
        }
        self.forget_old_queries();
        outcome
    }

    fn append_checked(&mut self, input: &AppendInput, cancel: &AtomicBool) -> Result<()> {
        let (d, row_len, first) = (self.head_dim, self.row_len(), self.num_tokens);
        let end = first + input.keys.len() / d;
        self.kv.reserve(first, end)?;
        let kept = Arc::make_mut(&mut self.kept);
        for position in first..end {
            let i = position - first;
            if input.phase == Phase::Prefill || position.is_multiple_of(DECODE_STRIDE) {
                kept.push(position, &input.queries[i * row_len..(i + 1) * row_len]);
            }
        }
        self.store(first, &input.keys[..(end - first) * d], input.values);
        while input.phase == Phase::Decode
            && let Some(boundary) = self.next_growth().filter(|&b| b <= end)
        {
            self.num_tokens = boundary;
            self.grow(cancel)?;
        }
        self.num_tokens = end;
        Ok(())
    }

    /// The number of tokens at which the index grows next while tokens are generated.
    fn next_growth(&self) -> Option<usize> {
        let (built_at, size) = (*self.built_at.last()?, self.options.append_size);
        Some(built_at + ((self.num_tokens - built_at) / size + 1) * size)
    }

    /// One more block of the queries kept since the last one; none when there are none.
    fn grow(&mut self, cancel: &AtomicBool) -> Result<()> {
        let Some(ctkvr) = &self.ctkvr else { return Ok(()) };
        let most = self.options.centroid_count(self.num_indexable(ctkvr.index.start()));
        let queries = self.kept.of_positions(ctkvr.index.grown_at()..self.num_tokens, most);
        if !queries.is_empty() {
            self.ctkvr = Some(Arc::new(self.with_block(ctkvr, queries, self.num_tokens, cancel)?));
        }
        Ok(())
    }

    /// Ends a turn: the queries kept since the last block, at most the last `centroid_count`, become centroids over all that is stored. Where
    /// there is no index any more, they make a new one.
    pub fn extend(&mut self, cancel: &AtomicBool) -> Result<()> {
        if self.ctkvr.is_some() {
            self.grow(cancel)?;
        } else {
            let queries = self.kept.of_positions(0..self.num_tokens, self.first_count());
            if queries.is_empty() {
                return Ok(());
            }
            self.ctkvr = Some(Arc::new(self.first_block(queries, cancel)?));
        }
        if self.built_at.last() != Some(&self.num_tokens) {
            self.built_at.push(self.num_tokens);
        }
        self.forget_old_queries();
        Ok(())
    }

    /// Repairs the index for a query that it served badly (f32 `[group, head_dim]`): an exact scan of all keys makes it a centroid with a
    /// list of its own. Its position's query, where it is kept, has its turn all the same.
    pub fn insert(&mut self, query: &[f32], cancel: &AtomicBool) -> Result<()> {
        self.check_query(query)?;
        let Some(ctkvr) = &self.ctkvr else {
            let expected = "called on a head that has an index (extend makes one)".into();
            return Err(Error::InvalidOption { option: "insert", expected, actual: "none".into() });
        };
        self.ctkvr = Some(Arc::new(self.with_block(ctkvr, query, ctkvr.index.grown_at(), cancel)?));
        self.forget_old_queries();
        Ok(())
    }

    /// Drops positions `>= len`, as if they had never been appended. Where a block is gone that counted then, no index is left.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.num_tokens {
            let expected = format!("at most the {} tokens stored", self.num_tokens);
            return Err(Error::InvalidOption { option: "length", expected, actual: len.to_string() });
        }
        if len == self.num_tokens {
            return Ok(());
        }
        self.num_tokens = len;
        self.kv.truncate(len);
        self.built_at.retain(|&at| at <= len);
        let index = self.ctkvr.as_ref().and_then(|ctkvr| ctkvr.index.truncated(len));
        self.ctkvr = index.map(|index| Arc::new(Ctkvr::new(index, 0.0, &self.options)));
        let kept = Arc::make_mut(&mut self.kept);
        kept.truncate(len);
        if self.ctkvr.is_none() {
            self.built_at.clear();
            kept.truncate(0);
        }
        Ok(())
    }

    /// A second head with what this one holds; pages, blocks and queries are shared until one of them writes.
    pub fn fork(&self) -> Self {
        Self {
            kernels: self.kernels,
            kv: self.kv.fork(),
            num_tokens: self.num_tokens,
            head_dim: self.head_dim,
            group: self.group,
            options: self.options.clone(),
            ctkvr: self.ctkvr.clone(),
            built_at: self.built_at.clone(),
            kept: Arc::clone(&self.kept),
        }
    }

    /// The index over what is stored now, from nothing.
    pub fn first_block(&self, queries: &[f32], cancel: &AtomicBool) -> Result<Ctkvr> {
        let start = self.first_start();
        let input = self.block_input(start, queries, self.num_tokens);
        let end = start + input.keys.len();
        let always = [self.kv.keys(0, start), self.kv.keys(end, self.num_tokens - end)];
        let first = FirstInput { always, options: &self.options };
        // One head alone has no others to be told apart from.
        let (index, _) = CentroidIndex::build(self.kernels, &input, first, cancel)?;
        Ok(Ctkvr::new(index, 0.0, &self.options))
    }

    fn with_block(&self, ctkvr: &Ctkvr, queries: &[f32], grown_at: usize, cancel: &AtomicBool) -> Result<Ctkvr> {
        let input = self.block_input(ctkvr.index.start(), queries, grown_at);
        Ok(Ctkvr::new(ctkvr.index.extended(self.kernels, &input, cancel)?, 0.0, &self.options))
    }

    /// A block over all that is stored now, from `start` to the recent window.
    fn block_input<'a>(&'a self, start: usize, queries: &'a [f32], grown_at: usize) -> BlockInput<'a> {
        let num_keys = self.num_indexable(start);
        BlockInput {
            keys: self.kv.keys(start, num_keys),
            values: self.kv.values(start, num_keys),
            start,
            made_at: self.num_tokens,
            grown_at,
            queries,
            group: self.group,
            list_len: self.options.posting_list_len(num_keys, self.group),
            per_list: self.options.centroids_per_list,
            tail: self.options.tail,
            cluster_size: self.options.cluster_size,
        }
    }

    /// Most centroids of a first block that is made now.
    pub fn first_count(&self) -> usize {
        self.options.centroid_count(self.num_indexable(self.first_start()))
    }

    /// Where the positions begin that a first block is over.
    fn first_start(&self) -> usize {
        self.options.num_sink_tokens.min(self.num_tokens)
    }

    /// Positions from `start` to the recent window.
    fn num_indexable(&self, start: usize) -> usize {
        self.num_tokens.saturating_sub(self.options.recent_window).saturating_sub(start)
    }

    /// Drops the queries that no cut can bring back to their turn.
    fn forget_old_queries(&mut self) {
        let Some(ctkvr) = &self.ctkvr else { return };
        let oldest = ctkvr.index.blocks()[0].grown_at;
        if self.kept.has_before(oldest) {
            Arc::make_mut(&mut self.kept).drop_before(oldest);
        }
    }

    /// Bytes of the index and of the queries kept for it, keys and values apart.
    pub fn bytes(&self) -> usize {
        self.kept.bytes() + self.ctkvr.as_ref().map_or(0, |ctkvr| ctkvr.bytes())
    }
}
