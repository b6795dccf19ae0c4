//! Where a decode step's attention went: its share for each passage of the sequence.

use ctkvr_kernels::Kernels;

use crate::attention::attend::{Chosen, PASS};
use crate::attention::merge::Merged;
use crate::kv::head_kv::HeadKv;

/// Positions of a passage: a sentence or two.
pub const PASSAGE: usize = 32;

/// Adds, for each of the group's heads, the shares of the keys that were read to their passages: f32, one for each. A head
/// adds its estimated mass. Scores of sinks and window were not kept: they are computed again, in `scratch`, f32 of at least group * `PASS`.
pub fn add_to_read_map(kernels: &Kernels, chosen: Chosen, merged: &Merged, kv: &HeadKv, scratch: &mut [f32], passages: &mut [f32]) {
    let Chosen { searched, weighed, selected } = chosen;
    for run in searched.layout.always() {
        for start in run.clone().step_by(PASS) {
            let n = PASS.min(run.end - start);
            kernels.score_rows(&searched.scaled, &kv.keys(start, n), scratch, PASS);
            for (h, scores) in scratch.chunks_exact(PASS).take(searched.group).enumerate() {
                (start..).zip(&scores[..n]).for_each(|(position, score)| passages[position / PASSAGE] += merged.share(h, *score));
            }
        }
    }
    let positions = selected.positions();
    if positions.is_empty() {
        return;
    }
    for (h, scores) in selected.scores().chunks_exact(positions.len()).enumerate() {
        let read = positions.iter().map(|position| *position as usize / PASSAGE).zip(scores);
        if searched.chooses {
            // The choice left weights: e^(score - maximum).
            let scale = merged.share(h, weighed.totals()[h].max);
            read.for_each(|(passage, weight)| passages[passage] += weight * scale);
        } else {
            read.for_each(|(passage, score)| passages[passage] += merged.share(h, *score));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::alone::{finish_alone, select_alone};
    use crate::attention::counters::SelectionCounters;
    use crate::attention::decode::HeadStep;
    use crate::retriever::Candidates;
    use crate::search::Layout;
    use crate::test_rows::{Random, dot, store, tables};

    const D: usize = 16;
    const GROUP: usize = 2;
    const LEN: usize = 10 * PASSAGE + 3;

    /// A head that chooses `max_selected` of the region (0: reads all of it): the map is the softmax over what it read and what it dropped, which
    /// it knows. `region`: none where everything is read.
    fn check(region: (usize, usize), max_selected: usize) {
        let mut random = Random(7);
        let (keys, values) = (random.reals(LEN * D, 1), random.reals(LEN * D, 1));
        let (stored, query) = (store(&keys, &values, D), random.reals(GROUP * D, 4));
        for kernels in tables(D) {
            let layout = Layout { len: LEN, start: region.0, end: region.1, max_selected, top_p: 1.0 };
            let step = HeadStep { query: &query, group: GROUP, layout, may_repair: false };
            let mut decode = select_alone(kernels, &stored.head(), &step, None, |_, _, out| out.candidates = Candidates::Region);
            finish_alone(kernels, &stored.head(), &mut decode, &mut SelectionCounters::default(), false);
            let mut map = vec![0.0; LEN.div_ceil(PASSAGE)];
            decode.add_to_read_map(kernels, &stored.head(), &mut [0.0; GROUP * PASS], &mut map);

            let is_read = |p: usize| p < region.0 || p >= region.1 || decode.selected().contains(&(p as u32));
            let mut expected = vec![0f64; map.len()];
            for query in query.chunks_exact(D) {
                let score = |p: usize| dot(query, &keys[p * D..(p + 1) * D]) / (D as f64).sqrt();
                let total: f64 = (0..LEN).map(|p| score(p).exp()).sum();
                (0..LEN).filter(|p| is_read(*p)).for_each(|p| expected[p / PASSAGE] += score(p).exp() / total);
            }
            // Scores are below 2 D; each is off by (D + 2) 2^-24 of that, a weight by as much of itself, its exponentials by 3e-7 each.
            let budget = (D + 2) as f64 * 2f64.powi(-24) * 2.0 * D as f64 * 2.0 + 4.0 * 3e-7;
            for (passage, (actual, expected)) in map.iter().zip(expected).enumerate() {
                let error = (f64::from(*actual) - expected).abs();
                assert!(error <= budget * expected.max(1e-3), "{} passage {passage}: {actual}, not {expected}", kernels.name);
            }
        }
    }

    #[test]
    fn is_the_softmax_of_what_was_read() {
        check((0, 0), 0); // everything, always
        check((5, LEN - 20), 0); // all candidates
        check((5, LEN - 20), 40); // the best of them
        check((PASSAGE, 2 * PASSAGE), 1);
    }
}
