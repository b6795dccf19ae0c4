//! What goes into an engine step and what comes out.

use ctkvr_core::{Phase, SelectionCounters, SequenceId, StageTimes};

/// Tokens to append to one sequence, and what is wanted for the last of them.
#[derive(Debug, Clone, Copy)]
pub struct StepEntry<'a> {
    pub sequence: SequenceId,
    /// At least one; exactly one for [`Phase::Decode`].
    pub tokens: &'a [i32],
    pub phase: Phase,
    pub output: StepOutput,
}

/// What to return for an entry's last token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutput {
    None,
    /// A token drawn by the sequence's sampler.
    Sample,
    /// f32 `[vocab_size]`.
    Logits,
    SampleAndLogits,
}

impl StepOutput {
    pub(crate) fn wants_sample(self) -> bool {
        matches!(self, Self::Sample | Self::SampleAndLogits)
    }

    pub(crate) fn wants_logits(self) -> bool {
        matches!(self, Self::Logits | Self::SampleAndLogits)
    }
}

/// What a step tells beside what its entries ask for. Nothing that it computes depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// The true attention mass of decodes: reads all their keys.
    pub audit: bool,
    /// Where the attention of decodes went: [`SequenceResult::read_map`].
    pub read_map: bool,
}

impl Measures {
    pub const NONE: Self = Self { audit: false, read_map: false };
}

/// One entry's part of a [`StepResult`].
#[derive(Debug, Clone, Default)]
pub struct SequenceResult {
    pub token_id: Option<i32>,
    /// Why no token was drawn although one was wanted: its grammar could not say what comes next. The other sequences have theirs.
    pub failure: Option<String>,
    pub logits: Option<Vec<f32>>,
    /// `None` for prefill.
    pub counters: Option<SelectionCounters>,
    /// f32, one for each passage of `PASSAGE` positions: the share of the attention that went to its keys, the mean over layers and query heads. The sum is
    /// 1 less what was estimated of keys that were not read. `None` for prefill, where it was not asked for, and of an executor without it.
    pub read_map: Option<Vec<f32>>,
}

/// Milliseconds, wall clock on the engine's first thread. Meanings: packages/core/src/statistics.ts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepTimings {
    pub total_ms: f64,
    pub linear_ms: f64,
    pub sampling_ms: f64,
    /// Growing the indexes of decoding sequences.
    pub index_ms: f64,
    /// Retrieval and attention.
    pub stages: StageTimes,
}

/// What a step did.
#[derive(Debug, Clone, Default)]
pub struct StepResult {
    /// One per entry, in order.
    pub sequences: Vec<SequenceResult>,
    pub timings: StepTimings,
}
