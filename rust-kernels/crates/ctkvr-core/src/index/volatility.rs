//! How much a head's index would miss, told from the prefill itself: some of its last queries are looked up as a decode query would be,
//! among centroids a while older than they are, and what they attend to outside the lists is added up. In most heads neighbouring
//! queries want the same keys; in a few, the retrieval heads that copy from far back (Wu et al., arXiv 2404.15574), each token wants
//! another key, and no neighbour's list has it.

use crate::index::centroid_segment::{CentroidSegment, keep_nearest, pool};
use crate::index::options::CtkvrSearchOptions;
use crate::index::probe::{MARK, list_marked};
use crate::index::segment_plan::SegmentPlan;
use crate::refine::ranked::Ranked;
use crate::tail::{MAX_CORRECTION, Tail, TailScratch};
use ctkvr_kernels::{Kernels, MissedSums};

/// Queries that are looked up at most.
const MAX_SAMPLES: usize = 128;
/// How many centroids older than the query those are that it may find: an answer soon is as far from the prompt's last queries.
const LAG: usize = 64;

/// Adds up what a head's queries would have missed.
pub struct VolatilityMeter<'a> {
    kernels: &'a Kernels,
    num_probes: usize,
    cluster_probes: usize,
    tail: Option<&'a Tail>,
    lag: usize,
    /// Lists of which one is sampled, and the first one.
    stride: usize,
    first: usize,
    squares: f64,
    /// The same of all keys of the region, found or not.
    far_squares: f64,
    num_rows: usize,
    /// Logarithms of the weight that lists missed over what the tail says of it, query head by query head in turn.
    shortfalls: Vec<f32>,
    /// Smallest similarity of a sampled query to its nearest centroid.
    floor: f32,
    /// Pooled vector of the query that is looked up.
    pooled: Vec<f32>,
    similarities: Vec<f32>,
    order: Vec<Ranked>,
    taken: Vec<u32>,
    tail_scratch: TailScratch,
}

/// What the lookup of a sampled query came to.
pub struct LookUp {
    /// [`MARK`] where a position of the region was found, else 0; whole words of 64.
    pub found: Vec<u8>,
    /// What the tail says of all others, `[group]`.
    pub tail_lse: Vec<f32>,
}

/// One query head of a sampled query: what its lookup missed of its weight. All weights are e^(score - `maximum`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampledHead {
    /// Largest score over the region.
    pub maximum: f32,
    /// Of the region, sinks and window.
    pub total: f64,
    /// Of the region.
    pub missed: MissedSums,
}

/// What the sampled queries told of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterReading {
    /// Root of the mean, over the sampled queries and their heads, of the sum of the squared attention weights that were missed: what
    /// a missed weight does to the output grows with it, and many small ones are what the tail stands for. 0 to 1.
    pub volatility: f32,
    /// The same of all that the queries attended to beyond sinks and window: how sharply the head looks far back, 0 to 1. Which single
    /// keys it wants may be the same for all sampled queries and others as soon as it copies.
    pub sharpness: f32,
    /// By how much the logarithm of the tail's weight falls short `[group]`: the median over the sampled queries, which a few that miss
    /// single heavy keys do not move, from 0 to [`MAX_CORRECTION`].
    pub corrections: Vec<f32>,
    /// Smallest similarity of a sampled query to its nearest centroid: a decode query below it is unlike all of them. -1 when no query
    /// was sampled, which no similarity is below.
    pub similarity_floor: f32,
}

impl<'a> VolatilityMeter<'a> {
    /// Of the segment of this plan, whose queries it looks up as a step would.
    pub fn new(kernels: &'a Kernels, plan: &SegmentPlan, search: &CtkvrSearchOptions, tail: Option<&'a Tail>) -> Self {
        let &CtkvrSearchOptions { num_probes, cluster_probes, .. } = search;
        let (num_centroids, num_lists, first) = (plan.num_centroids(), plan.num_lists(), plan.num_lists() / 2);
        Self {
            kernels,
            num_probes,
            cluster_probes,
            tail,
            // A query's own pass is not there yet when it is looked up.
            lag: LAG.min(num_centroids.div_ceil(8)).max(plan.centroids_per_pass()),
            stride: (num_lists - first).div_ceil(MAX_SAMPLES).max(1),
            first,
            squares: 0.0,
            far_squares: 0.0,
            num_rows: 0,
            shortfalls: Vec::new(),
            floor: f32::INFINITY,
            pooled: Vec::new(),
            similarities: Vec::new(),
            order: Vec::new(),
            taken: Vec::new(),
            tail_scratch: TailScratch::default(),
        }
    }

    /// Whether the query of a list's centroid c is one of the sample.
    pub fn samples(&self, list: usize, c: usize) -> bool {
        c >= self.lag && list >= self.first && (list - self.first).is_multiple_of(self.stride)
    }

    /// Looks centroid c's query (f32 `[group, head_dim]`) up in `segment`, which has the lists of all earlier passes, and may have more.
    pub fn look_up(&mut self, segment: &CentroidSegment, c: usize, query: &[f32]) -> LookUp {
        self.probe(segment, c + 1 - self.lag, query);
        let mut found = vec![0; (segment.end - segment.start).next_multiple_of(64)];
        let mut probed: Vec<usize> = Vec::new();
        for near in &self.order {
            let list = segment.list_of(near.id() as usize);
            if probed.len() < self.num_probes && !probed.contains(&list) {
                probed.push(list);
                segment.lists.for_each(list, |p| found[p] = MARK);
            }
        }
        let scaled: Vec<f32> = query.iter().map(|x| x / (segment.head_dim as f32).sqrt()).collect();
        let tail_lse = self.estimate_missed(segment.start, &scaled, segment.group, &mut found);
        LookUp { found, tail_lse }
    }

    /// Counts what a lookup missed, head by head; `tail_lse` is the lookup's.
    pub fn count(&mut self, tail_lse: &[f32], heads: &[SampledHead]) {
        for (SampledHead { maximum, total, missed }, tail_lse) in heads.iter().zip(tail_lse) {
            let shortfall = missed.sum.ln() as f32 + maximum - tail_lse;
            self.shortfalls.push(if shortfall.is_finite() { shortfall } else { 0.0 });
            self.squares += missed.squares / (total * total);
            self.far_squares += missed.all_squares / (total * total);
            self.num_rows += 1;
        }
    }

    /// Finds what the tail's heaviest clusters hold too, and asks the tail for all that is still not found.
    fn estimate_missed(&mut self, start: usize, scaled: &[f32], group: usize, found: &mut [u8]) -> Vec<f32> {
        let Some(tail) = self.tail else { return vec![f32::NEG_INFINITY; group] };
        list_marked(self.kernels, found, start, &mut self.taken);
        tail.weigh(self.kernels, scaled, &self.taken, &mut self.tail_scratch);
        tail.take_heaviest(self.kernels, self.cluster_probes, &mut self.tail_scratch, |p| found[p - start] = MARK);
        let mut tail_lse = Vec::new();
        tail.rest_lse(&mut self.tail_scratch, &mut tail_lse);
        tail_lse
    }

    /// Fills `order` with the nearest of the first `num_centroids` centroids, best first.
    fn probe(&mut self, segment: &CentroidSegment, num_centroids: usize, query: &[f32]) {
        self.pooled.resize(segment.head_dim, 0.0);
        pool(query, &mut self.pooled);
        self.order.clear();
        segment.compare(self.kernels, &self.pooled, (num_centroids, 0), &mut self.similarities, &mut self.order);
        keep_nearest(&mut self.order, self.num_probes, segment.per_list);
        self.floor = self.floor.min(self.order[0].score());
    }

    /// What all counted queries told.
    pub fn reading(&self, group: usize) -> MeterReading {
        let root_mean = |squares: f64| (squares / self.num_rows.max(1) as f64).sqrt() as f32;
        MeterReading {
            volatility: root_mean(self.squares),
            sharpness: root_mean(self.far_squares),
            corrections: self.corrections(group),
            similarity_floor: if self.num_rows == 0 { -1.0 } else { self.floor },
        }
    }

    fn corrections(&self, group: usize) -> Vec<f32> {
        let of = |h: usize| {
            let mut shortfalls: Vec<f32> = self.shortfalls.iter().skip(h).step_by(group).copied().collect();
            shortfalls.sort_by(f32::total_cmp);
            shortfalls.get(shortfalls.len() / 2).map_or(0.0, |median| median.clamp(0.0, MAX_CORRECTION))
        };
        (0..group).map(of).collect()
    }
}
