//! The seam for selectors: what one KV head's decode step should score and read besides sinks and window. Each selector is built
//! once over the indexed region and then asked once per (layer, KV head, token).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::index::block_builder::BlockInput;
use crate::index::centroid_index::{CentroidIndex, ProbeScratch};
use crate::key_clusters::ClusterScratch;
use crate::magicpig::SampleScratch;
use crate::options::SelectorOptions;
use crate::quest::QuestScratch;
use crate::sequence::store::HeadState;
use crate::tail::TailScratch;
use ctkvr_kernels::Kernels;

/// Which positions of the indexed region get exact scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Candidates {
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
pub struct Proposal {
    pub candidates: Candidates,
    /// Ascending, for [`Candidates::Listed`].
    pub positions: Vec<u32>,
    /// Whether every candidate is read: the selector has kept to its own budget.
    pub reads_all: bool,
    pub num_probed: usize,
    /// Bytes of index read.
    pub bytes_read: usize,
    /// Whether `rest_lse` `[group]` and `rest_value` `[group, head_dim]` stand for what is not read.
    pub has_rest: bool,
    pub rest_lse: Vec<f32>,
    pub rest_value: Vec<f32>,
    /// Whether every key is scored: then neither of them says anything, and [`HeadSelector::mean_of_dropped`] does.
    pub rest_is_scored: bool,
    /// Whether the query is unlike everything that was indexed: a dense step would answer it better, and could be learnt from.
    pub is_strange: bool,
    /// Time spent joining lists.
    pub union_time: Duration,
    probes: Vec<(f32, u32)>,
    scratch: ProbeScratch,
    pub quest: QuestScratch,
    pub sample: SampleScratch,
    pub clusters: ClusterScratch,
    pub tail: TailScratch,
}

/// One KV head's query group at one decode step.
pub struct Query<'a> {
    /// f32 `[group, head_dim]`, after rotary embedding.
    pub query: &'a [f32],
    /// The same times 1/sqrt(head_dim).
    pub scaled: &'a [f32],
    /// Positions to be read beside sinks and window; 0 = all.
    pub max_selected: usize,
    pub kernels: &'static Kernels,
}

/// Score of a position that counts for another head of the group only: its weight is 0, and it stays a number where nothing was drawn.
pub const UNDRAWN: f32 = -1e30;

/// A selector of one (layer, KV head).
pub trait HeadSelector: Send + Sync {
    /// Chooses what to score. `out` keeps its memory between calls.
    fn propose(&self, query: &Query, out: &mut Proposal);
    /// Where [`Proposal::rest_is_scored`]: writes the mean value f32 `[group, head_dim]` of what was scored and not selected, and returns the
    /// bytes of index read. `weights` f32 `[group, n]` over the region, 0 for what was selected.
    fn mean_of_dropped(&self, _kernels: &Kernels, _weights: &[f32], _scratch: &mut TailScratch, _value: &mut Vec<f32>) -> usize {
        0
    }
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
    /// Whether [`HeadSelector::score_all`] said so.
    fn scores_all(&self) -> bool {
        false
    }
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
pub struct Streaming;

impl HeadSelector for Streaming {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::None;
    }
    fn bytes(&self) -> usize {
        0
    }
}

/// Scores everything: the oracle.
pub struct ExactTopK;

impl HeadSelector for ExactTopK {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::Region;
    }
    fn bytes(&self) -> usize {
        0
    }
}

/// Reads everything.
pub struct Everything;

impl HeadSelector for Everything {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::All;
    }
    fn bytes(&self) -> usize {
        0
    }
}

/// Centroid then token indexing: the union of the nearest centroids' lists, and the tail of all that is not in it.
pub struct Ctkvr {
    pub index: CentroidIndex,
    sharpness: f32,
    num_probes: usize,
    cluster_probes: usize,
    /// Every key is scored; the index only says what stands for those whose values are not read.
    scores_all: bool,
}

impl Ctkvr {
    pub fn new(index: CentroidIndex, sharpness: f32, options: &SelectorOptions) -> Self {
        let SelectorOptions { num_probes, cluster_probes, .. } = *options;
        Self { index, sharpness, num_probes, cluster_probes, scores_all: false }
    }

    /// The lists of the probed centroids, joined.
    fn join(&self, query: &Query, out: &mut Proposal) {
        let started = Instant::now();
        out.bytes_read += self.index.union(query.kernels, &out.probes, &mut out.scratch, &mut out.positions);
        out.union_time = started.elapsed();
        out.candidates = Candidates::Listed;
    }

    /// The heaviest clusters, and what all candidates leave out.
    fn add_rest(&self, query: &Query, out: &mut Proposal) {
        let Some(tail) = self.index.tail() else { return };
        out.has_rest = true;
        let scratch = (&mut out.scratch, &mut out.tail);
        out.bytes_read += self.index.add_clusters(query.kernels, query.scaled, self.cluster_probes, scratch, &mut out.positions);
        let row_len = query.scaled.len();
        out.bytes_read += tail.rest(query.kernels, row_len, &mut out.tail, &mut out.rest_lse, &mut out.rest_value);
    }
}

impl HeadSelector for Ctkvr {
    fn propose(&self, query: &Query, out: &mut Proposal) {
        if self.scores_all {
            out.candidates = Candidates::Region;
            out.has_rest = self.index.tail().is_some();
            out.rest_is_scored = true;
            return;
        }
        out.bytes_read = self.index.probe(query.kernels, query.query, self.num_probes, &mut out.scratch, &mut out.probes);
        out.num_probed = out.probes.len();
        out.is_strange = out.probes[0].0 < self.index.similarity_floor();
        self.join(query, out);
        self.add_rest(query, out);
    }
    fn mean_of_dropped(&self, kernels: &Kernels, weights: &[f32], scratch: &mut TailScratch, value: &mut Vec<f32>) -> usize {
        let row_len = self.index.row_len();
        self.index.tail().map_or(0, |tail| tail.mean_of_weighted(kernels, weights, row_len, scratch, value))
    }
    fn sharpness(&self) -> f32 {
        self.sharpness
    }
    fn score_all(&mut self) {
        self.scores_all = true;
        self.index.drop_centroids();
    }
    fn scores_all(&self) -> bool {
        self.scores_all
    }
    fn extended(&self, input: &BlockInput, kernels: &Kernels, cancel: &AtomicBool) -> Result<Option<Arc<dyn HeadSelector>>> {
        let index = self.index.extended(kernels, input, cancel)?;
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
