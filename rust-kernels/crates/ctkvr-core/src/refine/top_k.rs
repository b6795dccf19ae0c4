//! The k largest of many non-negative scores, ties to the smaller index, in ascending index order.

use ctkvr_kernels::Kernels;

/// Reused memory of [`TopK::select`]; grows to the largest input and is never freed in between.
#[derive(Default)]
pub struct TopK {
    histogram: Vec<u32>,
    /// Sum of each bin, for [`TopK::count_reaching`].
    sums: Vec<f64>,
    /// (bits of the score, index) of the scores that share the threshold's bin.
    edge: Vec<(u32, u32)>,
}

/// Bins of an eighth of a power of two, counted down from the largest score's: enough that few scores share the threshold's bin.
const BIN_SHIFT: u32 = 20;
/// 64 powers of two; what is smaller shares the last bin.
const NUM_BINS: usize = 512;

impl TopK {
    /// Smallest number of the largest `scores` whose sum reaches `share` of all, at least 1: for share in (0, 1] and scores as
    /// [`TopK::select`] takes them, not empty. Only the bin in which the share is reached is sorted.
    pub fn count_reaching(&mut self, scores: &[f32], share: f64) -> usize {
        let bin = bins_of(scores);
        self.histogram.clear();
        self.histogram.resize(NUM_BINS, 0);
        self.sums.clear();
        self.sums.resize(NUM_BINS, 0.0);
        for s in scores {
            self.histogram[bin(*s)] += 1;
            self.sums[bin(*s)] += f64::from(*s);
        }
        let wanted = share * self.sums.iter().sum::<f64>();
        let (mut count, mut covered) = (0, 0.0);
        for (b, (&len, &sum)) in self.histogram.iter().zip(&self.sums).enumerate() {
            if len > 0 && covered + sum >= wanted {
                self.edge.clear();
                self.edge.extend(scores.iter().filter(|s| bin(**s) == b).map(|s| (key(*s), 0)));
                self.edge.sort_unstable_by_key(|&(bits, _)| std::cmp::Reverse(bits));
                for (bits, _) in &self.edge {
                    covered += f64::from(f32::from_bits(*bits));
                    count += 1;
                    if covered >= wanted {
                        return count;
                    }
                }
                // Another order of addition may fall short of the bin's sum by rounding: the next bin decides.
            } else {
                count += len as usize;
                covered += sum;
            }
        }
        scores.len()
    }

    /// Writes the indexes of the k largest `scores` to `out` (cleared first), ascending. Scores are finite and >= 0: their bit patterns
    /// order as they do, so that halving the range of patterns finds the k-th largest in 31 passes at most.
    pub fn select(&mut self, kernels: &Kernels, scores: &[f32], k: usize, out: &mut Vec<u32>) {
        let n = scores.len();
        out.clear();
        if k >= n {
            out.extend(0..n as u32);
            return;
        }
        if k == 0 {
            return;
        }
        debug_assert!(scores.iter().all(|s| *s >= 0.0 && s.is_finite()));
        // SAFETY: the scores are n values.
        let count = |bits: u32| unsafe { (kernels.count_ge)(scores.as_ptr(), n, f32::from_bits(bits)) };
        // SAFETY: as above.
        let largest = key(unsafe { (kernels.max)(scores.as_ptr(), n) });
        // At least k scores reach `low`, fewer reach `high`.
        let (mut low, mut high, mut reached) = (0, largest + 1, n);
        while reached > k && high - low > 1 {
            let middle = low + (high - low) / 2;
            let count = count(middle);
            if count >= k {
                (low, reached) = (middle, count);
            } else {
                high = middle;
            }
        }
        let threshold = f32::from_bits(low);
        out.reserve(reached + 64);
        // SAFETY: `reached` scores are written, and 64 more fit.
        unsafe {
            let len = (kernels.select_ge)(scores.as_ptr(), n, threshold, out.as_mut_ptr());
            debug_assert_eq!(len, reached);
            out.set_len(len);
        }
        if reached > k {
            // Ties at the threshold: the first of them stay.
            let mut surplus = reached - k;
            for i in (0..reached).rev() {
                if surplus > 0 && scores[out[i] as usize] == threshold {
                    out[i] = u32::MAX;
                    surplus -= 1;
                }
            }
            out.retain(|&i| i != u32::MAX);
        }
    }
}

/// Which bin a score lies in: 0 holds the largest.
fn bins_of(scores: &[f32]) -> impl Fn(f32) -> usize {
    let largest = scores.iter().fold(0, |largest: u32, s| largest.max(key(*s))) >> BIN_SHIFT;
    move |s| ((largest - (key(s) >> BIN_SHIFT)) as usize).min(NUM_BINS - 1)
}

/// Orders as the score does; -0.0 counts as 0.
fn key(score: f32) -> u32 {
    score.to_bits() & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(scores: &[f32], k: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
        order.truncate(k);
        order.sort_unstable();
        order
    }

    proptest! {
        #[test]
        fn equals_a_full_sort(
            scores in prop::collection::vec(prop_oneof![Just(0f32), Just(1.0), 0f32..1.0, 0.5f32..0.5001, 0f32..1e-30], 0..600),
            k in 0usize..700,
        ) {
            let mut out = vec![7];
            for kernels in Kernels::available() {
                TopK::default().select(kernels, &scores, k, &mut out);
                prop_assert_eq!(&out, &plain(&scores, k), "{}", kernels.name);
            }
        }
    }

    /// By the definition: descending, added up until the share is there.
    fn plain_count(scores: &[f32], share: f64) -> usize {
        let mut descending: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
        descending.sort_by(|a, b| b.total_cmp(a));
        let wanted = share * descending.iter().sum::<f64>();
        let mut covered = 0.0;
        let reached = descending.iter().position(|s| {
            covered += s;
            covered >= wanted
        });
        reached.map_or(scores.len(), |i| i + 1)
    }

    proptest! {
        /// Multiples of 2^-10 add up exactly in any order.
        #[test]
        fn reaches_the_share_with_the_fewest(
            steps in prop::collection::vec(prop_oneof![Just(0u32), Just(3), 0u32..1024, 0u32..8], 1..600),
            share in prop_oneof![Just(0.5), Just(1.0), 0.001f64..1.0],
        ) {
            let scores: Vec<f32> = steps.iter().map(|s| *s as f32 / 1024.0).collect();
            prop_assert_eq!(TopK::default().count_reaching(&scores, share), plain_count(&scores, share));
        }
    }

    #[test]
    fn the_share_is_reached_exactly_or_by_one_more() {
        let mut top_k = TopK::default();
        for (share, count) in [(0.75, 2), (0.76, 3), (1e-9, 1), (0.99, 4)] {
            assert_eq!(top_k.count_reaching(&[0.125, 0.5, 0.25, 0.125], share), count, "{share}");
        }
    }

    #[test]
    fn ties_go_to_the_smaller_index() {
        let mut out = Vec::new();
        for kernels in Kernels::available() {
            TopK::default().select(kernels, &[1.0, 2.0, 1.0, 2.0, 1.0], 3, &mut out);
            assert_eq!(out, [0, 1, 3]);
        }
    }
}
