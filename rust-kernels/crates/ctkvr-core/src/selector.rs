//! The seam for selectors: what one KV head's decode step should score and read besides sinks and window. Each selector is built
//! once over the indexed region and then asked once per (layer, KV head, token).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::block_builder::BlockInput;
use crate::centroid_index::{CentroidIndex, ProbeScratch};
use crate::error::Result;
use crate::kernels::Kernels;
use crate::key_clusters::ClusterScratch;
use crate::magicpig::SampleScratch;
use crate::options::SelectorOptions;
use crate::quest::QuestScratch;
use crate::sequence::HeadState;

/// Which positions of the indexed region get exact scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Candidates {
    #[default]
    None,
    /// All of the region.
    Region,
    /// [`Proposal::positions`].
    Listed,
    /// All of the region, and all of them are read.
    All,
}

/// A selector's answer for one query group; reused from token to token.
#[derive(Default)]
pub(crate) struct Proposal {
    pub(crate) candidates: Candidates,
    /// Ascending, for [`Candidates::Listed`].
    pub(crate) positions: Vec<u32>,
    /// Whether every candidate is read: the selector has kept to its own budget.
    pub(crate) reads_all: bool,
    pub(crate) num_probed: usize,
    /// Bytes of index read.
    pub(crate) bytes_read: usize,
    /// Whether `rest_lse` `[group]` and `rest_value` `[group, head_dim]` stand for what is not read.
    pub(crate) has_rest: bool,
    pub(crate) rest_lse: Vec<f32>,
    pub(crate) rest_value: Vec<f32>,
    /// Whether what `rest_lse` counts is among the candidates too, so that only `rest_value` is wanted.
    pub(crate) rest_is_scored: bool,
    /// Whether the query is unlike everything that was indexed: a dense step would answer it better, and could be learnt from.
    pub(crate) is_strange: bool,
    /// Time spent joining lists.
    pub(crate) union_time: Duration,
    probes: Vec<(f32, u32)>,
    scratch: ProbeScratch,
    pub(crate) quest: QuestScratch,
    pub(crate) sample: SampleScratch,
    pub(crate) clusters: ClusterScratch,
}

/// One KV head's query group at one decode step.
pub(crate) struct Query<'a> {
    /// f32 `[group, head_dim]`, after rotary embedding.
    pub(crate) query: &'a [f32],
    /// The same times 1/sqrt(head_dim).
    pub(crate) scaled: &'a [f32],
    /// Positions to be read beside sinks and window; 0 = all.
    pub(crate) max_selected: usize,
    pub(crate) kernels: &'static Kernels,
}

/// Score of a position that counts for another head of the group only: its weight is 0, and it stays a number where nothing was drawn.
pub(crate) const UNDRAWN: f32 = -1e30;

/// A selector of one (layer, KV head).
pub(crate) trait HeadSelector: Send + Sync {
    /// Chooses what to score. `out` keeps its memory between calls.
    fn propose(&self, query: &Query, out: &mut Proposal);
    /// For a choice drawn at random: turns the exact scores of [`Proposal::positions`], f32 `[group, n]`, into those of an estimate of
    /// the whole region, [`UNDRAWN`] where a head did not draw the position. False: the scores stand.
    fn reweigh(&self, _query: &Query, _proposal: &Proposal, _scores: &mut [f32]) -> bool {
        false
    }
    /// How sharply the head looks far back, so that a missed key would hurt, to compare heads by; 0 for one that does not choose.
    fn sharpness(&self) -> f32 {
        0.0
    }
    /// From now on every key gets an exact score.
    fn score_all(&mut self) {}
    /// Itself grown over a longer region, with new queries; `None` when it does not grow.
    fn extended(&self, _input: &BlockInput, _kernels: &Kernels, _cancel: &AtomicBool) -> Result<Option<Arc<dyn HeadSelector>>> {
        Ok(None)
    }
    /// Its state when only `len` tokens were stored; `None` when it was not there yet. Asked only of what has changed since.
    fn truncated(&self, _len: usize) -> Option<HeadState> {
        None
    }
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

/// Reads everything.
pub(crate) struct Everything;

impl HeadSelector for Everything {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::All;
    }
    fn bytes(&self) -> usize {
        0
    }
}

/// Centroid then token indexing: the union of the nearest centroids' lists, and the nearest one's tail.
pub(crate) struct Ctkvr {
    pub(crate) index: CentroidIndex,
    sharpness: f32,
    num_probes: usize,
    tail: bool,
    /// Every key is scored; the index only says what stands for those whose values are not read.
    scores_all: bool,
}

impl Ctkvr {
    pub(crate) fn new(index: CentroidIndex, sharpness: f32, options: &SelectorOptions) -> Self {
        Self { index, sharpness, num_probes: options.num_probes, tail: options.tail, scores_all: false }
    }

    /// The lists of the probed centroids, joined.
    fn join(&self, query: &Query, out: &mut Proposal) {
        let started = Instant::now();
        out.bytes_read += self.index.union(query.kernels, &out.probes, &mut out.scratch, &mut out.positions);
        out.union_time = started.elapsed();
        out.candidates = Candidates::Listed;
    }

    /// What centroid c's list leaves out; when every key is scored, only its mean value.
    fn add_tail(&self, c: usize, query: &Query, out: &mut Proposal) {
        out.has_rest = true;
        out.rest_lse.clear();
        out.rest_lse.resize(self.index.group(), f32::NEG_INFINITY);
        out.rest_value.clear();
        out.rest_value.resize(query.query.len(), 0.0);
        out.bytes_read += self.index.tail(query.kernels, c, query.scaled, &mut out.rest_lse, &mut out.rest_value);
        out.rest_is_scored = self.scores_all;
    }
}

impl HeadSelector for Ctkvr {
    fn propose(&self, query: &Query, out: &mut Proposal) {
        out.bytes_read = self.index.probe(query.kernels, query.query, self.num_probes, &mut out.scratch, &mut out.probes);
        out.num_probed = out.probes.len();
        out.is_strange = !self.scores_all && out.probes[0].0 < self.index.similarity_floor();
        if self.scores_all {
            out.candidates = Candidates::Region;
        } else {
            self.join(query, out);
        }
        if self.tail {
            self.add_tail(out.probes[0].1 as usize, query, out);
        }
    }
    fn sharpness(&self) -> f32 {
        self.sharpness
    }
    fn score_all(&mut self) {
        self.scores_all = true;
        self.num_probes = 1;
        self.index.drop_lists();
    }
    fn extended(&self, input: &BlockInput, kernels: &Kernels, cancel: &AtomicBool) -> Result<Option<Arc<dyn HeadSelector>>> {
        let mut index = self.index.extended(kernels, input, cancel)?;
        if self.scores_all {
            index.drop_lists();
        }
        Ok(Some(Arc::new(Self { index, ..*self })))
    }
    fn truncated(&self, len: usize) -> Option<HeadState> {
        let index = self.index.truncated(len)?;
        let (end, made_at, grown_at) = (index.end(), index.made_at(), index.grown_at());
        Some(HeadState { selector: Arc::new(Self { index, ..*self }), end, made_at, grown_at })
    }
    fn bytes(&self) -> usize {
        self.index.bytes()
    }
}
