//! Makes states of heads from keys, values and queries in this process's memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ctkvr_kernels::Kernels;

use crate::error::{Error, Result};
use crate::kv::head_kv::HeadKv;
use crate::retriever::{BuildInput, HeadState};
use crate::sequence::lifecycle::{EncodedHead, HeadMaker, HeadSource, HeadTask};
use crate::sequence::store::{Sequence, SequenceIndex};
use crate::step::AttentionShape;

/// A head's keys and values in this process's memory, of every stored position: `layer * num_kv_heads + kv_head`.
pub type KvOf<'a> = dyn Fn(usize) -> HeadKv<'a> + Sync + 'a;

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
        let stored = Stored { sequence, kv: &|head| sequence.kv_head(head) };
        self.make_heads_of(&stored, tasks, deadline, cancel)
    }
}

/// A sequence, and where its keys and values are in this process's memory.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    pub sequence: &'a Sequence,
    pub kv: &'a KvOf<'a>,
}

impl IndexBuilder {
    /// [`HeadMaker::make_heads`] of a sequence whose pages may be elsewhere: `stored.kv` is asked for the tasks' heads alone.
    ///
    /// # Errors
    /// As that.
    pub fn make_heads_of(
        &self,
        stored: &Stored<'_>,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> Result<Vec<HeadState>> {
        in_parallel(tasks.len(), self.num_threads, deadline, |i| {
            let HeadTask { head, from } = &tasks[i];
            match (from, &stored.sequence.index) {
                (HeadSource::Region(region), _) => self.build_head(stored, *head, region.clone(), cancel),
                (HeadSource::Encoded(encoded), _) => self.decoded_head(stored, *head, encoded, cancel),
                (HeadSource::Growth(len), Some(index)) => self.extended_head(stored, index, *head, *len, cancel),
                (HeadSource::Query(query), Some(index)) => self.taught_head(stored, index, *head, query),
                (_, None) => unreachable!("what goes on from an index has one"),
            }
        })
    }

    /// Head i with one more query, f32 `[group, head_dim]`.
    fn taught_head(&self, stored: &Stored, index: &SequenceIndex, i: usize, query: &[f32]) -> Result<HeadState> {
        let sequence = stored.sequence;
        let (state, len, go) = (&index.heads[i], sequence.len, AtomicBool::new(false));
        let start = sequence.region(len).start;
        let input = self.build_input(stored, i, start..state.end, query, len, &go);
        let taught = state.head.extended(&BuildInput { grown_at: state.grown_at, ..input })?;
        let new = |head| HeadState { head, made_at: len, ..state.clone() };
        Ok(taught.map_or_else(|| state.clone(), new))
    }

    /// Head i grown over what was stored when the sequence held `len` tokens, with the queries since it last grew. Without new queries it
    /// stays as it is.
    fn extended_head(
        &self,
        stored: &Stored,
        index: &SequenceIndex,
        i: usize,
        len: usize,
        cancel: &AtomicBool,
    ) -> Result<HeadState> {
        let sequence = stored.sequence;
        let state = &index.heads[i];
        let region = index.start..sequence.region(len).end.max(index.start);
        let queries = self.recent_queries(sequence, i, state.grown_at..len, region.len());
        if queries.is_empty() || region.end < state.end {
            return Ok(state.clone());
        }
        let grown = state.head.extended(&self.build_input(stored, i, region.clone(), &queries, len, cancel))?;
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
            self.kernels.widen(source, row);
        }
        queries
    }

    /// What one (layer, KV head)'s state is built or grown from when `len` tokens are stored.
    fn build_input<'b, 'a: 'b>(
        &'b self,
        stored: &Stored<'a>,
        head: usize,
        region: std::ops::Range<usize>,
        queries: &'b [f32],
        len: usize,
        cancel: &'b AtomicBool,
    ) -> BuildInput<'b> {
        let kv = (stored.kv)(head);
        BuildInput {
            kernels: self.kernels,
            layer: head / self.shape.num_kv_heads,
            keys: kv.keys(0, len),
            values: kv.values(0, len),
            region,
            queries,
            group: self.shape.group_size(),
            grown_at: len,
            options: stored.sequence.selector.build,
            cancel,
        }
    }

    fn decoded_head(&self, stored: &Stored, i: usize, encoded: &EncodedHead, cancel: &AtomicBool) -> Result<HeadState> {
        let EncodedHead { bytes, region, made_at, grown_at } = encoded;
        let (end, made_at, grown_at) = (region.end, *made_at, *grown_at);
        let input = self.build_input(stored, i, region.clone(), &[], made_at, cancel);
        let head = stored.sequence.selector.method.decode(bytes, &BuildInput { grown_at, ..input })?;
        Ok(HeadState { head, end, made_at, grown_at })
    }

    fn build_head(&self, stored: &Stored, i: usize, region: std::ops::Range<usize>, cancel: &AtomicBool) -> Result<HeadState> {
        let sequence = stored.sequence;
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let (len, end) = (sequence.len, region.end);
        let queries = self.recent_queries(sequence, i, 0..len, region.len());
        let head = sequence.selector.method.build(&self.build_input(stored, i, region, &queries, len, cancel))?;
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
