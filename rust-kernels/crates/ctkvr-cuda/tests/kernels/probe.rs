//! kernels/probe.cu: which centroids are probed.

use crate::retrieval::head::{Case, Head, Numbers, query};
use crate::retrieval::{Ask, Layer, oracle};
use ctkvr_core::index::probe::ProbeScratch;
use ctkvr_cuda::stand_in::session;
use ctkvr_cuda::{Device, Result};
use ctkvr_kernels::testing::Random;

/// Ids, similarities of the first, and what the kernel read.
fn probes(device: &Device, head: &Head, query: &[f32]) -> Result<(Vec<u32>, Vec<f32>, u64, u32)> {
    let ask = Ask { head: Some(head), query: query.to_vec(), max_selected: 0, top_p: 1.0 };
    let layer = Layer::new(device, vec![ask], 1, &[0])?;
    layer.poison()?;
    let search = layer.search();
    let probe = layer.memory.probe(&search);
    probe.launch(device, device.compute())?;
    let state = layer.read(search.searches)?[0];
    let mut ids = layer.read(probe.probes)?;
    assert!(ids[state.num_probed as usize..].iter().all(|id| *id == u32::MAX), "what is not found is not written");
    ids.truncate(state.num_probed as usize);
    Ok((ids, layer.read(probe.similarities)?, state.index_bytes, state.is_outlier))
}

/// Centroids around a block's threads and a warp's, lists of several centroids, segments that a growth added.
#[test]
fn the_same_centroids_as_on_the_cpu_in_the_same_order() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let mut random = Random(11);
    for (i, (num_queries, per_list, num_probes)) in
        [(1, 1, 1), (1, 3, 5), (31, 1, 4), (33, 4, 2), (255, 2, 6), (257, 1, 3), (300, 7, 300)].into_iter().enumerate()
    {
        for numbers in [Numbers::Small, Numbers::Real] {
            let (head_dim, group) = [(64, 3), (96, 1), (128, 7), (64, 16)][i % 4];
            let growths: &[usize] = if i % 2 == 0 { &[] } else { &[41, 90] };
            let case = Case {
                seed: 60 + i as u64,
                numbers,
                head_dim,
                group,
                growths,
                num_queries,
                per_list,
                num_probes,
                ..Case::default()
            };
            let head = Head::new(case);
            for _ in 0..3 {
                let query = query(&mut random, &case);
                let (ids, _, bytes, is_outlier) = probes(&device, &head, &query)?;
                let mut expected = Vec::new();
                let index = &head.state.index;
                let read = index.probe(head.kernels, &query, num_probes, &mut ProbeScratch::default(), &mut expected);
                // The kernel adds in the plain kernels' order: the same even where numbers are real.
                assert_eq!(ids, expected.iter().map(|(_, id)| *id).collect::<Vec<_>>(), "{case:?}");
                assert_eq!(bytes, read as u64, "{case:?}");
                assert_eq!(is_outlier != 0, expected[0].0 < index.figures().similarity_floor, "{case:?}");
            }
        }
    }
    Ok(())
}

/// All queries alike: every similarity ties, and the smaller id goes first.
#[test]
fn ties_go_to_the_smaller_id() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let case = Case { num_queries: 70, per_list: 3, num_probes: 5, ..Case::default() };
    let head = Head::of_one_query(case);
    let (ids, ..) = probes(&device, &head, &query(&mut Random(1), &case))?;
    assert_eq!(ids, [0, 3, 6, 9, 12]);
    Ok(())
}

#[test]
fn a_query_of_nothing_is_like_nothing() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let case = Case { num_queries: 40, ..Case::default() };
    let head = Head::new(case);
    let zeros = vec![0.0; case.group * case.head_dim];
    let (ids, ..) = probes(&device, &head, &zeros)?;
    assert_eq!(ids, [0, 1, 2, 3]);
    Ok(())
}

/// Against the definition as well, in f64.
#[test]
fn the_best_by_definition() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let mut random = Random(12);
    let case = Case { seed: 70, numbers: Numbers::Real, head_dim: 96, group: 7, num_queries: 120, per_list: 2, ..Case::default() };
    let head = Head::new(case);
    let ask = Ask { head: Some(&head), query: query(&mut random, &case), max_selected: 8, top_p: 1.0 };
    let layer = Layer::new(&device, vec![ask.clone()], 1, &[0])?;
    oracle::check_probes(&layer.run()?[0], &ask, "by definition");
    Ok(())
}
