//! When and from what the indexes of a sequence's heads are made: the first build, growth while tokens are generated, and what dense steps
//! teach. Depends on what is stored, never on when it is asked. Who makes a head's state is a [`HeadMaker`]: the executor whose memory
//! the keys are in.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::error::Result;
use crate::retriever::HeadState;
use crate::sequence::store::{PartialBuild, Sequence, SequenceIndex};

/// A query that was answered densely, to become a centroid when the step ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// `layer * num_kv_heads + kv_head`.
    pub head: usize,
    /// f32 `[group, head_dim]`.
    pub query: Vec<f32>,
}

/// A head's state to make.
#[derive(Debug, Clone)]
pub struct HeadTask {
    /// `layer * num_kv_heads + kv_head`.
    pub head: usize,
    pub from: HeadSource,
}

/// What a head's state is made from.
#[derive(Debug, Clone)]
pub enum HeadSource {
    /// These positions, and the queries that are held.
    Region(Range<usize>),
    /// What it was, and what the sequence has stored and held since, as of when it held so many tokens. Without new queries it stays.
    Growth(usize),
    /// What it was, and this query, f32 `[group, head_dim]`, whose lists go over the positions that it covers.
    Query(Vec<f32>),
    /// What it encoded itself as.
    Encoded(EncodedHead),
}

/// A head's state in bytes, and what is known of it beside them.
#[derive(Debug, Clone)]
pub struct EncodedHead {
    /// As [`crate::retriever::HeadRetriever::encode`] wrote them.
    pub bytes: Vec<u8>,
    /// Positions to choose from.
    pub region: Range<usize>,
    /// See [`HeadState`].
    pub made_at: usize,
    pub grown_at: usize,
}

/// Makes states of heads.
pub trait HeadMaker {
    /// The states of `tasks`, in order. Once `deadline` has passed none is begun any more, so that the last ones may be missing; the first is
    /// there. The sequence's index, where the tasks go on from it, is there.
    ///
    /// # Errors
    /// `Cancelled`, `NonFinite` (a stored key or query is not finite), `BadIndexImage` (encoded), and what else a method refuses; of a device
    /// `OutOfMemory` and `DeviceLost`.
    fn make_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> Result<Vec<HeadState>>;
}

/// Builds a sequence's index, or, where there is one of the same settings, brings it up to date, as far as it comes until `deadline`. Returns
/// how many heads are left; until there are none, the index is as it was, and the next call goes on unless the sequence has changed.
pub fn build(maker: &dyn HeadMaker, sequence: &mut Sequence, deadline: Option<Instant>, cancel: &AtomicBool) -> Result<usize> {
    let (len, shape) = (sequence.len, sequence.shape);
    let num_heads = shape.num_indexed_heads();
    let mut partial = sequence.partial.take().filter(|p| p.len == len).unwrap_or_else(|| PartialBuild::new(len, num_heads));
    let region = sequence.region(len);
    if region.is_empty() {
        sequence.index = None;
        sequence.end_prompt();
        return Ok(0);
    }
    let grows = sequence.index.is_some() && sequence.selector.method.grows();
    let from = if grows { HeadSource::Growth(len) } else { HeadSource::Region(region.clone()) };
    let left: Vec<usize> = (0..num_heads).filter(|&i| partial.heads[i].is_none()).collect();
    let tasks: Vec<HeadTask> = left.iter().map(|&i| HeadTask { head: shape.head_of_indexed(i), from: from.clone() }).collect();
    let built = maker.make_heads(sequence, &tasks, deadline, cancel)?;
    let num_built = built.len();
    left.iter().zip(built).for_each(|(&i, state)| partial.heads[i] = Some(state));
    if num_built < left.len() {
        sequence.partial = Some(partial);
        return Ok(left.len() - num_built);
    }
    let mut heads: Vec<HeadState> = partial.heads.into_iter().flatten().collect();
    match &mut sequence.index {
        Some(index) if grows => {
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
/// stored and not on when it was asked. Costs a few percent of a step, mostly nothing.
pub fn grow(maker: &dyn HeadMaker, sequence: &mut Sequence, cancel: &AtomicBool) -> Result<()> {
    if !sequence.selector.method.grows() {
        return Ok(());
    }
    let shape = sequence.shape;
    loop {
        let Some(index) = &sequence.index else { return Ok(()) };
        let due = |i: usize| Some(index.next_growth(i)).filter(|at| *at <= sequence.len);
        let Some(first) = (0..index.heads.len()).filter_map(due).min() else { return Ok(()) };
        let heads: Vec<usize> = (0..index.heads.len()).filter(|&i| due(i) == Some(first)).collect();
        // What it has of these heads is of what they were.
        sequence.partial = None;
        let tasks: Vec<HeadTask> =
            heads.iter().map(|&i| HeadTask { head: shape.head_of_indexed(i), from: HeadSource::Growth(first) }).collect();
        let grown = maker.make_heads(sequence, &tasks, None, cancel)?;
        let Some(index) = &mut sequence.index else { return Ok(()) };
        for (&i, state) in heads.iter().zip(grown) {
            // Also of a head that found no queries: its turn is over.
            index.heads[i] = HeadState { grown_at: first, ..state };
        }
    }
}

/// Makes the queries of dense repair steps centroids: their scans of all keys give exact lists.
pub fn learn(maker: &dyn HeadMaker, sequence: &mut Sequence, mut repairs: Vec<Repair>) {
    repairs.sort_by_key(|r| r.head);
    for Repair { head, query } in repairs {
        if sequence.index.is_none() {
            return;
        }
        let task = HeadTask { head, from: HeadSource::Query(query) };
        // What cannot be learnt (a query that is not finite) was answered all the same.
        if let Ok(mut taught) = maker.make_heads(sequence, &[task], None, &AtomicBool::new(false))
            && let (Some(state), Some(index), Some(i)) = (taught.pop(), &mut sequence.index, sequence.shape.indexed_head(head))
        {
            index.heads[i] = state;
        }
    }
}
