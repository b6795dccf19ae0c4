//! What callers use: sequences, steps over several of them, builds.
//!
//! One step, index build or change of a sequence runs at a time; a second one is refused with `Busy`, never queued. Reading a
//! sequence's state, creating and closing sequences work at any time.

mod saved_sampler;
mod snapshots;

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use ctkvr_core::kv::pool::{KvPool, PoolUsage};
use ctkvr_core::sequence::lifecycle;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{BuildReport, Phase, SelectorOptions, SequenceId, SequenceMemory};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{AnswerRules, Model, Sampler, SamplerOptions};

use crate::batch::BatchOutput;
use crate::executor::{Capabilities, Executor};
use crate::sequence_table::{Entry, Loan, NewSequence, Place, SequenceTable, lock};
use crate::step::{Measures, StepEntry, StepResult};
use crate::step_run::StepRun;
use crate::{Error, Result};

pub use snapshots::RestoredSequence;

/// Positions are i32 in a batch.
const MAX_SEQUENCE_TOKENS: usize = i32::MAX as usize / 2;
/// Tokens of prefill that go through the layers at once, unless the caller says otherwise.
pub const DEFAULT_PREFILL_CHUNK: usize = 512;

/// How an engine runs.
#[derive(Clone, Copy, Default)]
pub struct EngineOptions {
    /// Rows that go through the layers at once; 0 = 512.
    pub prefill_chunk: usize,
}

/// Sequences of a model, and an executor that computes them.
pub struct Engine {
    /// What only the running operation touches.
    run: Mutex<Run>,
    table: Mutex<SequenceTable>,
    model: Arc<Model>,
    capabilities: Capabilities,
    pool: Arc<dyn KvPool>,
    prefill_chunk: usize,
    /// See [`Executor::arithmetic`].
    arithmetic: String,
}

struct Run {
    executor: Box<dyn Executor>,
    output: BatchOutput,
}

impl Engine {
    /// An engine without sequences.
    ///
    /// # Errors
    /// `InvalidOption` when the executor was made for another model, or takes fewer rows.
    pub fn new(model: Arc<Model>, executor: Box<dyn Executor>, options: EngineOptions) -> Result<Self> {
        let prefill_chunk = if options.prefill_chunk == 0 { DEFAULT_PREFILL_CHUNK } else { options.prefill_chunk };
        let capabilities = executor.capabilities();
        capabilities.check(&model, prefill_chunk)?;
        let (pool, arithmetic) = (executor.kv_pool(), executor.arithmetic());
        let run = Mutex::new(Run { executor, output: BatchOutput::default() });
        Ok(Self { run, table: Mutex::default(), model, capabilities, pool, prefill_chunk, arithmetic })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub fn prefill_chunk(&self) -> usize {
        self.prefill_chunk
    }

    /// An empty sequence that may grow to `max_tokens`, with a greedy sampler.
    ///
    /// # Errors
    /// `InvalidOption`.
    pub fn create_sequence(&self, max_tokens: usize, kv_format: KvFormat, selector: SelectorOptions) -> Result<SequenceId> {
        selector.check()?;
        kv_format.check(self.model.spec().head_dim)?;
        if !(1..=MAX_SEQUENCE_TOKENS).contains(&max_tokens) {
            return Err(Error::InvalidOption {
                option: "maxTokens".into(),
                expected: format!("from 1 to {MAX_SEQUENCE_TOKENS}"),
                actual: max_tokens.to_string(),
            });
        }
        let sampler = Sampler::new(SamplerOptions::greedy())?;
        let new = NewSequence { shape: self.capabilities.shape, pool: Arc::clone(&self.pool), max_tokens, kv_format, selector };
        Ok(lock(&self.table).add(Entry { max_tokens, tokens: Vec::new(), sampler, place: Place::New(new) }))
    }

    /// A second sequence with the same tokens, keys, values, index and sampler state.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`.
    pub fn fork_sequence(&self, sequence: SequenceId) -> Result<SequenceId> {
        let _run = self.lock_run("fork")?;
        let mut table = lock(&self.table);
        let fork = table.get(sequence)?.fork().ok_or(Error::Busy { operation: "fork" })?;
        Ok(table.add(fork))
    }

    /// Releases a sequence; one that takes part in a step, after that step. Idempotent.
    pub fn close_sequence(&self, sequence: SequenceId) {
        let closed = lock(&self.table).close(sequence);
        // Freed when the table is free again.
        drop(closed);
    }

    /// Tokens whose keys and values are stored.
    pub fn len(&self, sequence: SequenceId) -> Result<usize> {
        Ok(lock(&self.table).get(sequence)?.tokens.len())
    }

    /// The most tokens the sequence may hold.
    pub fn max_tokens(&self, sequence: SequenceId) -> Result<usize> {
        Ok(lock(&self.table).get(sequence)?.max_tokens)
    }

    /// Bytes held, as of the end of the last operation on the sequence.
    pub fn memory(&self, sequence: SequenceId) -> Result<SequenceMemory> {
        Ok(lock(&self.table).get(sequence)?.figures().memory)
    }

    /// What keys and values of all sequences take now, shared pages counted once.
    pub fn kv_usage(&self) -> PoolUsage {
        self.pool.usage()
    }

    /// `[first, end)` covered by the index; `(0, 0)` when there is none. As of the end of the last operation.
    pub fn indexed_range(&self, sequence: SequenceId) -> Result<(usize, usize)> {
        Ok(lock(&self.table).get(sequence)?.figures().indexed_range)
    }

    /// Queries held that a build would make centroids of. As of the end of the last operation.
    pub fn num_recent_queries(&self, sequence: SequenceId) -> Result<usize> {
        Ok(lock(&self.table).get(sequence)?.figures().num_recent_queries)
    }

    /// Drops positions `>= len`, as if they had never been appended.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`, `InvalidOption` when the sequence is shorter.
    pub fn truncate(&self, sequence: SequenceId, len: usize) -> Result<()> {
        let _run = self.lock_run("truncate")?;
        let mut table = lock(&self.table);
        let entry = table.get_mut(sequence)?;
        if len > entry.tokens.len() {
            return Err(Error::InvalidOption {
                option: "length".into(),
                expected: format!("at most the sequence's {} tokens", entry.tokens.len()),
                actual: len.to_string(),
            });
        }
        entry.tokens.truncate(len);
        if let Place::Here(sequence) = &mut entry.place {
            sequence.truncate(len);
        }
        Ok(())
    }

    /// Changes how the sequence chooses keys. An index built with other settings is dropped.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`, `InvalidOption`.
    pub fn set_selector(&self, sequence: SequenceId, selector: SelectorOptions) -> Result<()> {
        selector.check()?;
        let _run = self.lock_run("setSelector")?;
        match &mut lock(&self.table).get_mut(sequence)?.place {
            Place::New(new) => new.selector = selector,
            Place::Here(sequence) => sequence.set_selector(selector),
            Place::Lent(_) => return Err(Error::Busy { operation: "setSelector" }),
        }
        Ok(())
    }

    /// Replaces the sequence's sampler; its random state starts from the seed.
    ///
    /// # Errors
    /// `UnknownSequence`, `InvalidOption`.
    pub fn set_sampler(&self, sequence: SequenceId, options: SamplerOptions) -> Result<()> {
        self.set_bound_sampler(sequence, options, AnswerRules::default())
    }

    /// As `set_sampler`, with what the answer is bound to, which snapshots do not hold.
    ///
    /// # Errors
    /// `UnknownSequence`, `InvalidOption`.
    pub fn set_bound_sampler(&self, sequence: SequenceId, options: SamplerOptions, rules: AnswerRules) -> Result<()> {
        rules.biases.iter().try_for_each(|bias| self.model.tokenizer().check_token(bias.token))?;
        let sampler = Sampler::new(options)?.with_rules(rules)?;
        lock(&self.table).get_mut(sequence)?.sampler = sampler;
        Ok(())
    }

    /// Reads what is stored of a sequence: for study, and for golden data.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`, `InvalidOption`.
    pub fn with_sequence<T>(&self, sequence: SequenceId, read: impl FnOnce(&Sequence) -> T) -> Result<T> {
        let _run = self.lock_run("read")?;
        let loan = Loan::take(&self.table, [sequence].into_iter())?;
        Ok(read(&loan.sequences[0].sequence))
    }

    /// Builds the sequence's index over what is stored, or brings it up to date with the tokens since; once `most` has passed, what is left
    /// waits for the next call, so that others' steps can run in between.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`, `Cancelled` (the old index stays).
    pub fn build_index(&self, sequence: SequenceId, most: Duration, cancel: &AtomicBool) -> Result<BuildReport> {
        let run = self.lock_run("buildIndex")?;
        let started = Instant::now();
        if let Place::New(_) = lock(&self.table).get(sequence)?.place {
            return Ok(BuildReport::default());
        }
        let mut loan = Loan::take(&self.table, [sequence].into_iter())?;
        let sequence = &mut *loan.sequences[0].sequence;
        let heads_left = lifecycle::build(&*run.executor, sequence, started.checked_add(most), cancel)?;
        Ok(BuildReport {
            heads_left,
            index_bytes: sequence.memory().index_bytes,
            indexed_tokens: sequence.index.as_ref().map_or(0, |index| index.end() - index.start),
            build_ms: started.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// Appends every entry's tokens and returns what was asked for the last of each. Setting `cancel` stops between layers. Whatever fails, all sequences are as before the step.
    ///
    /// # Errors
    /// `Busy`; `InvalidOption` (no tokens, a token outside the vocabulary, a sequence named twice, a decode of several tokens);
    /// `UnknownSequence`; `ContextExceeded` before any work; `OutOfMemory`; `Cancelled`; `Internal`.
    pub fn step(&self, entries: &[StepEntry], measures: Measures, cancel: &AtomicBool) -> Result<StepResult> {
        let started = Instant::now();
        let mut run = self.lock_run("step")?;
        self.check(entries)?;
        let loan = Loan::take(&self.table, entries.iter().map(|entry| entry.sequence))?;
        let Run { executor, output } = &mut *run;
        let step = StepRun { entries, measures, cancel, executor: &mut **executor, output, table: &self.table, loan };
        step.run(self.prefill_chunk, started)
    }

    /// Checks a plan.
    fn check(&self, entries: &[StepEntry]) -> Result<()> {
        let invalid = |option: &str, expected: &str, actual: String| {
            Err(Error::InvalidOption { option: option.into(), expected: expected.into(), actual })
        };
        if entries.is_empty() {
            return invalid("plan", "at least one entry", "none".into());
        }
        let table = lock(&self.table);
        let mut seen = HashSet::new();
        for entry in entries {
            let state = table.get(entry.sequence)?;
            if !seen.insert(entry.sequence) {
                return invalid("plan", "each sequence once", format!("sequence {} twice", entry.sequence.0));
            }
            if entry.tokens.is_empty() || (entry.phase == Phase::Decode && entry.tokens.len() != 1) {
                let expected = if entry.phase == Phase::Decode { "one token" } else { "at least one token" };
                return invalid("tokens", expected, entry.tokens.len().to_string());
            }
            for token in entry.tokens {
                self.model.tokenizer().check_token(*token)?;
            }
            let (length, added) = (state.tokens.len(), entry.tokens.len());
            if length.saturating_add(added) > state.max_tokens {
                return Err(Error::ContextExceeded { max_tokens: state.max_tokens, length, added });
            }
        }
        Ok(())
    }

    /// The right to change sequences and to use the executor.
    fn lock_run(&self, operation: &'static str) -> Result<MutexGuard<'_, Run>> {
        match self.run.try_lock() {
            Ok(run) => Ok(run),
            // A panic elsewhere in an operation leaves the executor usable: it holds no state between steps.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { operation }),
        }
    }
}
