//! When and from what the indexes of a sequence's heads are made: the first build, growth while tokens are generated, and what dense steps
//! teach. Depends on what is stored, never on when it is asked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ctkvr_kernels::Kernels;

use crate::error::{Error, Result};
use crate::retriever::{BuildInput, HeadState};
use crate::sequence::store::{PartialBuild, Sequence, SequenceIndex};
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
        let index = sequence.index.as_ref().filter(|_| sequence.selector.method.grows());
        let left: Vec<usize> = (0..num_heads).filter(|&i| partial.heads[i].is_none()).collect();
        let built = in_parallel(left.len(), num_threads, deadline, |h| match index {
            Some(index) => self.extended_head(sequence, index, left[h], len, cancel),
            None => self.build_head(sequence, left[h], region.clone(), cancel),
        })?;
        let num_built = built.len();
        left.iter().zip(built).for_each(|(&i, state)| partial.heads[i] = Some(state));
        if num_built < left.len() {
            sequence.partial = Some(partial);
            return Ok(left.len() - num_built);
        }
        let mut heads: Vec<HeadState> = partial.heads.into_iter().flatten().collect();
        match &mut sequence.index {
            Some(index) if sequence.selector.method.grows() => {
                index.heads = heads;
                if index.built_at.last() != Some(&len) {
                    index.built_at.push(len);
                }
            }
            _ => {
                sequence.selector.method.settle(&mut heads);
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
        if !sequence.selector.method.grows() {
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
            let (go, end, len) = (AtomicBool::new(false), state.end, sequence.len);
            let input = self.build_input(sequence, head, start..end, &query, len, &go);
            let grown = state.head.extended(&BuildInput { grown_at: state.grown_at, ..input });
            // What cannot be learnt (a query that is not finite) was answered all the same.
            if let Ok(Some(grown)) = grown
                && let Some(index) = &mut sequence.index
            {
                index.heads[head] = HeadState { head: grown, made_at: len, ..state };
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
        let grown = state.head.extended(&self.build_input(sequence, i, region.clone(), &queries, len, cancel))?;
        let new = |head| HeadState { head, end: region.end, made_at: len, grown_at: len };
        Ok(grown.map_or_else(|| state.clone(), new))
    }

    /// The last queries of one (layer, KV head) that are held, of positions in `positions`, at most as many as a build over `num_keys`
    /// positions gets: f32 `[n, group, head_dim]`, oldest first.
    fn recent_queries(&self, sequence: &Sequence, head: usize, positions: std::ops::Range<usize>, num_keys: usize) -> Vec<f32> {
        let held = sequence.recent.of_positions(positions);
        let held = held.start.max(held.end.saturating_sub(sequence.selector.build.query_count(num_keys)))..held.end;
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

    /// What one (layer, KV head)'s state is built or grown from when `len` tokens are stored.
    fn build_input<'a>(
        &'a self,
        sequence: &'a Sequence,
        head: usize,
        region: std::ops::Range<usize>,
        queries: &'a [f32],
        len: usize,
        cancel: &'a AtomicBool,
    ) -> BuildInput<'a> {
        let kv = &sequence.heads[head];
        BuildInput {
            kernels: self.kernels,
            layer: head / self.shape.num_kv_heads,
            keys: kv.keys(0, len),
            values: kv.values(0, len),
            region,
            queries,
            group: self.shape.group_size(),
            grown_at: len,
            options: sequence.selector.build,
            cancel,
        }
    }

    fn build_head(&self, sequence: &Sequence, i: usize, region: std::ops::Range<usize>, cancel: &AtomicBool) -> Result<HeadState> {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let (len, end) = (sequence.len, region.end);
        let queries = self.recent_queries(sequence, i, 0..len, region.len());
        let head = sequence.selector.method.build(&self.build_input(sequence, i, region, &queries, len, cancel))?;
        Ok(HeadState { head, end, made_at: len, grown_at: len })
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
