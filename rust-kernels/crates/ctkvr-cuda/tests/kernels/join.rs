//! kernels/join.cu: the union of lists, and its ascending list.

use std::collections::BTreeSet;

use crate::retrieval::head::{Case, Head, query};
use crate::retrieval::{Ask, Layer, oracle};
use ctkvr_cuda::Result;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_kernels::testing::Random;

struct Joined {
    probes: Vec<u32>,
    marks: Vec<u32>,
    left: Vec<u32>,
    candidates: Vec<u32>,
    num_candidates: u32,
}

fn join(layer: &Layer) -> Result<Joined> {
    layer.poison()?;
    let (device, search) = (layer.device, layer.search());
    let (probe, join) = (layer.memory.probe(&search), layer.memory.join(&search));
    probe.launch(device, device.compute())?;
    join.launch_lists(device, device.compute())?;
    let marks = layer.read(join.marks)?;
    join.launch_marked(device, device.compute())?;
    let state = layer.read(search.searches)?[0];
    let mut probes = layer.read(join.probes)?;
    probes.truncate(state.num_probed as usize);
    Ok(Joined {
        probes,
        marks,
        left: layer.read(join.left)?,
        candidates: layer.read(join.candidates)?,
        num_candidates: state.num_candidates,
    })
}

/// Regions around a word, a warp's words, a page; lists that are empty of gaps over a byte and full of them; one list and more than a warp each.
#[test]
fn the_union_of_the_probed_lists_ascends() -> Result<()> {
    let session = session();
    let device = crate::retrieval::open()?;
    let mut random = Random(21);
    for (i, (region, list_len, num_probes)) in
        [(1, 1, 1), (31, 40, 2), (32, 5, 3), (33, 33, 4), (255, 90, 1), (257, 257, 2), (513, 7, 20), (1025, 600, 4), (2300, 2, 6)]
            .into_iter()
            .enumerate()
    {
        session.order(ORDERS[i % 3]);
        let growths: &[usize] = if i % 2 == 0 { &[31, 64] } else { &[] };
        let case = Case { seed: 80 + i as u64, region, list_len, num_probes, growths, num_queries: 50, ..Case::default() };
        let head = Head::new(case);
        for _ in 0..3 {
            let ask = Ask { head: Some(&head), query: query(&mut random, &case), max_selected: 9, top_p: 1.0 };
            let layer = Layer::new(&device, vec![ask], 1, &[0])?;
            let joined = join(&layer)?;
            let index = &head.state.index;
            let expected = expected(&head, &joined.probes);
            assert_eq!(joined.num_candidates as usize, expected.len(), "{case:?}");
            assert_eq!(joined.candidates[..expected.len()], expected.iter().copied().collect::<Vec<_>>(), "{case:?}");
            assert!(joined.candidates[expected.len()..].iter().all(|p| *p == u32::MAX), "{case:?}: nothing behind the list");
            for p in 0..(index.end() - index.start()) as u32 {
                let is_marked = joined.marks[p as usize / 32] >> (p % 32) & 1 != 0;
                assert_eq!(is_marked, expected.contains(&(index.start() as u32 + p)), "{case:?} position {p}");
            }
            // What is left of each cluster.
            let clusters = oracle::clusters(&layer.asks[0], &head);
            for (c, cluster) in clusters.iter().enumerate() {
                let left = cluster.members.iter().filter(|p| !expected.contains(p)).count();
                assert_eq!(joined.left[c] as usize, left, "{case:?} cluster {c}");
            }
        }
    }
    Ok(())
}

fn expected(head: &Head, probes: &[u32]) -> BTreeSet<u32> {
    let index = &head.state.index;
    let mut all: BTreeSet<u32> = probes.iter().flat_map(|&c| index.list(c as usize)).collect();
    let mut first = probes[0] as usize;
    for segment in index.active() {
        if first < segment.num_centroids() {
            all.extend(segment.end as u32..index.end() as u32);
            return all;
        }
        first -= segment.num_centroids();
    }
    unreachable!("a centroid of no segment")
}
