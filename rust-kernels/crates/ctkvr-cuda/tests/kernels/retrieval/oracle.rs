//! Each stage by its definition, in f64, from what the stage before gave: what real numbers may differ from is only near ties.

use std::collections::BTreeSet;

use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::kv::panels::widen_rows;
use ctkvr_kernels::Rows;

use super::head::Head;
use super::{Answer, Ask};

/// Relative error of a sum of head_dim products in f32, in any order, each rounded: head_dim + 2 roundings, of sums of magnitudes.
fn rounding(head_dim: usize) -> f64 {
    (head_dim + 2) as f64 * 2f64.powi(-24)
}

/// Relative error of e^x on the CPU and here: 2e-7, and of the difference that it is taken of.
const EXP: f64 = 4e-7;

pub fn num_clusters(state: &CtkvrHead) -> usize {
    state.index.tail().map_or(0, |tail| tail.segments().iter().map(|s| s.num_clusters()).sum())
}

/// A query, f64 `[group][head_dim]`, times 1/sqrt(head_dim).
fn scaled(ask: &Ask, head: &Head) -> Vec<Vec<f64>> {
    let scale = 1.0 / (head.case.head_dim as f64).sqrt();
    ask.query.chunks_exact(head.case.head_dim).map(|h| h.iter().map(|x| f64::from(*x) * scale).collect()).collect()
}

/// Sum of products, and of their magnitudes.
fn dot(a: &[f64], b: impl Iterator<Item = f64>) -> (f64, f64) {
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (x, y)| (sum + x * y, size + (x * y).abs()))
}

/// (similarity, most that it may be off, list) of every centroid; lists have numbers of their own.
pub fn similarities(ask: &Ask, head: &Head) -> Vec<(f64, f64, (usize, usize))> {
    let d = head.case.head_dim;
    let mut pooled = vec![0.0; d];
    for query in ask.query.chunks_exact(d) {
        let norm = query.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            pooled.iter_mut().zip(query).for_each(|(p, x)| *p += f64::from(*x) / norm);
        }
    }
    let norm = pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        pooled.iter_mut().for_each(|x| *x /= norm);
    }
    let mut all = Vec::new();
    for (s, segment) in head.state.index.active().iter().enumerate() {
        for (c, scale) in segment.pooled.scales.iter().enumerate() {
            let codes = &segment.pooled.codes[c * d..(c + 1) * d];
            let (sum, size) = dot(&pooled, codes.iter().map(|x| f64::from(*x) * f64::from(*scale)));
            // The pooled vector is a sum of group values over a length, and divided by one: each value is off by some roundings of its own.
            all.push((sum, size * (rounding(d) * 2.0 + (head.case.group + 4) as f64 * 2f64.powi(-24)), (s, segment.list_of(c))));
        }
    }
    all
}

pub fn check_probes(answer: &Answer, ask: &Ask, what: &str) {
    let head = ask.head.expect("a head");
    let all = similarities(ask, head);
    let lists: BTreeSet<_> = all.iter().map(|(.., list)| *list).collect();
    assert_eq!(answer.probes.len(), head.case.num_probes.min(lists.len()), "{what}: probes");
    let found: Vec<_> = answer.probes.iter().map(|&c| all[c as usize]).collect();
    let distinct: BTreeSet<_> = found.iter().map(|(.., list)| *list).collect();
    assert_eq!(distinct.len(), found.len(), "{what}: a list was probed twice");
    for (rank, (similarity, error, _)) in found.iter().enumerate() {
        let before: BTreeSet<_> = found[..rank].iter().map(|(.., list)| *list).collect();
        for other in all.iter().filter(|(.., list)| !before.contains(list)) {
            assert!(similarity + error >= other.0 - other.1, "{what}: probe {rank} of {similarity} where {} is", other.0);
        }
    }
    let (nearest, error, _) = found[0];
    let floor = f64::from(head.state.index.figures().similarity_floor);
    if (nearest - floor).abs() > error {
        assert_eq!(answer.search.is_outlier != 0, nearest < floor, "{what}: outlier");
    }
}

/// Lists of the probes, and what came behind the first one's segment.
pub fn union(answer: &Answer, head: &Head) -> BTreeSet<u32> {
    let index = &head.state.index;
    let mut all: BTreeSet<u32> = answer.probes.iter().flat_map(|&c| index.list(c as usize)).collect();
    let mut first = answer.probes[0] as usize;
    let segment = index.active().iter().find(|s| {
        let is_here = first < s.num_centroids();
        first = first.wrapping_sub(s.num_centroids());
        is_here
    });
    all.extend(segment.expect("a centroid's segment").end as u32..index.end() as u32);
    all
}

/// One cluster: score and its error of each head, mean value, positions.
pub struct Cluster {
    pub scores: Vec<(f64, f64)>,
    pub value: Vec<f64>,
    pub members: Vec<u32>,
}

pub fn clusters(ask: &Ask, head: &Head) -> Vec<Cluster> {
    let (d, query) = (head.case.head_dim, scaled(ask, head));
    // Codes times their scales are rounded to f32 here as there: what that is off by is no error.
    let row = |rows: &Rows, c: usize| -> Vec<f64> {
        let mut wide = vec![0.0; d];
        widen_rows(head.kernels, rows, c, 1, &mut wide);
        wide.into_iter().map(f64::from).collect()
    };
    let mut all = Vec::new();
    for segment in head.state.index.tail().map_or(&[][..], |tail| tail.segments()) {
        let (keys, values) = (segment.means().keys(), segment.means().values());
        for c in 0..segment.num_clusters() {
            let key = row(&keys, c);
            let scores = query.iter().map(|q| {
                let (sum, size) = dot(q, key.iter().copied());
                (sum, size * rounding(d))
            });
            let members = segment.members(c).iter().map(|i| segment.start as u32 + i).collect();
            all.push(Cluster { scores: scores.collect(), value: row(&values, c), members });
        }
    }
    all
}

/// Most that any score is off, of some.
fn worst(scores: impl Iterator<Item = (f64, f64)>) -> f64 {
    scores.fold(0.0, |worst, (_, error)| f64::max(worst, error))
}

/// Checks which clusters were taken, what they added to the candidates, and what stands for the others.
pub fn check_clusters(answer: &Answer, ask: &Ask, what: &str) {
    let head = ask.head.expect("a head");
    let (union, clusters, group) = (union(answer, head), clusters(ask, head), head.case.group);
    let left: Vec<f64> = clusters.iter().map(|c| c.members.iter().filter(|p| !union.contains(p)).count() as f64).collect();
    let maxima: Vec<f64> = (0..group).map(|h| clusters.iter().map(|c| c.scores[h].0).fold(f64::NEG_INFINITY, f64::max)).collect();
    // Below -87 a weight is e^-87 (`exp_nonpositive`).
    let weight = |c: &Cluster, h: usize| (c.scores[h].0 - maxima[h]).max(-87.0).exp();
    let totals: Vec<f64> = (0..group).map(|h| clusters.iter().map(|c| weight(c, h) * c.members.len() as f64).sum()).collect();
    let share = |i: usize| (0..group).map(|h| weight(&clusters[i], h) * left[i] / totals[h]).sum::<f64>();
    let error =
        4.0 * worst(clusters.iter().flat_map(|c| c.scores.iter().copied())) + 4.0 * EXP + clusters.len() as f64 * 2f64.powi(-24);
    let taken: BTreeSet<usize> = answer.heaviest.iter().map(|&c| c as usize).collect();
    assert_eq!(taken.len(), head.state.num_read_clusters().min(clusters.len()), "{what}: heaviest clusters");
    assert!(answer.heaviest.is_sorted(), "{what}: heaviest clusters");
    let least = taken.iter().map(|&c| share(c)).fold(f64::INFINITY, f64::min);
    for other in (0..clusters.len()).filter(|c| !taken.contains(c)) {
        let share = share(other);
        assert!(share * (1.0 - error) <= least * (1.0 + error), "{what}: cluster {other} of {share} where {least} was taken");
    }
    let mut all = union;
    all.extend(taken.iter().flat_map(|&c| clusters[c].members.iter().copied()));
    if answer.search.repairs == 0 {
        assert_eq!(answer.candidates, all.into_iter().collect::<Vec<_>>(), "{what}: candidates");
    }
    // What stands for the others.
    let corrections = head.state.index.tail().map_or(&[][..], |tail| tail.corrections());
    for h in 0..group {
        let rest: Vec<(usize, f64)> =
            (0..clusters.len()).filter(|c| !taken.contains(c)).map(|c| (c, weight(&clusters[c], h) * left[c])).collect();
        let sum: f64 = rest.iter().map(|(_, w)| w).sum();
        let d = head.case.head_dim;
        if answer.search.repairs == 0 {
            let lse = answer.tail_lse[h];
            let expected = if sum > 0.0 { maxima[h] + sum.ln() + f64::from(corrections[h]) } else { f64::NEG_INFINITY };
            let close = f64::from(lse) == expected || (f64::from(lse) - expected).abs() <= error + expected.abs() * 2f64.powi(-21);
            assert!(close, "{what}: head {h}'s rest is {lse} for {expected}");
        }
        for i in 0..d {
            let mean: f64 = rest.iter().map(|(c, w)| w * clusters[*c].value[i]).sum::<f64>() / sum;
            let size: f64 = rest.iter().map(|(c, w)| w * clusters[*c].value[i].abs()).sum::<f64>() / sum;
            let expected = if sum > 0.0 && answer.search.repairs == 0 { mean } else { 0.0 };
            let actual = answer.tail_value[h * d + i];
            let budget = if expected == 0.0 && sum <= 0.0 { 0.0 } else { error * 2.0 * size };
            assert!((f64::from(actual) - expected).abs() <= budget, "{what}: head {h} value {i} is {actual} for {expected}");
        }
    }
}

/// Scores of candidates f64 `[group][n]`, with the most that any is off.
pub fn scores(answer: &Answer, ask: &Ask) -> (Vec<Vec<f64>>, f64) {
    let head = ask.head.expect("a head");
    let (d, query, kv) = (head.case.head_dim, scaled(ask, head), head.kv());
    let mut error = 0.0;
    let mut key = vec![0f32; d];
    let mut all = vec![Vec::new(); head.case.group];
    for position in positions(answer, ask) {
        widen_rows(head.kernels, &kv.keys(position as usize, 1), 0, 1, &mut key);
        for (h, q) in query.iter().enumerate() {
            let (sum, size) = dot(q, key.iter().map(|x| f64::from(*x)));
            error = f64::max(error, size * rounding(d));
            all[h].push(sum);
        }
    }
    (all, error)
}

/// Candidates, listed or not.
pub fn positions(answer: &Answer, ask: &Ask) -> Vec<u32> {
    let layout = ask.layout();
    if answer.search.candidates == 2 { answer.candidates.clone() } else { (layout.start as u32..layout.end as u32).collect() }
}

/// Checks the choice, and the weight of what was dropped.
pub fn check_choice(answer: &Answer, ask: &Ask, what: &str) {
    let (positions, (scores, error)) = (positions(answer, ask), scores(answer, ask));
    let n = positions.len();
    assert_eq!(answer.search.num_candidates as usize, n, "{what}: candidates");
    let all = answer.search.repairs != 0 || n == 0;
    let most = if all || ask.max_selected == 0 { n } else { ask.max_selected.min(n) };
    assert!(answer.selected.is_sorted_by(|a, b| a < b), "{what}: positions ascend");
    let selected: BTreeSet<u32> = answer.selected.iter().copied().collect();
    assert!(selected.iter().all(|p| positions.binary_search(p).is_ok()), "{what}: a position that is no candidate");
    if all || (most == n && ask.top_p == 1.0) {
        assert_eq!(answer.selected, positions, "{what}: everything is read");
        assert!(answer.dropped.iter().all(|d| d.max == f32::NEG_INFINITY && d.sum == 0.0), "{what}: nothing is dropped");
        return;
    }
    let maxima: Vec<f64> = scores.iter().map(|s| s.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
    let weight = |h: usize, i: usize| (scores[h][i] - maxima[h]).max(-87.0).exp();
    let totals: Vec<f64> = (0..scores.len()).map(|h| (0..n).map(|i| weight(h, i)).sum()).collect();
    let shares: Vec<f64> = (0..n).map(|i| (0..scores.len()).map(|h| weight(h, i) / totals[h]).sum()).collect();
    let error = 4.0 * error + 4.0 * EXP + n as f64 * 2f64.powi(-24);
    if ask.top_p < 1.0 {
        let mut descending = shares.clone();
        descending.sort_by(|a, b| b.total_cmp(a));
        let wanted = ask.top_p * shares.iter().sum::<f64>();
        let count_of = |wanted: f64| {
            let mut covered = 0.0;
            descending
                .iter()
                .position(|w| {
                    covered += w;
                    covered >= wanted
                })
                .map_or(n, |i| i + 1)
        };
        let (low, high) = (count_of(wanted * (1.0 - 2.0 * error)).min(most), count_of(wanted * (1.0 + 2.0 * error)).min(most));
        assert!((low..=high).contains(&selected.len()), "{what}: {} selected, {low} to {high} reach the share", selected.len());
    } else {
        assert_eq!(selected.len(), most, "{what}: selected");
    }
    let is_selected: Vec<bool> = positions.iter().map(|p| selected.contains(p)).collect();
    let least = (0..n).filter(|&i| is_selected[i]).map(|i| shares[i]).fold(f64::INFINITY, f64::min);
    for i in (0..n).filter(|&i| !is_selected[i]) {
        assert!(
            shares[i] * (1.0 - error) <= least * (1.0 + error),
            "{what}: {} of {} where {least} was taken",
            positions[i],
            shares[i]
        );
    }
    for (h, dropped) in answer.dropped.iter().enumerate() {
        if selected.len() == n {
            assert_eq!((dropped.max, dropped.sum), (f32::NEG_INFINITY, 0.0), "{what}: nothing is dropped");
            continue;
        }
        let expected: f64 = (0..n).filter(|&i| !is_selected[i]).map(|i| weight(h, i)).sum();
        let close = (f64::from(dropped.sum) - expected).abs() <= error * totals[h];
        assert!(close, "{what}: head {h} dropped {} for {expected}", dropped.sum);
        assert!(
            (f64::from(dropped.max) - maxima[h]).abs() <= error,
            "{what}: head {h}'s largest {} for {}",
            dropped.max,
            maxima[h]
        );
    }
}

/// The mean value of what was scored and not selected, by clusters.
pub fn check_scored_rest(answer: &Answer, ask: &Ask, what: &str) {
    let head = ask.head.expect("a head");
    let (positions, (scores, error)) = (positions(answer, ask), scores(answer, ask));
    let (d, start) = (head.case.head_dim, positions[0]);
    let selected: BTreeSet<u32> = answer.selected.iter().copied().collect();
    let clusters = clusters(ask, head);
    for (h, scores) in scores.iter().enumerate() {
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = clusters
            .iter()
            .map(|c| {
                let kept = c.members.iter().filter(|p| !selected.contains(p));
                kept.map(|p| (scores[(p - start) as usize] - max).max(-87.0).exp()).sum()
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        for i in 0..d {
            let mean: f64 = weights.iter().zip(&clusters).map(|(w, c)| w * c.value[i]).sum::<f64>() / sum;
            let size: f64 = weights.iter().zip(&clusters).map(|(w, c)| w * c.value[i].abs()).sum::<f64>() / sum;
            let expected = if sum > 0.0 { mean } else { 0.0 };
            let budget =
                if sum > 0.0 { size * (4.0 * error + 4.0 * EXP + 2.0 * positions.len() as f64 * 2f64.powi(-24)) } else { 0.0 };
            let actual = f64::from(answer.tail_value[h * d + i]);
            assert!((actual - expected).abs() <= budget, "{what}: head {h} value {i} is {actual} for {expected}");
        }
    }
}
