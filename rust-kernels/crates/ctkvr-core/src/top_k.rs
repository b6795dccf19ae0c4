//! The k largest of many non-negative scores, ties to the smaller index, in ascending index order.

/// Reused memory of [`TopK::select`]; grows to the largest input and is never freed in between.
#[derive(Default)]
pub(crate) struct TopK {
    histogram: Vec<u32>,
    /// (bits of the score, index) of the scores that share the threshold's bin.
    edge: Vec<(u32, u32)>,
}

/// Bins of an eighth of a power of two, counted down from the largest score's: enough that few scores share the threshold's bin.
const BIN_SHIFT: u32 = 20;
/// 64 powers of two; what is smaller shares the last bin.
const NUM_BINS: usize = 512;

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
        debug_assert!(scores.iter().all(|s| *s >= 0.0 && s.is_finite()));
        let largest = scores.iter().fold(0, |largest: u32, s| largest.max(key(*s))) >> BIN_SHIFT;
        let bin = |s: f32| ((largest - (key(s) >> BIN_SHIFT)) as usize).min(NUM_BINS - 1);
        self.histogram.clear();
        self.histogram.resize(NUM_BINS, 0);
        let histogram = &mut self.histogram[..NUM_BINS];
        scores.iter().for_each(|s| histogram[bin(*s)] += 1);
        let mut above = 0;
        let mut threshold = 0;
        while above + (histogram[threshold] as usize) < k {
            above += histogram[threshold] as usize;
            threshold += 1;
        }
        self.edge.clear();
        self.edge.extend(scores.iter().enumerate().filter(|(_, s)| bin(**s) == threshold).map(|(i, s)| (key(*s), i as u32)));
        // Of the threshold's bin keep the k - above best; the last one kept is the bound.
        let last = k - above - 1;
        let (_, bound, _) = self.edge.select_nth_unstable_by(last, |a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let (bits, index) = *bound;
        // Every index is written, and stays if it is wanted: no branch that could be guessed wrong.
        out.resize(k + 1, 0);
        let mut len = 0;
        for (i, s) in scores.iter().enumerate() {
            out[len] = i as u32;
            len += usize::from(key(*s) > bits || (key(*s) == bits && i as u32 <= index));
        }
        debug_assert_eq!(len, k);
        out.truncate(k);
    }
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
