//! Makes states of heads from keys, values and queries in this process's memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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
use crate::sequence::lifecycle::{HeadMaker, HeadSource, HeadTask};
use crate::sequence::store::{HeadState, Sequence, SequenceIndex};
use crate::snapkv::{SnapKv, SnapKvInput};
use crate::step::AttentionShape;

/// Makes states of heads of sequences of one model, on the calling thread and some more.
#[derive(Clone, Copy)]
pub struct IndexBuilder {
    pub shape: AttentionShape,
    pub kernels: &'static Kernels,
    pub num_threads: usize,
}

impl HeadMaker for IndexBuilder {
    fn make_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> Result<Vec<HeadState>> {
        in_parallel(tasks.len(), self.num_threads, deadline, |i| {
            let HeadTask { head, from } = &tasks[i];
            match (from, &sequence.index) {
                (HeadSource::Region(region), _) => {
                    let selector = self.build_head(sequence, *head, region.clone(), cancel)?.into();
                    Ok(HeadState { selector, end: region.end, made_at: sequence.len, grown_at: sequence.len })
                }
                (HeadSource::Growth(len), Some(index)) => self.extended_head(sequence, index, *head, *len, cancel),
                (HeadSource::Query(query), Some(index)) => self.taught_head(sequence, index, *head, query),
                (_, None) => unreachable!("what goes on from an index has one"),
            }
        })
    }
}

impl IndexBuilder {
    /// Head i with one more centroid, `query` f32 `[group, head_dim]`.
    fn taught_head(&self, sequence: &Sequence, index: &SequenceIndex, i: usize, query: &[f32]) -> Result<HeadState> {
        let state = &index.heads[i];
        let start = sequence.region(sequence.len).start;
        let mut input = self.block_input(sequence, i, start..state.end, query, sequence.len);
        input.grown_at = state.grown_at;
        let taught = state.selector.extended(&input, self.kernels, &AtomicBool::new(false))?;
        let new = |selector| HeadState { selector, made_at: sequence.len, ..state.clone() };
        Ok(taught.map_or_else(|| state.clone(), new))
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
            self.kernels.widen(source, row);
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
        let (kv, options) = (sequence.kv_head(head), &sequence.selector);
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
        let (options, kv) = (&sequence.selector, sequence.kv_head(i));
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
