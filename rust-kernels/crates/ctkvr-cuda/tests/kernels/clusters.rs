//! kernels/clusters.cu: which clusters are read, and what stands for the others.

use crate::retrieval::head::{Case, Head, Numbers, query};
use crate::retrieval::{Ask, Layer, oracle};
use ctkvr_cuda::Result;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_kernels::testing::Random;

fn ask<'a>(head: &'a Head, random: &mut Random, max_selected: usize) -> Ask<'a> {
    Ask { head: Some(head), query: query(random, &head.case), max_selected, top_p: 1.0 }
}

/// Clusters around a warp's, a chunk's and a block's; none, some, more than there are to be read; positions that are all in lists.
#[test]
fn the_heaviest_clusters_and_the_mean_of_the_rest() -> Result<()> {
    let session = session();
    let device = crate::retrieval::open()?;
    let mut random = Random(31);
    let shapes =
        [(8, 8, 0), (8, 1, 1), (33, 1, 33), (255, 2, 9), (128, 1, 127), (129, 1, 1), (513, 1, 3), (1100, 2, 600), (700, 8, 16)];
    for (i, (region, cluster_size, cluster_probes)) in shapes.into_iter().enumerate() {
        let (head_dim, group) = [(64, 3), (96, 1), (128, 7), (64, 16)][i % 4];
        let growths: &[usize] = if i % 2 == 0 { &[17, 1, 40] } else { &[] };
        let numbers = if i % 3 == 0 { Numbers::Small } else { Numbers::Real };
        let case = Case {
            seed: 90 + i as u64,
            numbers,
            head_dim,
            group,
            region,
            growths,
            cluster_size,
            cluster_probes,
            ..Case::default()
        };
        let head = Head::new(case);
        session.order(ORDERS[i % 3]);
        for _ in 0..2 {
            let ask = ask(&head, &mut random, 10);
            let answer = &Layer::new(&device, vec![ask.clone()], 1, &[0])?.run()?[0];
            oracle::check_clusters(answer, &ask, &format!("{case:?}"));
        }
    }
    Ok(())
}

/// Everything is in a list: the clusters stand for nothing.
#[test]
fn nothing_is_left_where_lists_hold_everything() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let case = Case { list_len: 1000, cluster_probes: 2, ..Case::default() };
    let head = Head::new(case);
    let ask = ask(&head, &mut Random(4), 0);
    let answer = &Layer::new(&device, vec![ask.clone()], 1, &[0])?.run()?[0];
    assert_eq!(answer.tail_lse, vec![f32::NEG_INFINITY; case.group]);
    assert_eq!(answer.tail_value, vec![0.0; case.group * case.head_dim]);
    // Ties of shares of 0: the first ones.
    assert_eq!(answer.heaviest, [0, 1]);
    Ok(())
}

/// Of heads that score every key: what is not selected is told by its clusters.
#[test]
fn the_mean_of_what_was_scored_and_dropped() -> Result<()> {
    let session = session();
    let device = crate::retrieval::open()?;
    let mut random = Random(32);
    for (i, (region, cluster_size, max_selected)) in
        [(40, 1, 1), (300, 2, 299), (600, 8, 64), (1030, 4, 17)].into_iter().enumerate()
    {
        let (head_dim, group) = [(64, 3), (96, 1), (128, 7), (64, 16)][i];
        let growths: &[usize] = if i % 2 == 0 { &[33] } else { &[] };
        let case = Case {
            seed: 110 + i as u64,
            numbers: Numbers::Real,
            head_dim,
            group,
            region,
            growths,
            cluster_size,
            scores_all: true,
            ..Case::default()
        };
        let head = Head::new(case);
        session.order(ORDERS[i % 3]);
        let ask = ask(&head, &mut random, max_selected);
        let answer = &Layer::new(&device, vec![ask.clone()], 1, &[0])?.run()?[0];
        assert_eq!(answer.tail_kind, 2, "{case:?}");
        oracle::check_choice(answer, &ask, &format!("{case:?}"));
        oracle::check_scored_rest(answer, &ask, &format!("{case:?}"));
    }
    Ok(())
}
