//! The seam for selectors: what one KV head's decode step should score and read besides sinks and window. Each selector is built
//! once over the indexed region and then asked once per (layer, KV head, token).

use std::time::{Duration, Instant};

use crate::centroid_index::{CentroidIndex, ProbeScratch};
use crate::kernels::Kernels;

/// Which positions of the indexed region get exact scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Candidates {
    #[default]
    None,
    /// All of the region.
    Region,
    /// [`Proposal::positions`].
    Listed,
}

/// A selector's answer for one query group; reused from token to token.
#[derive(Default)]
pub(crate) struct Proposal {
    pub(crate) candidates: Candidates,
    /// Ascending, for [`Candidates::Listed`].
    pub(crate) positions: Vec<u32>,
    pub(crate) num_probed: usize,
    /// Bytes of index read.
    pub(crate) bytes_read: usize,
    /// Whether `rest_lse` `[group]` and `rest_value` `[group, head_dim]` stand for what is not read.
    pub(crate) has_rest: bool,
    pub(crate) rest_lse: Vec<f32>,
    pub(crate) rest_value: Vec<f32>,
    /// Time spent joining lists.
    pub(crate) union_time: Duration,
    probes: Vec<(f32, u32)>,
    scratch: ProbeScratch,
}

/// One KV head's query group at one decode step.
pub(crate) struct Query<'a> {
    /// f32 `[group, head_dim]`, after rotary embedding.
    pub(crate) query: &'a [f32],
    /// The same times 1/sqrt(head_dim).
    pub(crate) scaled: &'a [f32],
    pub(crate) kernels: &'static Kernels,
}

/// A selector of one (layer, KV head).
pub(crate) trait HeadSelector: Send + Sync {
    /// Chooses what to score. `out` keeps its memory between calls.
    fn propose(&self, query: &Query, out: &mut Proposal);
    /// Bytes held.
    fn bytes(&self) -> usize;
}

/// Sinks and window only.
pub(crate) struct Streaming;

impl HeadSelector for Streaming {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::None;
    }
    fn bytes(&self) -> usize {
        0
    }
}

/// Scores everything: the oracle.
pub(crate) struct ExactTopK;

impl HeadSelector for ExactTopK {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::Region;
    }
    fn bytes(&self) -> usize {
        0
    }
}

/// Centroid then token indexing: the union of the nearest centroids' lists, and the nearest one's tail.
pub(crate) struct Ctkvr {
    pub(crate) index: CentroidIndex,
    pub(crate) num_probes: usize,
    pub(crate) tail: bool,
}

impl HeadSelector for Ctkvr {
    fn propose(&self, query: &Query, out: &mut Proposal) {
        out.bytes_read = self.index.probe(query.kernels, query.query, self.num_probes, &mut out.scratch, &mut out.probes);
        let started = Instant::now();
        out.bytes_read += self.index.union(query.kernels, &out.probes, &mut out.scratch, &mut out.positions);
        out.union_time = started.elapsed();
        out.candidates = Candidates::Listed;
        out.num_probed = out.probes.len();
        out.has_rest = self.tail;
        if self.tail {
            out.rest_lse.clear();
            out.rest_lse.resize(self.index.group(), f32::NEG_INFINITY);
            out.rest_value.clear();
            out.rest_value.resize(query.query.len(), 0.0);
            let nearest = out.probes[0].1 as usize;
            out.bytes_read += self.index.tail(query.kernels, nearest, query.scaled, &mut out.rest_lse, &mut out.rest_value);
        }
    }
    fn bytes(&self) -> usize {
        self.index.bytes()
    }
}
