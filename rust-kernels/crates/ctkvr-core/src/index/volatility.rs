//! How much a head's index would miss, told from the prefill itself: some of its last queries are looked up as a decode query would be,
//! among centroids a while older than they are, and what they attend to outside the lists is added up. In most heads neighbouring
//! queries want the same keys; in a few, the retrieval heads that copy from far back (Wu et al., arXiv 2404.15574), each token wants
//! another key, and no neighbour's list has it.

use crate::index::centroid_block::{CentroidBlock, keep_nearest, pool};
use crate::index::centroid_index::{FirstInput, MARK, list_marked};
use crate::options::SelectorOptions;
use crate::refine::ranked::Ranked;
use crate::tail::{MAX_CORRECTION, Tail, TailScratch};
use ctkvr_kernels::{Kernels, Rows};

/// Queries that are looked up at most.
const MAX_SAMPLES: usize = 128;
/// How many centroids older than the query those are that it may find: an answer soon is as far from the prompt's last queries.
const LAG: usize = 64;

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
        let FirstInput { always, options: &SelectorOptions { num_probes, cluster_probes, .. } } = *input;
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

    /// Looks centroid c's query (f32 `[group, head_dim]`) up in `block`, which has the lists of all earlier passes.
    pub fn add(&mut self, block: &CentroidBlock, c: usize, query: &[f32], region: &RegionWeights) {
        let d = block.head_dim;
        self.probe(block, c + 1 - self.lag, query);
        self.found.clear();
        self.found.resize(region.num_keys.next_multiple_of(64), 0);
        let mut probed: Vec<usize> = Vec::new();
        for near in &self.order {
            let list = block.list_of(near.id() as usize);
            if probed.len() < self.num_probes && !probed.contains(&list) {
                probed.push(list);
                block.lists.for_each(list, |p| self.found[p] = MARK);
            }
        }
        let scaled: Vec<f32> = query.iter().map(|x| x / (d as f32).sqrt()).collect();
        self.estimate_missed(block.start, &scaled);
        let always = self.always_sums(&scaled, region.maxima);
        for (h, always) in always.into_iter().enumerate() {
            let weights = &region.weights[h * region.stride..h * region.stride + region.num_keys];
            // SAFETY: both hold num_keys values.
            let sums = unsafe { (self.kernels.missed_sums)(weights.as_ptr(), self.found.as_ptr(), weights.len()) };
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
        list_marked(self.kernels, &self.found, start, self.found.len() + 64, &mut self.taken);
        tail.weigh(self.kernels, scaled, &self.taken, &mut self.tail_scratch);
        tail.take_heaviest(self.kernels, self.cluster_probes, &mut self.tail_scratch, |p| self.found[p - start] = MARK);
        tail.rest_lse(&mut self.tail_scratch, &mut self.tail_lse);
    }

    /// Fills `order` with the nearest of the first `num_centroids` centroids, best first.
    fn probe(&mut self, block: &CentroidBlock, num_centroids: usize, query: &[f32]) {
        self.pooled.resize(block.head_dim, 0.0);
        pool(query, &mut self.pooled);
        self.order.clear();
        block.compare(self.kernels, &self.pooled, (num_centroids, 0), &mut self.similarities, &mut self.order);
        keep_nearest(&mut self.order, self.num_probes, block.per_list);
        self.floor = self.floor.min(self.order[0].score());
    }

    /// Sums of e^(score - maximum) over sinks and window, head by head.
    fn always_sums(&mut self, scaled: &[f32], maxima: &[f32]) -> Vec<f64> {
        let group = maxima.len();
        let mut sums = vec![0.0; group];
        for rows in self.always.iter().filter(|rows| !rows.is_empty()) {
            let n = rows.len();
            self.scores.resize(group * n, 0.0);
            // SAFETY: the scores hold group rows of n values.
            unsafe { (self.kernels.score_rows)(scaled.as_ptr(), group, rows, self.scores.as_mut_ptr(), n) };
            for ((scores, maximum), sum) in self.scores.chunks_exact_mut(n).zip(maxima).zip(&mut sums) {
                // SAFETY: the row holds n values, of which none is above their largest.
                let (own, share) = unsafe {
                    let own = (self.kernels.max)(scores.as_ptr(), n);
                    (own, (self.kernels.exp_sub)(scores.as_mut_ptr(), n, own))
                };
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use crate::head_index::{HeadIndex, HeadInput};
    use crate::options::{SelectorKind, SelectorOptions};

    const D: usize = 16;
    const NUM_KEYS: usize = 400;
    const NUM_CENTROIDS: usize = 64;
    const SINKS: usize = 4;
    const WINDOW: usize = 16;

    /// Values of -1 to 1 (SplitMix64).
    fn random(seed: u64, n: usize) -> Vec<f32> {
        (0..n as u64)
            .map(|i| {
                let mut z = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn options(list_len: usize, num_probes: usize) -> SelectorOptions {
        SelectorOptions {
            kind: SelectorKind::Ctkvr,
            num_sink_tokens: SINKS,
            recent_window: WINDOW,
            list_len,
            num_probes,
            cluster_probes: 0,
            ..SelectorOptions::full()
        }
    }

    fn build(keys: &[f32], queries: &[f32], options: &SelectorOptions) -> HeadIndex {
        let input = HeadInput { keys, values: keys, queries, head_dim: D, group: 1, options, isa: "scalar" };
        HeadIndex::build(&input, &AtomicBool::new(false)).expect("built")
    }

    /// All centroids old enough are probed, so that which is nearest does not matter; lists are the index's own.
    #[test]
    fn is_what_plain_arithmetic_says() {
        let (keys, queries) = (random(1, NUM_KEYS * D), random(2, NUM_CENTROIDS * D));
        let queries: Vec<f32> = queries.iter().map(|q| 3.0 * q).collect();
        let index = build(&keys, &queries, &options(6, NUM_CENTROIDS));
        let (lag, mut squares, mut num_rows) = (28, 0.0, 0);
        for c in NUM_CENTROIDS / 2..NUM_CENTROIDS {
            let known: std::collections::BTreeSet<u32> = (0..=c - lag).flat_map(|o| index.list(o).expect("a list")).collect();
            let score = |p: usize| -> f64 {
                let products = queries[c * D..(c + 1) * D].iter().zip(&keys[p * D..(p + 1) * D]);
                products.map(|(a, b)| f64::from(a * b)).sum::<f64>() / (D as f64).sqrt()
            };
            let weights: Vec<f64> = (0..NUM_KEYS).map(|p| score(p).exp()).collect();
            let total: f64 = weights.iter().sum();
            let missed = (SINKS..NUM_KEYS - WINDOW).filter(|p| !known.contains(&(*p as u32)));
            squares += missed.map(|p| (weights[p] / total).powi(2)).sum::<f64>();
            num_rows += 1;
        }
        let expected = (squares / f64::from(num_rows)).sqrt();
        // Keys are stored as f16 (2^-11 each), scores are at most 3 * 16 / 4 = 12: weights are good to 12 * 2^-11 = 0.6 %.
        let actual = f64::from(index.volatility());
        assert!((actual / expected - 1.0).abs() < 0.02, "{actual} for {expected}");
    }

    #[test]
    fn is_high_where_each_query_wants_another_key_and_low_where_neighbours_want_the_same() {
        let keys = random(3, NUM_KEYS * D);
        let key = |p: usize| &keys[p * D..(p + 1) * D];
        let want = |p: usize| key(p).iter().map(|k| 12.0 * k).collect::<Vec<f32>>();
        let steady: Vec<f32> = (0..NUM_CENTROIDS).flat_map(|_| want(100)).collect();
        let jumping: Vec<f32> = (0..NUM_CENTROIDS).flat_map(|c| want(SINKS + 1 + 5 * c)).collect();
        let of = |queries: &[f32]| build(&keys, queries, &options(8, 2)).volatility();
        let (steady, jumping) = (of(&steady), of(&jumping));
        assert!(steady < 0.02, "{steady}");
        assert!(jumping > 0.5, "{jumping}");
    }

    #[test]
    fn is_nothing_when_lists_hold_everything_or_there_is_nobody_to_ask() {
        let keys = random(4, NUM_KEYS * D);
        let queries = random(5, NUM_CENTROIDS * D);
        assert_eq!(build(&keys, &queries, &options(NUM_KEYS, 1)).volatility(), 0.0);
        assert_eq!(build(&keys, &queries[..D], &options(8, 1)).volatility(), 0.0);
        assert_eq!(build(&keys[..8 * D], &queries, &options(8, 1)).volatility(), 0.0);
    }
}
