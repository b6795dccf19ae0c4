//! What a head's state is made of but for its keys and values: the same for every maker, wherever they are.

use std::ops::Range;
use std::sync::Arc;

use ctkvr_kernels::Kernels;

use crate::retriever::{HeadRetriever, HeadState};
use crate::sequence::lifecycle::{EncodedHead, HeadSource, HeadTask};
use crate::sequence::store::Sequence;
use crate::step::AttentionShape;

/// What becomes of a task.
pub enum Planned<'a> {
    /// The state is as it was: nothing new has come.
    Stays(HeadState),
    Made(HeadPlan),
    Decoded(&'a EncodedHead),
}

/// A state to make.
pub struct HeadPlan {
    /// `layer * num_kv_heads + kv_head`.
    pub head: usize,
    /// Positions to choose from.
    pub region: Range<usize>,
    /// f32 `[any, group, head_dim]`, oldest first.
    pub queries: Vec<f32>,
    /// Tokens that are stored.
    pub len: usize,
    /// Tokens whose queries have had their turn then.
    pub grown_at: usize,
    /// What it goes on from; `None`: a first build.
    pub before: Option<HeadState>,
}

impl HeadPlan {
    /// The state of this head.
    pub fn state(&self, head: Arc<dyn HeadRetriever>) -> HeadState {
        HeadState { head, end: self.region.end, made_at: self.len, grown_at: self.grown_at }
    }
}

/// Plans for heads of one sequence.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    pub shape: AttentionShape,
    pub kernels: &'a Kernels,
    pub sequence: &'a Sequence,
}

impl Planner<'_> {
    /// A head that grows without new queries stays as it is. Panics where a task goes on from an index and there is none.
    pub fn plan<'t>(&self, task: &'t HeadTask) -> Planned<'t> {
        let (sequence, head) = (self.sequence, task.head);
        let index = || sequence.index.as_ref().expect("what goes on from an index has one");
        let state_before = || &index().heads[sequence.shape.indexed_head(head).expect("a head of a layer that is indexed")];
        match &task.from {
            HeadSource::Encoded(encoded) => Planned::Decoded(encoded),
            HeadSource::Region(region) => {
                let len = sequence.len;
                let queries = self.recent_queries(head, 0..len, region.len());
                Planned::Made(HeadPlan { head, region: region.clone(), queries, len, grown_at: len, before: None })
            }
            HeadSource::Growth(len) => {
                let (state, start) = (state_before(), index().start);
                let region = start..sequence.region(*len).end.max(start);
                let queries = self.recent_queries(head, state.grown_at..*len, region.len());
                if queries.is_empty() || region.end < state.end {
                    return Planned::Stays(state.clone());
                }
                Planned::Made(HeadPlan { head, region, queries, len: *len, grown_at: *len, before: Some(state.clone()) })
            }
            HeadSource::Query(query) => {
                let (state, len) = (state_before(), sequence.len);
                let region = sequence.region(len).start..state.end;
                let (queries, grown_at) = (query.clone(), state.grown_at);
                Planned::Made(HeadPlan { head, region, queries, len, grown_at, before: Some(state.clone()) })
            }
        }
    }

    /// The last queries of one (layer, KV head) that are held, of positions in `positions`, at most as many as a build over `num_keys`
    /// positions gets: f32 `[n, group, head_dim]`, oldest first.
    fn recent_queries(&self, head: usize, positions: Range<usize>, num_keys: usize) -> Vec<f32> {
        let held = self.sequence.recent.of_positions(positions);
        let held = held.start.max(held.end.saturating_sub(self.sequence.selector.build.query_count(num_keys)))..held.end;
        self.widened_queries(head, held)
    }

    /// Some of one (layer, KV head)'s held queries: f32 `[n, group, head_dim]`. None of a layer that is not indexed.
    pub fn widened_queries(&self, head: usize, held: Range<usize>) -> Vec<f32> {
        let (layer, g) = (self.shape.indexed_layer(head / self.shape.num_kv_heads), head % self.shape.num_kv_heads);
        let Some(layer) = layer else { return Vec::new() };
        let row_len = self.shape.group_size() * self.shape.head_dim;
        let mut queries = vec![0.0; held.len() * row_len];
        for (row, i) in queries.chunks_exact_mut(row_len).zip(held) {
            let source = &self.sequence.recent.row(layer, i)[g * row_len..(g + 1) * row_len];
            self.kernels.widen(source, row);
        }
        queries
    }
}
