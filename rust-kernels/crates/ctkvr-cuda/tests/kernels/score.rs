//! kernels/score.cu: exact scores of candidates.

use crate::retrieval::head::{Case, Head, Numbers, query};
use crate::retrieval::{Ask, Layer, oracle};
use ctkvr_cuda::Result;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_kernels::KvFormat;
use ctkvr_kernels::testing::Random;

/// Every head of the group, both formats, candidates around a chunk; listed and all of the region.
#[test]
fn scores_are_products_with_the_stored_keys() -> Result<()> {
    let session = session();
    let device = crate::retrieval::open()?;
    let mut random = Random(41);
    let regions = [2, 31, 255, 256, 257, 513];
    let mut i = 0;
    for format in [KvFormat::F16, KvFormat::Q8] {
        for (head_dim, group) in [(64, 1), (96, 2), (128, 3), (64, 4), (96, 7), (128, 8), (64, 16), (128, 12)] {
            for scores_all in [true, false] {
                i += 1;
                let region = regions[i % regions.len()];
                session.order(ORDERS[i % 3]);
                let case = Case {
                    seed: 120 + i as u64,
                    numbers: Numbers::Real,
                    format,
                    head_dim,
                    group,
                    region,
                    scores_all,
                    ..Case::default()
                };
                let head = Head::new(case);
                let ask = Ask { head: Some(&head), query: query(&mut random, &case), max_selected: 1, top_p: 1.0 };
                let layer = Layer::new(&device, vec![ask.clone()], 1, &[0])?;
                let answer = &layer.run()?[0];
                let score = layer.memory.score(&layer.search());
                let (actual, partials) = (layer.read(score.scores)?, layer.read(score.partials)?);
                let (expected, error) = oracle::scores(answer, &ask);
                for (h, expected) in expected.iter().enumerate() {
                    let actual = &actual[h * region..(h + 1) * region];
                    for (p, (a, e)) in actual.iter().zip(expected).enumerate() {
                        assert!((f64::from(*a) - e).abs() <= error, "{case:?} head {h} candidate {p}: {a} for {e}");
                    }
                    assert!(actual[expected.len()..].iter().all(|x| x.is_nan()), "{case:?}: only candidates are scored");
                    for (c, chunk) in actual[..expected.len()].chunks(256).enumerate() {
                        let (total, max) = (partials[c * group + h], chunk.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                        let sum: f64 = chunk.iter().map(|s| f64::from(s - max).max(-87.0).exp()).sum();
                        assert_eq!(total.max, max, "{case:?} head {h} chunk {c}");
                        // 4e-7 of each, and 256 additions in a tree of 5 + 8.
                        assert!(
                            (f64::from(total.sum) - sum).abs() <= 2e-6 * sum,
                            "{case:?} head {h} chunk {c}: {} for {sum}",
                            total.sum
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

/// Where everything is read nobody needs scores.
#[test]
fn nothing_is_scored_where_there_is_no_choice() -> Result<()> {
    let _session = session();
    let device = crate::retrieval::open()?;
    let head = Head::new(Case::default());
    let ask = Ask { head: Some(&head), query: query(&mut Random(1), &head.case), max_selected: 0, top_p: 1.0 };
    let layer = Layer::new(&device, vec![ask], 1, &[0])?;
    layer.run()?;
    let scores = layer.read(layer.memory.score(&layer.search()).scores)?;
    assert!(scores.iter().all(|x| x.is_nan()));
    Ok(())
}
