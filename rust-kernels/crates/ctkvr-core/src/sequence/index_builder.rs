//! When and from what the indexes of a sequence's heads are made: the first build, growth while tokens are generated, and what dense steps
//! teach. Depends on what is stored, never on when it is asked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ctkvr_kernels::Kernels;

use crate::error::{Error, Result};
use crate::index::block_builder::BlockInput;
use crate::index::centroid_index::{CentroidIndex, FirstInput};
use crate::key_clusters::KeyClusters;
use crate::magicpig::MagicPig;
use crate::options::SelectorKind;
use crate::quest::Quest;
use crate::selector::{Ctkvr, Everything, ExactTopK, HeadSelector, Streaming};
use crate::sequence::store::{HeadState, PartialBuild, Sequence, SequenceIndex};
use crate::snapkv::{SnapKv, SnapKvInput};
use crate::step::AttentionShape;

/// A query that was answered densely, to become a centroid when the step ends.
pub struct Repair {
    /// (layer, KV head).
    pub head: usize,
    /// f32 `[group, head_dim]`.
    pub query: Vec<f32>,
}

/// Builds and grows indexes of sequences of one model, on the calling thread and some more.
#[derive(Clone, Copy)]
pub struct IndexBuilder {
    pub shape: AttentionShape,
    pub kernels: &'static Kernels,
}

impl IndexBuilder {
    /// Builds one sequence's index, or, where there is one of the same settings, brings it up to date, as far as it comes until `deadline`;
    /// `sequence` is lent. Returns how many heads are left.
    pub fn build(
        &self,
        sequence: &mut Sequence,
        deadline: Option<Instant>,
        num_threads: usize,
        cancel: &AtomicBool,
    ) -> Result<usize> {
        let (len, num_heads) = (sequence.len, sequence.heads.len());
        let mut partial = sequence.partial.take().filter(|p| p.len == len).unwrap_or_else(|| PartialBuild::new(len, num_heads));
        let region = sequence.region(len);
        if region.is_empty() {
            sequence.index = None;
            sequence.end_prompt();
            return Ok(0);
        }
        let index = sequence.index.as_ref().filter(|_| sequence.selector.kind == SelectorKind::Ctkvr);
        let left: Vec<usize> = (0..num_heads).filter(|&i| partial.heads[i].is_none()).collect();
        let built = in_parallel(left.len(), num_threads, deadline, |h| match index {
            Some(index) => self.extended_head(sequence, index, left[h], len, cancel),
            None => {
                let selector = self.build_head(sequence, left[h], region.clone(), cancel)?.into();
                Ok(HeadState { selector, end: region.end, made_at: len, grown_at: len })
            }
        })?;
        let num_built = built.len();
        left.iter().zip(built).for_each(|(&i, state)| partial.heads[i] = Some(state));
        if num_built < left.len() {
            sequence.partial = Some(partial);
            return Ok(left.len() - num_built);
        }
        let mut heads: Vec<HeadState> = partial.heads.into_iter().flatten().collect();
        match &mut sequence.index {
            Some(index) if sequence.selector.kind == SelectorKind::Ctkvr => {
                index.heads = heads;
                if index.built_at.last() != Some(&len) {
                    index.built_at.push(len);
                }
            }
            _ => {
                score_all_of_sharpest(&mut heads, sequence.selector.exact_share);
                let options = sequence.selector.clone();
                sequence.index = Some(SequenceIndex { start: region.start, heads, options, built_at: vec![len] });
            }
        }
        sequence.narrow_recent();
        Ok(0)
    }

    /// Grows the heads whose turn has come. Each grows as if it had been asked at every single token, so that the index depends on what is
    /// stored and not on when it was asked.
    pub fn grow(&self, sequence: &mut Sequence, num_threads: usize, cancel: &AtomicBool) -> Result<()> {
        if sequence.selector.kind != SelectorKind::Ctkvr {
            return Ok(());
        }
        loop {
            let Some(index) = &sequence.index else { return Ok(()) };
            let due = |i: usize| Some(index.next_growth(i)).filter(|at| *at <= sequence.len);
            let Some(first) = (0..index.heads.len()).filter_map(due).min() else { return Ok(()) };
            let heads: Vec<usize> = (0..index.heads.len()).filter(|&i| due(i) == Some(first)).collect();
            // What it has of these heads is of what they were.
            sequence.partial = None;
            self.extend(sequence, &heads, first, num_threads, cancel)?;
            let Some(index) = &mut sequence.index else { return Ok(()) };
            // Also of a head that found no queries: its turn is over.
            heads.iter().for_each(|&i| index.heads[i].grown_at = first);
        }
    }

    /// Makes the queries of dense repair steps centroids: their scans of all keys give exact lists.
    pub fn learn(&self, sequence: &mut Sequence, mut repairs: Vec<Repair>) {
        repairs.sort_by_key(|r| r.head);
        for Repair { head, query } in repairs {
            let Some(state) = sequence.index.as_ref().map(|index| index.heads[head].clone()) else { return };
            let start = sequence.region(sequence.len).start;
            let mut input = self.block_input(sequence, head, start..state.end, &query, sequence.len);
            input.grown_at = state.grown_at;
            // What cannot be learnt (a query that is not finite) was answered all the same.
            if let Ok(Some(selector)) = state.selector.extended(&input, self.kernels, &AtomicBool::new(false))
                && let Some(index) = &mut sequence.index
            {
                index.heads[head] = HeadState { selector, made_at: sequence.len, ..state };
            }
        }
    }

    /// Grows the given heads of a sequence's index over what was stored when it held `len` tokens.
    fn extend(&self, sequence: &mut Sequence, heads: &[usize], len: usize, num_threads: usize, cancel: &AtomicBool) -> Result<()> {
        let Some(index) = &sequence.index else { return Ok(()) };
        let grown = in_parallel(heads.len(), num_threads, None, |h| self.extended_head(sequence, index, heads[h], len, cancel))?;
        if let Some(index) = &mut sequence.index {
            heads.iter().zip(grown).for_each(|(&i, state)| index.heads[i] = state);
        }
        Ok(())
    }

    /// Head i grown over what was stored when the sequence held `len` tokens, with the queries since it last grew. Without new queries it
    /// stays as it is.
    fn extended_head(
        &self,
        sequence: &Sequence,
        index: &SequenceIndex,
        i: usize,
        len: usize,
        cancel: &AtomicBool,
    ) -> Result<HeadState> {
        let state = &index.heads[i];
        let region = index.start..sequence.region(len).end.max(index.start);
        let queries = self.recent_queries(sequence, i, state.grown_at..len, region.len());
        if queries.is_empty() || region.end < state.end {
            return Ok(state.clone());
        }
        let input = self.block_input(sequence, i, region.clone(), &queries, len);
        let grown = state.selector.extended(&input, self.kernels, cancel)?;
        let new = |selector| HeadState { selector, end: region.end, made_at: len, grown_at: len };
        Ok(grown.map_or_else(|| state.clone(), new))
    }

    /// The last queries of one (layer, KV head) that are held, of positions in `positions`, at most as many as a block over `num_keys`
    /// positions has centroids: f32 `[n, group, head_dim]`, oldest first.
    fn recent_queries(&self, sequence: &Sequence, head: usize, positions: std::ops::Range<usize>, num_keys: usize) -> Vec<f32> {
        let held = sequence.recent.of_positions(positions);
        let held = held.start.max(held.end.saturating_sub(sequence.selector.centroid_count(num_keys)))..held.end;
        self.widened_queries(sequence, head, held)
    }

    /// Some of one (layer, KV head)'s held queries: f32 `[n, group, head_dim]`.
    pub fn widened_queries(&self, sequence: &Sequence, head: usize, held: std::ops::Range<usize>) -> Vec<f32> {
        let (layer, g) = (head / self.shape.num_kv_heads, head % self.shape.num_kv_heads);
        let row_len = self.shape.group_size() * self.shape.head_dim;
        let mut queries = vec![0.0; held.len() * row_len];
        for (row, i) in queries.chunks_exact_mut(row_len).zip(held) {
            let source = &sequence.recent.row(layer, i)[g * row_len..(g + 1) * row_len];
            // SAFETY: both hold row_len values, a multiple of the lanes.
            unsafe { (self.kernels.widen)(source.as_ptr(), row.len(), row.as_mut_ptr()) };
        }
        queries
    }

    /// What a block of one (layer, KV head) is made from when `made_at` tokens are stored.
    fn block_input<'a>(
        &self,
        sequence: &'a Sequence,
        head: usize,
        region: std::ops::Range<usize>,
        queries: &'a [f32],
        made_at: usize,
    ) -> BlockInput<'a> {
        let (kv, options) = (&sequence.heads[head], &sequence.selector);
        BlockInput {
            keys: kv.keys(region.start, region.len()),
            values: kv.values(region.start, region.len()),
            start: region.start,
            made_at,
            grown_at: made_at,
            queries,
            group: self.shape.group_size(),
            list_len: options.posting_list_len(region.len(), self.shape.group_size()),
            per_list: options.centroids_per_list,
            tail: options.tail,
            cluster_size: options.cluster_size,
        }
    }

    fn build_head(
        &self,
        sequence: &Sequence,
        i: usize,
        region: std::ops::Range<usize>,
        cancel: &AtomicBool,
    ) -> Result<Box<dyn HeadSelector>> {
        let (options, kv) = (&sequence.selector, &sequence.heads[i]);
        let layer = i / self.shape.num_kv_heads;
        let keys = kv.keys(region.start, region.len());
        let queries = || self.recent_queries(sequence, i, 0..sequence.len, keys.len());
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if options.is_dense_layer(layer) {
            return Ok(Box::new(Everything));
        }
        match options.kind {
            SelectorKind::Full | SelectorKind::Streaming => Ok(Box::new(Streaming)),
            SelectorKind::ExactTopK => Ok(Box::new(ExactTopK)),
            SelectorKind::Quest => Ok(Box::new(Quest::build(self.kernels, &keys, region.start)?)),
            SelectorKind::MagicPig => Ok(Box::new(MagicPig::build(self.kernels, &keys, region.start, options, cancel)?)),
            SelectorKind::KeyClusters => {
                let values = kv.values(region.start, region.len());
                Ok(Box::new(KeyClusters::build(self.kernels, &keys, &values, region.start, cancel)?))
            }
            SelectorKind::SnapKv => {
                let keys = kv.keys(0, sequence.len);
                let input = SnapKvInput { keys, region, queries: &queries(), group: self.shape.group_size() };
                Ok(Box::new(SnapKv::build(self.kernels, &input, options)?))
            }
            SelectorKind::Ctkvr => {
                let queries = queries();
                let input = self.block_input(sequence, i, region.clone(), &queries, sequence.len);
                let always = [kv.keys(0, region.start), kv.keys(region.end, sequence.len - region.end)];
                let (index, sharpness) = CentroidIndex::build(self.kernels, &input, FirstInput { always, options }, cancel)?;
                Ok(Box::new(Ctkvr::new(index, sharpness, options)))
            }
        }
    }
}

/// Runs `work` for `0..count` on some threads, in order, and returns what it gave; an error stops what has not begun. After `deadline`
/// nothing more begins, so that the last ones may be missing; the first is not.
fn in_parallel<T: Send>(
    count: usize,
    num_threads: usize,
    deadline: Option<Instant>,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let results: Vec<Mutex<Option<Result<T>>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            let result = work(i);
            if result.is_err() || deadline.is_some_and(|at| Instant::now() >= at) {
                stop.store(true, Ordering::Relaxed);
            }
            *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    };
    if num_threads <= 1 || count <= 1 {
        run();
    } else {
        std::thread::scope(|scope| (0..num_threads.min(count)).for_each(|_| drop(scope.spawn(run))));
    }
    results.into_iter().map_while(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// Makes the `share` of the heads that look far back most sharply score every key (ties: the earlier head).
fn score_all_of_sharpest(heads: &mut [HeadState], share: f64) {
    let mut order: Vec<usize> = (0..heads.len()).filter(|&i| heads[i].selector.sharpness() > 0.0).collect();
    order.sort_by(|&a, &b| heads[b].selector.sharpness().total_cmp(&heads[a].selector.sharpness()));
    order.truncate((share * heads.len() as f64).round() as usize);
    for i in order {
        // Just built: nobody else has it.
        if let Some(selector) = Arc::get_mut(&mut heads[i].selector) {
            selector.score_all();
        }
    }
}
