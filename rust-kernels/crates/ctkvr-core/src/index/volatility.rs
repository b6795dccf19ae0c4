//! How much a head's index would miss, told from the prefill itself: some of its last queries are looked up as a decode query would be,
//! among centroids a while older than they are, and what they attend to outside the lists is added up. In most heads neighbouring
//! queries want the same keys; in a few, the retrieval heads that copy from far back (Wu et al., arXiv 2404.15574), each token wants
//! another key, and no neighbour's list has it.

use crate::index::centroid_segment::{CentroidSegment, keep_nearest, pool};
use crate::index::options::CtkvrSearchOptions;
use crate::index::probe::{MARK, list_marked};
use crate::options::BuildOptions;
use crate::refine::ranked::Ranked;
use crate::tail::{MAX_CORRECTION, Tail, TailScratch};
use ctkvr_kernels::{Kernels, Rows};

/// Queries that are looked up at most.
const MAX_SAMPLES: usize = 128;
/// How many centroids older than the query those are that it may find: an answer soon is as far from the prompt's last queries.
const LAG: usize = 64;

/// What the first segment's build takes besides.
pub struct FirstInput<'a> {
    /// Keys that are read whatever the index says: sinks, window.
    pub always: [Rows<'a>; 2],
    pub options: BuildOptions,
    /// The build looks its own queries up as a step would.
    pub search: CtkvrSearchOptions,
}

/// Adds up what a head's queries would have missed.
pub struct VolatilityMeter<'a> {
    kernels: &'a Kernels,
    /// What is read always: sinks and window.
    always: [Rows<'a>; 2],
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
    /// [`MARK`] where a position of the region is in a probed list, else 0; whole words of 64.
    found: Vec<u8>,
    scores: Vec<f32>,
    taken: Vec<u32>,
    tail_scratch: TailScratch,
    tail_lse: Vec<f32>,
}

/// One centroid's softmax over the indexed region, per query head of the group.
pub struct RegionWeights<'a> {
    /// e^(score - maximum), f32 `[group, stride]`, of which `num_keys` count.
    pub weights: &'a [f32],
    pub stride: usize,
    pub num_keys: usize,
    /// `[group]` each.
    pub maxima: &'a [f32],
    pub sums: &'a [f32],
}

impl<'a> VolatilityMeter<'a> {
    /// `num_centroids` in `num_lists` lists. `per_pass`: centroids whose lists come at once, so that a query's own pass is not there yet
    /// when it is looked up.
    pub fn new(
        kernels: &'a Kernels,
        input: &FirstInput<'a>,
        tail: Option<&'a Tail>,
        (num_centroids, num_lists): (usize, usize),
        per_pass: usize,
    ) -> Self {
        let FirstInput { always, search: CtkvrSearchOptions { num_probes, cluster_probes, .. }, .. } = *input;
        let first = num_lists / 2;
        Self {
            kernels,
            always,
            num_probes,
            cluster_probes,
            tail,
            lag: LAG.min(num_centroids.div_ceil(8)).max(per_pass),
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
            found: Vec::new(),
            scores: Vec::new(),
            taken: Vec::new(),
            tail_scratch: TailScratch::default(),
            tail_lse: Vec::new(),
        }
    }

    /// Whether the query of a list's centroid c is one of the sample.
    pub fn samples(&self, list: usize, c: usize) -> bool {
        c >= self.lag && list >= self.first && (list - self.first).is_multiple_of(self.stride)
    }

    /// Looks centroid c's query (f32 `[group, head_dim]`) up in `segment`, which has the lists of all earlier passes.
    pub fn add(&mut self, segment: &CentroidSegment, c: usize, query: &[f32], region: &RegionWeights) {
        let d = segment.head_dim;
        self.probe(segment, c + 1 - self.lag, query);
        self.found.clear();
        self.found.resize(region.num_keys.next_multiple_of(64), 0);
        let mut probed: Vec<usize> = Vec::new();
        for near in &self.order {
            let list = segment.list_of(near.id() as usize);
            if probed.len() < self.num_probes && !probed.contains(&list) {
                probed.push(list);
                segment.lists.for_each(list, |p| self.found[p] = MARK);
            }
        }
        let scaled: Vec<f32> = query.iter().map(|x| x / (d as f32).sqrt()).collect();
        self.estimate_missed(segment.start, &scaled);
        let always = self.always_sums(&scaled, region.maxima);
        for (h, always) in always.into_iter().enumerate() {
            let weights = &region.weights[h * region.stride..h * region.stride + region.num_keys];
            let sums = self.kernels.missed_sums(weights, &self.found);
            let shortfall = sums.sum.ln() as f32 + region.maxima[h] - self.tail_lse[h];
            self.shortfalls.push(if shortfall.is_finite() { shortfall } else { 0.0 });
            let total = f64::from(region.sums[h]) + always;
            self.squares += sums.squares / (total * total);
            self.far_squares += sums.all_squares / (total * total);
            self.num_rows += 1;
        }
    }

    /// Finds what the tail's heaviest clusters hold too, and asks the tail for all that is still not found.
    fn estimate_missed(&mut self, start: usize, scaled: &[f32]) {
        let Some(tail) = self.tail else {
            self.tail_lse.resize(scaled.len(), f32::NEG_INFINITY);
            return;
        };
        list_marked(self.kernels, &self.found, start, &mut self.taken);
        tail.weigh(self.kernels, scaled, &self.taken, &mut self.tail_scratch);
        tail.take_heaviest(self.kernels, self.cluster_probes, &mut self.tail_scratch, |p| self.found[p - start] = MARK);
        tail.rest_lse(&mut self.tail_scratch, &mut self.tail_lse);
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

    /// Sums of e^(score - maximum) over sinks and window, head by head.
    fn always_sums(&mut self, scaled: &[f32], maxima: &[f32]) -> Vec<f64> {
        let group = maxima.len();
        let mut sums = vec![0.0; group];
        for rows in self.always.iter().filter(|rows| !rows.is_empty()) {
            let n = rows.len();
            self.scores.resize(group * n, 0.0);
            self.kernels.score_rows(scaled, rows, &mut self.scores, n);
            for ((scores, maximum), sum) in self.scores.chunks_exact_mut(n).zip(maxima).zip(&mut sums) {
                let own = self.kernels.max(scores);
                let share = self.kernels.exp_sub(scores, own);
                *sum += f64::from(share) * f64::from(own - maximum).exp();
            }
        }
        sums
    }

    /// Root of the mean, over the sampled queries and their heads, of the sum of the squared attention weights that were missed: what
    /// a missed weight does to the output grows with it, and many small ones are what the tail stands for. 0 to 1.
    pub fn volatility(&self) -> f32 {
        (self.squares / self.num_rows.max(1) as f64).sqrt() as f32
    }

    /// The same of all that the queries attended to beyond sinks and window: how sharply the head looks far back, 0 to 1. Which single
    /// keys it wants may be the same for all sampled queries and others as soon as it copies.
    pub fn sharpness(&self) -> f32 {
        (self.far_squares / self.num_rows.max(1) as f64).sqrt() as f32
    }

    /// By how much the logarithm of the tail's weight falls short `[group]`: the median over the sampled queries, which a few that miss
    /// single heavy keys do not move, from 0 to [`MAX_CORRECTION`].
    pub fn corrections(&self, group: usize) -> Vec<f32> {
        let of = |h: usize| {
            let mut shortfalls: Vec<f32> = self.shortfalls.iter().skip(h).step_by(group).copied().collect();
            shortfalls.sort_by(f32::total_cmp);
            shortfalls.get(shortfalls.len() / 2).map_or(0.0, |median| median.clamp(0.0, MAX_CORRECTION))
        };
        (0..group).map(of).collect()
    }

    /// Smallest similarity of a sampled query to its nearest centroid: a decode query below it is unlike all of them. -1 when no query
    /// was sampled, which no similarity is below.
    pub fn similarity_floor(&self) -> f32 {
        if self.num_rows == 0 { -1.0 } else { self.floor }
    }
}
