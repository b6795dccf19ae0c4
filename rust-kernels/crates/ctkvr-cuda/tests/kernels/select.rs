//! kernels/select.cu: the choice, on weights that a test makes.

use crate::retrieval::head::{Case, Head, query};
use crate::retrieval::{Ask, Layer};
use ctkvr_core::refine::top_k::TopK;
use ctkvr_cuda::launch::search_state::SlotSearch;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{DeviceBuffer, Result};
use ctkvr_kernels::Kernels;
use ctkvr_kernels::testing::Random;

/// Scores of one head become weights: the choice among them, by the CPU's own code.
fn select(layer: &Layer, scores: &[f32], max_selected: usize, top_p: f32) -> Result<Vec<u32>> {
    let (device, n) = (layer.device, scores.len());
    let stream = device.compute();
    let search = layer.search();
    let mut select = layer.memory.select(&search);
    let mut slot = layer.read(search.layouts)?[0];
    (slot.start, slot.end, slot.max_selected, slot.top_p) = (5, 5 + n as u32, max_selected as u32, top_p);
    let layouts = DeviceBuffer::from_slice(device, &[slot])?;
    select.layouts = layouts.span();
    let most_selected = if max_selected == 0 { n } else { max_selected.min(n) } as u32;
    let chooses = u32::from((most_selected as usize) < n || top_p < 1.0);
    let state = SlotSearch { candidates: 1, num_candidates: n as u32, most_selected, chooses, ..SlotSearch::default() };
    layer.poison()?;
    stream.copy_in(search.searches, &[state])?;
    stream.copy_in(select.scores.part(0..n), scores)?;
    let max = |chunk: &[f32]| chunk.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let totals: Vec<f32> = scores.chunks(256).flat_map(|c| [max(c), c.iter().map(|s| (s - max(c)).exp()).sum()]).collect();
    stream.copy_in(select.partials.part(0..totals.len() / 2).cast(), &totals)?;
    select.launch(device, stream)?;
    let weights = layer.read(select.weights)?[..n].to_vec();
    let count = layer.read(select.counts)?[0] as usize;
    let selected = layer.read(select.selected)?;
    assert!(selected[count..].iter().all(|p| *p == u32::MAX), "nothing behind the list");
    // The CPU's choice among the same weights.
    if chooses == 1 {
        let mut top_k = TopK::default();
        let enough = if top_p < 1.0 { top_k.count_reaching(&weights, f64::from(top_p)) } else { n };
        let mut expected = Vec::new();
        let kernels = Kernels::named("scalar", 16).expect("the plain kernels");
        top_k.select(kernels, &weights, enough.min(most_selected as usize), &mut expected);
        expected.iter_mut().for_each(|i| *i += 5);
        assert_eq!(selected[..count], expected, "{n} scores, at most {max_selected}, {top_p}");
    } else {
        assert_eq!(selected[..count], (5..5 + n as u32).collect::<Vec<_>>());
    }
    Ok(selected[..count].to_vec())
}

#[test]
fn the_cpus_choice_among_the_same_weights() -> Result<()> {
    let session = session();
    let device = crate::retrieval::open()?;
    let case = Case { group: 1, region: 3000, num_queries: 2, list_len: 4, cluster_size: 64, scores_all: true, ..Case::default() };
    let head = Head::new(case);
    let mut random = Random(51);
    let ask = Ask { head: Some(&head), query: query(&mut random, &case), max_selected: 0, top_p: 1.0 };
    let layer = Layer::new(&device, vec![ask], 1, &[0])?;
    for round in 0..60 {
        let n = random.one_of(&[1, 2, 31, 32, 33, 255, 256, 257, 511, 512, 513, 1500, 3000]);
        session.order(ORDERS[round % 3]);
        let scores: Vec<f32> = match round % 6 {
            // Many ties, all ties, a few above all others, far apart so that most are e^-87, real ones, alike but for the last bits.
            0 => random.integers(n, 3),
            1 => vec![2.5; n],
            2 => (0..n).map(|i| if i % 97 == 3 { 9.0 } else { 0.0 }).collect(),
            3 => random.integers(n, 400),
            4 => (0..n).map(|_| 4.0 * random.unit()).collect(),
            _ => (0..n).map(|_| 1.0 + random.below(5) as f32 * 2f32.powi(-22)).collect(),
        };
        let max_selected = random.one_of(&[0, 1, 2, n / 2, n - 1, n, n + 1, 31, 64]);
        let top_p = random.one_of(&[1.0, 1.0, 0.5, 0.9375, 0.999, 1e-6]);
        select(&layer, &scores, max_selected, top_p)?;
    }
    // Ties: the first ones.
    assert_eq!(select(&layer, &[1.0, 2.0, 1.0, 2.0, 1.0], 3, 1.0)?, [5, 6, 8]);
    // Half of the weight of four alike is two of them, and a little more is three.
    assert_eq!(select(&layer, &[0.5; 4], 0, 0.5)?, [5, 6]);
    assert_eq!(select(&layer, &[0.5; 4], 0, 0.5625)?, [5, 6, 7]);
    Ok(())
}
