//! CTkvr as a retrieval method: centroid then token indexing (arXiv 2512.15550) with a tail of clusters. A step reads the union of the
//! nearest centroids' lists and of the heaviest clusters, and the tail stands for all that is not in it. Retrieval heads, those that look back
//! most sharply, read far more clusters; or every key is scored, and the index only says what stands for those whose values are not read.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use ctkvr_kernels::Kernels;

use crate::error::Result;
use crate::index::centroid_index::CentroidIndex;
use crate::index::encoding::{HeadEncoding, HeadExtent, decode_head, encode_head};
use crate::index::grow::FirstInput;
use crate::index::options::{CtkvrOptions, CtkvrSearchOptions};
use crate::index::probe::ProbeScratch;
use crate::index::segment_builder::SegmentInput;
use crate::index::segment_plan::SegmentPlan;
use crate::retriever::{
    BuildInput, Candidates, HeadQuery, HeadRetriever, HeadSize, HeadState, Proposal, ProposedTail, Retriever, Scratch,
};
use crate::tail::TailScratch;

/// While tokens are generated, an index holds up to so many times the most centroids it may begin with.
const MAX_GROWTH: usize = 2;
/// Tokens of a turn, prompt and answer, for which a segment of the tail is counted.
const SHORTEST_TURN: usize = 64;
/// Positions of which a segment of the tail makes clusters of at most one more than asked for.
const TAIL_STRETCH: usize = 4096;

/// The method.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ctkvr {
    pub options: CtkvrOptions,
}

/// What it keeps of one (layer, KV head).
#[derive(Clone)]
pub struct CtkvrHead {
    pub index: CentroidIndex,
    options: CtkvrOptions,
    /// How sharply the head looks far back, so that a missed key would hurt, to compare heads by; 0 where nobody compares.
    sharpness: f32,
    is_retrieval_head: bool,
}

/// Reused memory of a search.
#[derive(Default)]
struct CtkvrScratch {
    probe: ProbeScratch,
    /// Similarity and id.
    probes: Vec<(f32, u32)>,
    tail: TailScratch,
}

impl CtkvrHead {
    pub fn new(index: CentroidIndex, sharpness: f32, options: CtkvrOptions) -> Self {
        Self { index, options, sharpness, is_retrieval_head: false }
    }

    /// Builds the first segment.
    pub fn build(input: &BuildInput, options: CtkvrOptions) -> Result<Self> {
        let end = input.region.end;
        let always = [input.keys.part(0, input.region.start), input.keys.part(end, input.num_tokens() - end)];
        let first = FirstInput { always, options: input.options, search: options.search };
        let (index, sharpness) = CentroidIndex::build(input.kernels, &segment_input(input, &options), first, input.cancel)?;
        Ok(Self::new(index, sharpness, options))
    }

    /// One that [`HeadRetriever::encode`] wrote.
    pub fn decoded(bytes: &[u8], extent: &HeadExtent, options: CtkvrOptions) -> Result<Self> {
        let HeadEncoding { index, sharpness, is_retrieval_head } = decode_head(bytes, extent, &options)?;
        Ok(Self { index, options, sharpness, is_retrieval_head })
    }

    /// With another index.
    pub fn with_index(&self, index: CentroidIndex) -> Self {
        Self { index, ..*self }
    }

    /// How it was made, and how a step reads it.
    pub fn options(&self) -> CtkvrOptions {
        self.options
    }

    /// How a step reads it.
    pub fn search_options(&self) -> CtkvrSearchOptions {
        self.options.search
    }

    /// With one more segment.
    pub fn grown(&self, input: &BuildInput) -> Result<Self> {
        Ok(self.with_index(self.index.extended(input.kernels, &segment_input(input, &self.options), input.cancel)?))
    }

    /// As a retrieval head.
    pub fn as_retrieval_head(&self) -> Self {
        let mut head = Self { is_retrieval_head: true, ..self.clone() };
        if head.scores_all() {
            head.index.drop_centroids();
        }
        head
    }

    /// Whether each search proposes every key.
    pub fn scores_all(&self) -> bool {
        self.is_retrieval_head && self.options.scores_all()
    }

    /// Clusters whose positions become candidates, if there are so many.
    pub fn num_read_clusters(&self) -> usize {
        let CtkvrSearchOptions { cluster_probes, retrieval_cluster_share, .. } = self.options.search;
        match self.index.tail() {
            Some(tail) if self.is_retrieval_head => {
                cluster_probes.max((retrieval_cluster_share * tail.num_clusters() as f64).ceil() as usize)
            }
            _ => cluster_probes,
        }
    }

    /// The lists of the probed centroids, joined.
    fn join(&self, query: &HeadQuery, scratch: &mut CtkvrScratch, out: &mut Proposal) {
        let started = Instant::now();
        out.bytes_read += self.index.union(query.kernels, &scratch.probes, &mut scratch.probe, &mut out.positions);
        out.union_time = started.elapsed();
        out.candidates = Candidates::Listed;
    }

    /// The heaviest clusters, and what all candidates leave out.
    fn add_tail(&self, query: &HeadQuery, scratch: &mut CtkvrScratch, out: &mut Proposal) {
        let Some(tail) = self.index.tail() else { return };
        out.tail = ProposedTail::Given;
        let weighed = (&mut scratch.probe, &mut scratch.tail);
        let count = self.num_read_clusters();
        out.bytes_read += self.index.add_clusters(query.kernels, query.scaled, count, weighed, &mut out.positions);
        let row_len = query.scaled.len();
        out.bytes_read += tail.rest(query.kernels, row_len, &mut scratch.tail, &mut out.tail_lse, &mut out.tail_value);
    }
}

/// What a segment is made from.
fn segment_input<'a>(input: &BuildInput<'a>, options: &CtkvrOptions) -> SegmentInput<'a> {
    SegmentInput {
        plan: SegmentPlan {
            region: input.region.clone(),
            head_dim: input.head_dim(),
            made_at: input.num_tokens(),
            grown_at: input.grown_at,
            queries: input.queries,
            group: input.group,
            list_len: options.build.posting_list_len(input.region.len(), input.group),
            per_list: options.build.centroids_per_list,
        },
        keys: input.region_keys(),
        values: input.region_values(),
        clusters: options.build.clusters(),
    }
}

impl HeadRetriever for CtkvrHead {
    fn search(&self, query: &HeadQuery, scratch: &mut Scratch, out: &mut Proposal) {
        if self.scores_all() {
            out.candidates = Candidates::Region;
            out.tail = if self.index.tail().is_some() { ProposedTail::Scored } else { ProposedTail::None };
            return;
        }
        let scratch: &mut CtkvrScratch = scratch.get();
        let num_probes = self.options.search.num_probes;
        out.bytes_read = self.index.probe(query.kernels, query.query, num_probes, &mut scratch.probe, &mut scratch.probes);
        out.num_probed = scratch.probes.len();
        out.is_outlier = scratch.probes[0].0 < self.index.figures().similarity_floor;
        self.join(query, scratch, out);
        self.add_tail(query, scratch, out);
    }

    fn mean_of_unselected(&self, kernels: &Kernels, weights: &[f32], scratch: &mut Scratch, value: &mut Vec<f32>) -> usize {
        let row_len = self.index.row_len();
        self.index.tail().map_or(0, |tail| tail.mean_of_weighted(kernels, weights, row_len, scratch.get(), value))
    }

    fn is_long(&self) -> bool {
        self.is_retrieval_head
    }

    fn extended(&self, input: &BuildInput) -> Result<Option<Arc<dyn HeadRetriever>>> {
        Ok(Some(Arc::new(self.grown(input)?)))
    }

    fn truncated(&self, len: usize) -> Option<HeadState> {
        let index = self.index.truncated(len)?;
        let (end, made_at, grown_at) = (index.end(), index.made_at(), index.grown_at());
        Some(HeadState { head: Arc::new(Self { index, ..*self }), end, made_at, grown_at })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_head(&self.index, self.sharpness, self.is_retrieval_head, out);
    }

    fn bytes(&self) -> usize {
        self.index.bytes()
    }
}

impl Retriever for Ctkvr {
    fn name(&self) -> &'static str {
        "ctkvr"
    }

    fn check(&self) -> Result<()> {
        self.options.check()
    }

    fn grows(&self) -> bool {
        true
    }

    fn repair_share(&self) -> f64 {
        self.options.search.repair_share
    }

    fn build(&self, input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        Ok(Arc::new(CtkvrHead::build(input, self.options)?))
    }

    /// Makes retrieval heads of the share of the heads that look far back most sharply (ties: the earlier head).
    fn settle(&self, heads: &mut [HeadState]) {
        let sharp = |i: usize| {
            let head: &dyn Any = &*heads[i].head;
            head.downcast_ref::<CtkvrHead>().map_or(0.0, |head| head.sharpness)
        };
        let mut order: Vec<usize> = (0..heads.len()).filter(|&i| sharp(i) > 0.0).collect();
        order.sort_by(|&a, &b| sharp(b).total_cmp(&sharp(a)));
        order.truncate((self.options.build.retrieval_head_share * heads.len() as f64).round() as usize);
        for i in order {
            let head: &dyn Any = &*heads[i].head;
            if let Some(head) = head.downcast_ref::<CtkvrHead>() {
                heads[i].head = Arc::new(head.as_retrieval_head());
            }
        }
    }

    fn same_build(&self, other: &dyn Retriever) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<Self>().is_some_and(|other| self.options.same_build(&other.options))
    }

    /// Turns are taken to be of [`SHORTEST_TURN`] tokens or more on average: each makes a segment of the tail, however short.
    fn bytes_needed(&self, size: &HeadSize) -> usize {
        let HeadSize { num_keys, head_dim, group, options } = *size;
        let build = &self.options.build;
        let num_centroids = MAX_GROWTH * options.query_bounds().1;
        // A gap to the position before is one byte, and one more for every 255 that are passed over. Then where the list begins, and where
        // its segment's last one ends.
        let of_list = build.posting_list_len(num_keys, group) + num_keys.div_ceil(255) + 2 * size_of::<u32>();
        // Codes of 8 bits and a scale. A segment that a repair or a short growth makes may have a list for a single centroid.
        let centroid_bytes = num_centroids * (of_list + head_dim + size_of::<f32>());
        if !build.tail {
            return centroid_bytes;
        }
        let repairs = (num_keys as f64 * self.options.search.repair_share).ceil() as usize;
        // Whenever the index grows, a cluster may be smaller than it should be.
        let num_segments = num_keys.div_ceil(options.append_size)
            + repairs
            + num_keys.div_ceil(SHORTEST_TURN)
            + num_keys.div_ceil(TAIL_STRETCH)
            + 2;
        let num_clusters = (num_keys.div_ceil(build.cluster_size) + num_segments).min(num_keys);
        // A mean key and a mean value, f16 or less, where its positions begin, how many they are.
        let of_cluster = 2 * head_dim * size_of::<u16>() + size_of::<u32>() + size_of::<f32>();
        // Its cluster, and its place in the order of clusters.
        let of_position = size_of::<u16>() + size_of::<u32>();
        let corrections = group * size_of::<f32>();
        centroid_bytes + num_clusters * of_cluster + num_keys * of_position + num_segments * size_of::<u32>() + corrections
    }

    fn decode(&self, bytes: &[u8], input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        let extent = HeadExtent {
            region: input.region.clone(),
            num_tokens: input.num_tokens(),
            head_dim: input.head_dim(),
            group: input.group,
        };
        Ok(Arc::new(CtkvrHead::decoded(bytes, &extent, self.options)?))
    }
}
