//! How much a head's index would miss, as the build measures it.

use std::sync::atomic::AtomicBool;

use ctkvr_core::{CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions, HeadIndex, HeadIndexOptions, HeadInput, StepOptions};

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

fn options(list_len: usize, num_probes: usize) -> HeadIndexOptions {
    let defaults = CtkvrOptions::default();
    HeadIndexOptions {
        step: StepOptions { num_sink_tokens: SINKS, recent_window: WINDOW, ..StepOptions::default() },
        ctkvr: CtkvrOptions {
            build: CtkvrBuildOptions { list_len, ..defaults.build },
            search: CtkvrSearchOptions { num_probes, cluster_probes: 0, ..defaults.search },
        },
        ..HeadIndexOptions::default()
    }
}

fn build(keys: &[f32], queries: &[f32], options: &HeadIndexOptions) -> HeadIndex {
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
