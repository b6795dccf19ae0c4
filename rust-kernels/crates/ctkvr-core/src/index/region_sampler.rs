//! Looks sampled queries up, and counts what was missed, while a build in this process has their weights over the whole region.

use ctkvr_kernels::{Kernels, Rows};

use crate::index::centroid_segment::CentroidSegment;
use crate::index::volatility::{SampledHead, VolatilityMeter};

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

/// A meter, and what it needs of keys outside the region.
pub struct RegionSampler<'a> {
    kernels: &'a Kernels,
    pub meter: VolatilityMeter<'a>,
    /// What is read always: sinks and window.
    always: [Rows<'a>; 2],
    scores: Vec<f32>,
}

impl<'a> RegionSampler<'a> {
    pub fn new(kernels: &'a Kernels, meter: VolatilityMeter<'a>, always: [Rows<'a>; 2]) -> Self {
        Self { kernels, meter, always, scores: Vec::new() }
    }

    /// Looks centroid c's query (f32 `[group, head_dim]`) up in `segment`, which has the lists of all earlier passes.
    pub fn add(&mut self, segment: &CentroidSegment, c: usize, query: &[f32], region: &RegionWeights) {
        let found = self.meter.look_up(segment, c, query);
        let scaled: Vec<f32> = query.iter().map(|x| x / (segment.head_dim as f32).sqrt()).collect();
        let always = self.always_sums(&scaled, region.maxima);
        let of_head = |h: usize| {
            let weights = &region.weights[h * region.stride..h * region.stride + region.num_keys];
            let missed = self.kernels.missed_sums(weights, &found.found);
            SampledHead { maximum: region.maxima[h], total: f64::from(region.sums[h]) + always[h], missed }
        };
        let heads: Vec<SampledHead> = (0..segment.group).map(of_head).collect();
        self.meter.count(&found.tail_lse, &heads);
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
}
