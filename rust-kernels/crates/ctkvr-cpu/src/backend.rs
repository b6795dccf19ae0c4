//! The seam between a model's step and whatever stores keys and attends to them: a layer's attention is some phases of the job that a step
//! is for its team of threads ([`LayerAttention`]); the engine brackets each step with `begin_step` and `end_step`. A device engine
//! implements the same two traits.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ctkvr_core::{AttentionShape, BuildReport, Result, SelectorOptions, SequenceId, SequenceMemory, SequenceRows, StepReport};
use ctkvr_kernels::KvFormat;

use crate::team::Units;

/// One layer's tensors for all rows of a step. Contiguous f32, row-major; rows are tokens.
#[derive(Clone, Copy)]
pub struct LayerIo<'a> {
    /// `[num_rows, num_q_heads, head_dim]`.
    pub queries: *const f32,
    /// `[num_rows, num_kv_heads, head_dim]`.
    pub keys: *const f32,
    /// `[num_rows, num_kv_heads, head_dim]`.
    pub values: *const f32,
    /// `[num_rows, num_q_heads, head_dim]`, written.
    pub out: *mut f32,
    pub num_rows: usize,
    /// Finishes queries and key of a row (the first number) and KV head, in place: norms, rotary embedding. To be called once for each,
    /// before they are read.
    pub prepare: &'a (dyn Fn(usize, usize) + Sync),
}

/// Phases of a layer's attention.
pub const ATTENTION_PHASES: usize = 2;

/// Attention of one layer, as phases of the job that a step is for a [`crate::Team`]: appends this layer's keys and values and writes
/// attention output for every row.
pub trait LayerAttention: Send + Sync {
    /// Begins phase `phase` of [`ATTENTION_PHASES`]; they follow each other. Of a layer without work in that phase: [`Units::NONE`].
    ///
    /// # Safety
    /// As [`crate::Job::open`]; `io` points to live buffers of the sizes above until the last phase ends; a step is open (`begin_step`) whose
    /// rows are `io.num_rows`.
    unsafe fn open(&self, layer: usize, phase: usize, io: &LayerIo) -> Units;

    /// Does some units of the open phase, and returns how many.
    ///
    /// # Safety
    /// As [`crate::Job::work`], with the `layer`, `phase` and `io` of the last `open`; `thread` is below the number that the backend was made
    /// for.
    unsafe fn work(&self, layer: usize, phase: usize, io: &LayerIo, units: Range<usize>, thread: usize) -> usize;
}

/// Everything an engine asks of the side that owns KV and indexes. Methods take `&self`: the team's threads hold it too; only
/// one step or build runs at a time, and the engine does not call the others meanwhile.
pub trait AttentionBackend: LayerAttention {
    fn shape(&self) -> AttentionShape;
    /// Threads it was made for.
    fn max_threads(&self) -> usize;
    /// An empty sequence that may grow to `max_tokens`; pages are allocated as it grows.
    fn create_sequence(&self, max_tokens: usize, format: KvFormat, selector: SelectorOptions) -> Result<SequenceId>;
    /// Same tokens and format, pages shared (copied when one side writes), same recent queries and index.
    fn fork_sequence(&self, sequence: SequenceId) -> Result<SequenceId>;
    fn close_sequence(&self, sequence: SequenceId);
    fn len(&self, sequence: SequenceId) -> Result<usize>;
    /// Drops positions `>= len`; the index goes back to what it was then.
    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<()>;
    /// An index built with other settings is dropped.
    fn set_selector(&self, sequence: SequenceId, selector: SelectorOptions) -> Result<()>;
    /// `[first, end)` covered by the index; `(0, 0)` when there is none.
    fn indexed_range(&self, sequence: SequenceId) -> Result<(usize, usize)>;
    /// Queries held that a build would make centroids of.
    fn num_recent_queries(&self, sequence: SequenceId) -> Result<usize>;
    fn memory(&self, sequence: SequenceId) -> Result<SequenceMemory>;
    /// Builds the index, or brings it up to date with the tokens since (their queries become centroids), with `num_threads` threads; stops with [`ctkvr_core::Error::Cancelled`], leaving the old index, when `cancel` is set.
    fn build_index(&self, sequence: SequenceId, num_threads: usize, cancel: &AtomicBool) -> Result<BuildReport> {
        self.build_index_part(sequence, Duration::MAX, num_threads, cancel)
    }
    /// As `build_index`, but begins no further head once `most` has passed, so that others' steps can run in between; at least
    /// one is built. The next call goes on, unless the sequence has changed meanwhile: then it begins anew.
    fn build_index_part(
        &self,
        sequence: SequenceId,
        most: Duration,
        num_threads: usize,
        cancel: &AtomicBool,
    ) -> Result<BuildReport>;
    /// Grows the index where it is due: while tokens are generated, so that what they left behind is found like the prompt. Costs a few
    /// percent of a step, mostly nothing. Stops with [`ctkvr_core::Error::Cancelled`], leaving the index as it was.
    fn grow_index(&self, sequence: SequenceId, num_threads: usize, cancel: &AtomicBool) -> Result<()>;
    /// Opens a step: checks sizes and allocates the pages it will fill, so that nothing in `run` can fail.
    /// With `audit`, decode rows also measure the true attention mass.
    fn begin_step(&self, rows: &[SequenceRows], audit: bool) -> Result<()>;
    /// Closes the step: the rows are now part of their sequences.
    fn end_step(&self) -> StepReport;
    /// Closes a step whose graph did not finish: sequences are as before `begin_step`.
    fn abort_step(&self);
}
