//! The pages of all sequences in one pool: counted once, within a budget; a refused step leaves everything as it was.

use crate::common::{CpuAttention, Text, options, step};
use ctkvr_core::kv::pool::PoolUsage;
use ctkvr_core::{AttentionShape, Error, Phase};
use ctkvr_kernels::{KvFormat, PAGE_SIZE};

const SHAPE: AttentionShape = AttentionShape { num_layers: 2, num_q_heads: 4, num_kv_heads: 2, head_dim: 64, local: None };

#[test]
fn steps_keep_to_the_budget_and_forks_count_once() {
    let (a, b) = (Text::new(SHAPE, 1, 900), Text::new(SHAPE, 2, 900));
    let page = SHAPE.page_shape().page_bytes(KvFormat::F16);
    let attention = CpuAttention::new(SHAPE, 2).expect("kernels fit");
    attention.set_kv_budget(Some(4 * page));
    let usage = |pages, shared_pages| PoolUsage { pages, bytes: pages * page, shared_pages, budget_bytes: Some(4 * page) };
    let create = || attention.create_sequence(900, KvFormat::F16, options("full").into()).expect("created");
    let (first, other) = (create(), create());
    let n = PAGE_SIZE + 10;
    step(&attention, 2, &[(first, &a, 0..n, Phase::Prefill), (other, &b, 0..5, Phase::Prefill)], false).expect("3 pages");
    assert_eq!(attention.pool_usage(), usage(3, 0));
    let fork = attention.fork_sequence(first).expect("forked");
    assert_eq!(attention.pool_usage(), usage(3, 2), "a fork's pages count once");
    assert_eq!(attention.memory(fork).expect("open").kv_bytes, 2 * page, "a sequence counts all that it reads");

    // The fork's copy is the fourth page; the other's next pages are too many, and the whole step is refused.
    let rows = [(fork, &a, n..n + 1, Phase::Decode), (other, &b, 5..2 * PAGE_SIZE, Phase::Prefill)];
    let error = step(&attention, 2, &rows, false).expect_err("too many pages");
    assert_eq!(error, Error::OutOfMemory { what: "the KV store", needed: page as u64, available: 0 });
    assert_eq!([first, other, fork].map(|id| attention.len(id).expect("open")), [n, 5, n]);

    // What fits goes on as if nothing had been refused.
    let alone = step(&attention, 2, &[(first, &a, n..n + 1, Phase::Decode)], false).expect("its own page, or a copy");
    let forked = step(&attention, 2, &[(fork, &a, n..n + 1, Phase::Decode)], false).expect("its own page, or a copy");
    assert_eq!(alone.0, forked.0, "the same tokens, the same bits");
    assert_eq!(attention.pool_usage(), usage(4, 1));
    attention.truncate(first, PAGE_SIZE).expect("open");
    assert_eq!(attention.pool_usage(), usage(3, 1));
    step(&attention, 2, &[(other, &b, 5..PAGE_SIZE + 1, Phase::Prefill)], false).expect("the freed page");
    [first, other, fork].iter().for_each(|id| attention.close_sequence(*id));
    assert_eq!(attention.pool_usage(), usage(0, 0));
}
