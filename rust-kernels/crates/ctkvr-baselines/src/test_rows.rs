//! Small stores for the unit tests of this crate.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use ctkvr_core::BuildOptions;
use ctkvr_core::retriever::{BuildInput, HeadQuery, HeadRetriever, Proposal, Scratch};
use ctkvr_kernels::testing::TestPages;
pub(crate) use ctkvr_kernels::testing::{Random, dot, tables};
use ctkvr_kernels::{Kernels, KvFormat};

static GO: AtomicBool = AtomicBool::new(false);

/// Keys and values f32 `[n, d]` as a store.
pub(crate) fn store(keys: &[f32], values: &[f32], d: usize) -> TestPages {
    TestPages::new(keys, values, d, KvFormat::F16)
}

/// What a method is built from, of the first `n` rows of a store.
pub(crate) fn input<'a>(
    kernels: &'a Kernels,
    (kv, n): (&'a TestPages, usize),
    region: Range<usize>,
    (queries, group): (&'a [f32], usize),
) -> BuildInput<'a> {
    BuildInput {
        kernels,
        layer: 5,
        keys: kv.keys(0, n),
        values: kv.values(0, n),
        region,
        queries,
        group,
        grown_at: n,
        options: BuildOptions::default(),
        cancel: &GO,
    }
}

/// Searches a head with scratch of its own, which it gives back.
pub(crate) fn search(head: &dyn HeadRetriever, query: &HeadQuery) -> (Proposal, Scratch) {
    let (mut out, mut scratch) = (Proposal::default(), Scratch::default());
    head.search(query, &mut scratch, &mut out);
    (out, scratch)
}
