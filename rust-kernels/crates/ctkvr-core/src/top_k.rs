//! The k largest of many non-negative scores, ties to the smaller index, in ascending index order.

/// Reused memory of [`TopK::select`]; grows to the largest input and is never freed in between.
#[derive(Default)]
pub(crate) struct TopK {
    histogram: Vec<u32>,
    /// (bits of the score, index) of the scores that share the threshold's bin.
    edge: Vec<(u32, u32)>,
}

/// Bins by sign, exponent and three bits of mantissa: enough that few scores share the threshold's bin.
const BIN_SHIFT: u32 = 20;
const NUM_BINS: usize = 1 << (32 - BIN_SHIFT);

impl TopK {
    /// Writes the indexes of the k largest `scores` to `out` (cleared first), ascending. Scores are finite and >= 0: their bit
    /// patterns order as they do, so one histogram finds the bin of the k-th and only that bin is sorted.
    pub(crate) fn select(&mut self, scores: &[f32], k: usize, out: &mut Vec<u32>) {
        out.clear();
        if k >= scores.len() {
            out.extend(0..scores.len() as u32);
            return;
        }
        if k == 0 {
            return;
        }
        self.histogram.clear();
        self.histogram.resize(NUM_BINS, 0);
        for s in scores {
            debug_assert!(*s >= 0.0 && s.is_finite());
            self.histogram[bin(*s)] += 1;
        }
        let mut above = 0;
        let mut threshold = NUM_BINS;
        while above < k {
            threshold -= 1;
            above += self.histogram[threshold] as usize;
        }
        above -= self.histogram[threshold] as usize;
        self.edge.clear();
        for (i, s) in scores.iter().enumerate() {
            if bin(*s) == threshold {
                self.edge.push((s.to_bits(), i as u32));
            }
        }
        // Of the threshold's bin keep the k - above best; the last one kept is the bound.
        let last = k - above - 1;
        let (_, bound, _) = self.edge.select_nth_unstable_by(last, |a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let (bits, index) = *bound;
        for (i, s) in scores.iter().enumerate() {
            let b = s.to_bits();
            if b > bits || (b == bits && i as u32 <= index) {
                out.push(i as u32);
            }
        }
        debug_assert_eq!(out.len(), k);
    }
}

fn bin(score: f32) -> usize {
    // -0.0 counts as 0.
    ((score.to_bits() & 0x7fff_ffff) >> BIN_SHIFT) as usize
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
            TopK::default().select(&scores, k, &mut out);
            prop_assert_eq!(out, plain(&scores, k));
        }
    }

    #[test]
    fn ties_go_to_the_smaller_index() {
        let mut out = Vec::new();
        TopK::default().select(&[1.0, 2.0, 1.0, 2.0, 1.0], 3, &mut out);
        assert_eq!(out, [0, 1, 3]);
    }
}
