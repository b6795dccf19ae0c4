//! A decode step of one KV head on one thread.

use ctkvr_kernels::Kernels;

use crate::attention::attend::AttendScratch;
use crate::attention::counters::SelectionCounters;
use crate::attention::decode::HeadDecode;
use crate::kv::head_kv::HeadKv;
use crate::part::Part;
use crate::retriever::{HeadQuery, HeadRetriever, Proposal, Scratch};
use crate::search::HeadStep;

/// What a whole decode attention gives.
pub struct HeadAttention {
    /// f32 `[group, head_dim]`.
    pub output: Vec<f32>,
    /// log-sum-exp of everything that went into the output `[group]`.
    pub lse: Vec<f32>,
    /// Estimated share of the attention that was read `[group]`.
    pub mass: Vec<f32>,
    pub counters: SelectionCounters,
}

/// A step up to the selection. `head`: the one that `search` asks.
pub fn select_alone(
    kernels: &Kernels,
    kv: &HeadKv,
    step: &HeadStep,
    head: Option<&dyn HeadRetriever>,
    search: impl FnOnce(HeadQuery<'_>, &mut Scratch, &mut Proposal),
) -> HeadDecode {
    let mut decode = HeadDecode::default();
    decode.search(kernels, step, search);
    choose_alone(kernels, kv, &mut decode, head);
    decode
}

/// The stages between a search and attention. `head`: the one that was asked.
pub fn choose_alone(kernels: &Kernels, kv: &HeadKv, decode: &mut HeadDecode, head: Option<&dyn HeadRetriever>) {
    // SAFETY: the only part, on one thread.
    unsafe {
        decode.score(kernels, kv, Part::WHOLE);
        decode.weigh(kernels, Part::WHOLE);
    }
    decode.select(kernels, head);
    // SAFETY: as above.
    unsafe { decode.average_unselected(kernels, head) };
}

/// The rest of a step after its selection: the output f32 `[group, head_dim]`. Adds to the counters; see [`HeadDecode::finish`].
pub fn finish_alone(
    kernels: &Kernels,
    kv: &HeadKv,
    decode: &mut HeadDecode,
    counters: &mut SelectionCounters,
    audit: bool,
) -> Vec<f32> {
    let (group, row_len) = (decode.searched().group, decode.searched().query.len());
    let mut scratch = AttendScratch::new(group);
    // SAFETY: the only part, on one thread.
    unsafe { decode.attend(kernels, kv, Part::WHOLE, &mut scratch) };
    let mut output = vec![0.0; row_len];
    decode.finish(kernels, kv, &mut output, counters, audit.then_some(&mut scratch.scores[..]));
    output
}

/// [`finish_alone`], and what is known of it.
pub fn attend_alone(kernels: &Kernels, kv: &HeadKv, mut decode: HeadDecode) -> HeadAttention {
    let mut counters = SelectionCounters::default();
    let output = finish_alone(kernels, kv, &mut decode, &mut counters, false);
    let group = decode.searched().group;
    let lse = (0..group).map(|h| decode.lse(h)).collect();
    HeadAttention { output, lse, mass: decode.masses().to_vec(), counters }
}
