//! A retrieval method of one's own, in one file: a step reads the keys of largest norm, chosen once when the text was read. Run on a seeded
//! head and compared with dense attention:
//!
//! ```text
//! cargo run --release -p ctkvr-core --example own_retriever
//! ```
//!
//! `tests/conformance.rs` of ctkvr-baselines puts it through the suite that every method passes. To have it in the engine, give a sequence
//! `SelectorOptions { method: Arc::new(LargestKeys { .. }), .. }`.
#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_core::kv::panels::widen_rows;
use ctkvr_core::plain_head::{PlainBuild, PlainHead, PlainRows};
use ctkvr_core::retriever::{
    BuildInput, Candidates, HeadQuery, HeadRetriever, HeadSize, Proposal, Retriever, Scratch, same_options,
};
use ctkvr_core::{BuildOptions, HeadAttention, Result, StepOptions};

/// The method, with its own option.
#[derive(Debug, Clone, PartialEq)]
pub struct LargestKeys {
    /// Positions that are kept of a head; 0 = all.
    pub keep: usize,
}

/// What it keeps of one (layer, KV head): the positions, ascending.
struct Kept(Vec<u32>);

impl Retriever for LargestKeys {
    fn name(&self) -> &'static str {
        "largestKeys"
    }

    fn build(&self, input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        let keys = input.region_keys();
        let mut rows = vec![0.0; keys.len() * keys.head_dim()];
        widen_rows(input.kernels, &keys, 0, keys.len(), &mut rows);
        let squares: Vec<f32> = rows.chunks_exact(keys.head_dim()).map(|key| key.iter().map(|x| x * x).sum()).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]).then(a.cmp(&b)));
        order.truncate(if self.keep == 0 { order.len() } else { self.keep });
        order.sort_unstable();
        Ok(Arc::new(Kept(order.into_iter().map(|i| (input.region.start + i) as u32).collect())))
    }

    fn same_build(&self, other: &dyn Retriever) -> bool {
        same_options(self, other)
    }

    fn bytes_needed(&self, size: &HeadSize) -> usize {
        size.num_keys * size_of::<u32>()
    }

    /// Built anew: the choice depends on the keys alone.
    fn decode(&self, _bytes: &[u8], input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        self.build(input)
    }
}

impl HeadRetriever for Kept {
    fn search(&self, _query: &HeadQuery, _scratch: &mut Scratch, out: &mut Proposal) {
        out.candidates = Candidates::Listed;
        out.positions.extend_from_slice(&self.0);
        out.bytes_read = self.bytes();
    }

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn bytes(&self) -> usize {
        self.0.len() * size_of::<u32>()
    }
}

const HEAD_DIM: usize = 64;
const GROUP: usize = 4;
const NUM_TOKENS: usize = 4096;

/// n values of -1 to 1 (SplitMix64).
fn random(seed: u64, n: usize) -> Vec<f32> {
    let value = |i: u64| {
        let mut z = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n as u64).map(value).collect()
}

/// Attention of one query over a seeded head, dense and by the method.
pub fn dense_and_retrieved(method: &LargestKeys) -> Result<(HeadAttention, HeadAttention)> {
    let (keys, values) = (random(1, NUM_TOKENS * HEAD_DIM), random(2, NUM_TOKENS * HEAD_DIM));
    let head = PlainHead::new(&PlainRows { keys: &keys, values: &values, head_dim: HEAD_DIM, group: GROUP, isa: "" })?;
    let step = StepOptions { max_selected: 0, ..StepOptions::default() };
    let build = PlainBuild {
        step,
        options: BuildOptions::default(),
        layer: 0,
        num_tokens: NUM_TOKENS,
        queries: &[],
        cancel: &AtomicBool::new(false),
    };
    let state = head.build(method, &build)?;
    let query = random(3, GROUP * HEAD_DIM);
    let dense = head.attend(&query, NUM_TOKENS, &step, None)?;
    let retrieved = head.attend(&query, NUM_TOKENS, &step, Some((method, &state)))?;
    Ok((dense, retrieved))
}

/// Share of the true attention weight that was read, of the first query head.
pub fn mass(dense: &HeadAttention, retrieved: &HeadAttention) -> f32 {
    (retrieved.lse[0] - dense.lse[0]).exp()
}

fn main() -> Result<()> {
    println!("{:>6} {:>12} {:>8}", "keep", "keys read", "mass");
    for keep in [64, 512, 2048, 0] {
        let (dense, retrieved) = dense_and_retrieved(&LargestKeys { keep })?;
        println!("{keep:>6} {:>12} {:>8.4}", retrieved.counters.keys_read, mass(&dense, &retrieved));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_keys_hold_more_of_the_attention_and_all_of_them_all() -> Result<()> {
        let mut before = 0.0;
        for keep in [64, 512, 2048] {
            let (dense, retrieved) = dense_and_retrieved(&LargestKeys { keep })?;
            let step = StepOptions::default();
            let always = step.num_sink_tokens + step.recent_window;
            assert_eq!(retrieved.counters.keys_read, (always + keep) as u64);
            let mass = mass(&dense, &retrieved);
            assert!(mass > before && mass < 1.0, "{keep}: {mass} after {before}");
            before = mass;
        }
        let (dense, all) = dense_and_retrieved(&LargestKeys { keep: 0 })?;
        assert_eq!(all.counters.keys_read, NUM_TOKENS as u64);
        for (a, b) in all.output.iter().zip(&dense.output) {
            // The same sums in another order: 4096 values of at most 1, 13 roundings deep in splits and lanes.
            assert!((a - b).abs() < 1e-5, "{a} for {b}");
        }
        Ok(())
    }
}
