//! kernels/clusters.cu: what stands for the positions of the region that are not read.

use ctkvr_kernels::KvFormat;

use super::join::words_of;
use super::probe::{blocks_a_slot, check_shape};
use super::search_state::{SlotSearch, Total};
use super::search_work::{SearchWay, SearchWork};
use super::slot::SlotLayout;
use super::traffic::{SlotShape, Traffic};
use crate::declaration::{Family, Grid};
use crate::device::Device;
use crate::error::Result;
use crate::span::{Plain, Span};
use crate::stream::Stream;

const SCORE_THREADS: usize = 128;
const WEIGH_THREADS: usize = 512;
const REST_THREADS: usize = 256;
/// Clusters whose values are added up together.
const CHUNK: usize = 128;

/// Clusters of the slots of a layer.
#[derive(Clone, Copy)]
pub struct Clusters {
    /// `[slots]`.
    pub heads: Span<u64>,
    /// `[slots]`.
    pub layouts: Span<SlotLayout>,
    /// f32 `[slots, group, head_dim]`, after rotary embedding.
    pub queries: Span<f32>,
    /// f32 `[slots, group, max_clusters]`: scores, then weights of what is left.
    pub weights: Span<f32>,
    /// `[slots, max_clusters]`.
    pub left: Span<u32>,
    /// f32 `[slots, max_clusters]`: scratch.
    pub shares: Span<f32>,
    /// `[slots, max_clusters]`: ids of those whose positions became candidates, ascending.
    pub heaviest: Span<u32>,
    /// `[slots, words]`.
    pub marks: Span<u32>,
    /// f32 `[slots, group]`.
    pub tail_lse: Span<f32>,
    /// f32 `[slots, group, max_region]`: of candidates; read where every key is scored.
    pub scores: Span<f32>,
    /// `[slots, group]`: of candidates, as above.
    pub totals: Span<Total>,
    /// f32 `[slots, chunks_of(max_clusters), group, head_dim + 1]`: scratch.
    pub partials: Span<f32>,
    /// `[slots]`: 0, before and after.
    pub tickets: Span<u32>,
    /// f32 `[slots, group, head_dim]`: mean value of the rest; 0 where there is none.
    pub tail_value: Span<f32>,
    /// `[slots]`.
    pub searches: Span<SlotSearch>,
    pub group: usize,
    pub head_dim: usize,
    pub max_clusters: usize,
    pub max_region: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ClusterArgs {
    heads: u64,
    slots: u64,
    queries: u64,
    weights: u64,
    left: u64,
    shares: u64,
    heaviest: u64,
    marks: u64,
    tail_lse: u64,
    scores: u64,
    totals: u64,
    partials: u64,
    tickets: u64,
    tail_value: u64,
    searches: u64,
    scale: f32,
    group: u32,
    head_dim: u32,
    words: u32,
    max_clusters: u32,
    max_region: u32,
    max_chunks: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<ClusterArgs>() == 152);
// SAFETY: numbers without padding, as in kernels/clusters.cu.
unsafe impl Plain for ClusterArgs {}

crate::kernel! {
    // Rows of f16, and of codes.
    fn score_clusters(args: ClusterArgs) needs { loads_16: 16 };
    fn weigh_clusters(args: ClusterArgs);
    fn rest_values(args: ClusterArgs) needs { loads_16: 4 };
}

pub const FAMILY: Family =
    Family { file: "clusters", kernels: &[score_clusters::DECLARATION, weigh_clusters::DECLARATION, rest_values::DECLARATION] };

/// Chunks of so many clusters.
pub fn chunks_of(max_clusters: usize) -> usize {
    max_clusters.div_ceil(CHUNK)
}

impl Clusters {
    /// Scores of all mean keys.
    ///
    /// # Errors
    /// `Length` when spans and sizes do not fit each other; as a launch.
    pub fn launch_scores(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Some(args) = self.args()? else { return Ok(()) };
        let slots = self.heads.len();
        let blocks = blocks_a_slot(device, self.max_clusters.div_ceil(SCORE_THREADS), slots);
        let grid = Grid::of([blocks, slots, 1], SCORE_THREADS).with_shared(self.group * self.head_dim * size_of::<f32>());
        // SAFETY: the lengths are checked; images fit the sizes, which `SearchSizes::hold` says.
        unsafe { score_clusters::launch(device, stream, grid, args) }
    }

    /// Weighs what the lists leave, and marks the heaviest clusters.
    ///
    /// # Errors
    /// As [`Clusters::launch_scores`].
    pub fn launch_weights(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Some(args) = self.args()? else { return Ok(()) };
        // SAFETY: as above.
        unsafe { weigh_clusters::launch(device, stream, Grid::new(self.heads.len(), WEIGH_THREADS), args) }
    }

    /// Mean values of the rest.
    ///
    /// # Errors
    /// As [`Clusters::launch_scores`].
    pub fn launch_rest(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Some(args) = self.args()? else { return Ok(()) };
        let slots = self.heads.len();
        let blocks = blocks_a_slot(device, chunks_of(self.max_clusters), slots);
        // SAFETY: as above.
        unsafe { rest_values::launch(device, stream, Grid::of([blocks, slots, 1], REST_THREADS), args) }
    }

    fn args(&self) -> Result<Option<ClusterArgs>> {
        let Self { group, head_dim, max_clusters, max_region, .. } = *self;
        let (slots, words, max_chunks) = (self.heads.len(), words_of(max_region), chunks_of(max_clusters));
        check_shape(group, head_dim)?;
        self.layouts.check("clusters: layouts", slots)?;
        self.queries.check("clusters: queries", slots * group * head_dim)?;
        self.weights.check("clusters: weights", slots * group * max_clusters)?;
        self.left.check("clusters: left", slots * max_clusters)?;
        self.shares.check("clusters: shares", slots * max_clusters)?;
        self.heaviest.check("clusters: heaviest", slots * max_clusters)?;
        self.marks.check("clusters: marks", slots * words)?;
        self.tail_lse.check("clusters: tail lse", slots * group)?;
        self.scores.check("clusters: scores", slots * group * max_region)?;
        self.totals.check("clusters: totals", slots * group)?;
        self.partials.check("clusters: partials", slots * max_chunks * group * (head_dim + 1))?;
        self.tickets.check("clusters: tickets", slots)?;
        self.tail_value.check("clusters: tail value", slots * group * head_dim)?;
        self.searches.check("clusters: searches", slots)?;
        if slots == 0 {
            return Ok(None);
        }
        Ok(Some(ClusterArgs {
            heads: self.heads.address(),
            slots: self.layouts.address(),
            queries: self.queries.address(),
            weights: self.weights.address(),
            left: self.left.address(),
            shares: self.shares.address(),
            heaviest: self.heaviest.address(),
            marks: self.marks.address(),
            tail_lse: self.tail_lse.address(),
            scores: self.scores.address(),
            totals: self.totals.address(),
            partials: self.partials.address(),
            tickets: self.tickets.address(),
            tail_value: self.tail_value.address(),
            searches: self.searches.address(),
            scale: 1.0 / (head_dim as f32).sqrt(),
            group: group as u32,
            head_dim: head_dim as u32,
            words: words as u32,
            max_clusters: max_clusters as u32,
            max_region: max_region as u32,
            max_chunks: max_chunks as u32,
            reserved: 0,
        }))
    }
}

/// One slot's part of [`Clusters::launch_scores`].
pub fn scores_traffic(shape: &SlotShape, work: &SearchWork) -> Traffic {
    if work.way != SearchWay::Probes || work.clusters == 0 {
        return Traffic::NONE;
    }
    Traffic { stored: mean_bytes(shape, work), passed: shape.query_bytes(), written: work.clusters * shape.head_bytes() }
}

/// One slot's part of [`Clusters::launch_weights`].
pub fn weights_traffic(shape: &SlotShape, work: &SearchWork) -> Traffic {
    if work.way != SearchWay::Probes || work.clusters == 0 {
        return Traffic::NONE;
    }
    let weights = work.clusters * shape.head_bytes();
    let words = work.member_words * size_of::<u32>();
    Traffic {
        // Sizes of all clusters, members of the heaviest, and corrections.
        stored: 4 * (work.clusters + work.member_offsets + work.members + work.heads_with_rest),
        passed: weights + work.clusters * size_of::<u32>() + words,
        written: weights + work.clusters * size_of::<f32>() + work.heaviest * size_of::<u32>() + words + shape.head_bytes(),
    }
}

/// One slot's part of [`Clusters::launch_rest`].
pub fn rest_traffic(shape: &SlotShape, work: &SearchWork) -> Traffic {
    let mut written = shape.query_bytes();
    let scores_all = work.way == SearchWay::ScoresAll;
    if work.way == SearchWay::None || !work.has_tail() || (scores_all && work.dropped() == 0) {
        return Traffic { written, ..Traffic::NONE };
    }
    written += chunks_of(work.clusters) * (shape.query_bytes() + shape.head_bytes());
    let values = mean_bytes(shape, work);
    if !scores_all {
        return Traffic { stored: values, passed: work.clusters * shape.head_bytes(), written };
    }
    // Members of all clusters; what of them is selected, the scores of the others, and the largest ones.
    let members = (work.clusters + work.cluster_segments + work.region) * size_of::<u32>();
    let marks = words_of(work.region) * size_of::<u32>();
    Traffic { stored: values + members, passed: marks + (work.dropped() + 1) * shape.head_bytes(), written }
}

/// Mean keys, or mean values.
fn mean_bytes(shape: &SlotShape, work: &SearchWork) -> usize {
    let row_bytes = |format: KvFormat| format.row_bytes(shape.layout.head_dim);
    (work.clusters - work.clusters_in_q8) * row_bytes(KvFormat::F16) + work.clusters_in_q8 * row_bytes(KvFormat::Q8)
}
