//! Scores with ids as single integers: comparing, choosing and sorting them takes no branch.

/// A score and an id. Orders best first: higher scores, then smaller ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked(u64);

impl Ranked {
    /// `score` is a number.
    pub fn new(score: f32, id: u32) -> Self {
        // Bits of floats order as integers once negative ones are turned around; the whole is turned for best first.
        let bits = score.to_bits();
        let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        Self(u64::from(!ascending) << 32 | u64::from(id))
    }

    pub fn score(self) -> f32 {
        let ascending = !((self.0 >> 32) as u32);
        f32::from_bits(if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending })
    }

    pub fn id(self) -> u32 {
        self.0 as u32
    }
}

/// Keeps the best `keep`, in no order.
pub fn keep_best(ranked: &mut Vec<Ranked>, keep: usize) {
    if keep < ranked.len() {
        ranked.select_nth_unstable(keep);
        ranked.truncate(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn orders_as_scores_then_ids_do(all in prop::collection::vec((-2f32..2.0, 0u32..9), 0..50), keep in 0usize..60) {
            let mut ranked: Vec<Ranked> = all.iter().map(|&(score, id)| Ranked::new(score, id)).collect();
            for (r, (score, id)) in ranked.iter().zip(&all) {
                prop_assert_eq!((r.score(), r.id()), (*score, *id));
            }
            let mut plain = all;
            plain.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            plain.truncate(keep);
            keep_best(&mut ranked, keep);
            ranked.sort_unstable();
            prop_assert_eq!(ranked.iter().map(|r| (r.score(), r.id())).collect::<Vec<_>>(), plain);
        }
    }
}
