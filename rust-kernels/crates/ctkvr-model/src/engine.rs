//! Runs steps over several sequences: takes their rows through the layers together, lets an [`AttentionBackend`] attend, samples.
//!
//! One step, index build or change of a sequence runs at a time; a second one is refused with `Busy`, never queued. Reading a
//! sequence's state, creating and closing sequences work at any time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use ctkvr_core::{BuildReport, Phase, SelectorOptions, SequenceId, SequenceMemory};
use ctkvr_cpu::AttentionBackend;
use ctkvr_kernels::KvFormat;

use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::model::Model;
use crate::sampler::{Sampler, SamplerOptions, check_logits};
use crate::sequence_table::{SequenceState, SequenceTable};
use crate::step::{SequenceResult, StepEntry, StepResult, StepTimings};
use crate::step_plan::{Chunk, plan_chunks};

/// Positions are i32 in a chunk.
const MAX_SEQUENCE_TOKENS: usize = i32::MAX as usize / 2;
/// Tokens of prefill that go through the layers at once, unless the caller says otherwise.
pub const DEFAULT_PREFILL_CHUNK: usize = 512;

/// How an engine runs.
#[derive(Clone, Copy, Default)]
pub struct EngineOptions {
    /// 0 = all this process may use.
    pub num_threads: usize,
    /// Rows that go through the layers at once; 0 = 512.
    pub prefill_chunk: usize,
}

/// A model with an attention backend and threads.
pub struct Engine {
    /// What only the running operation touches.
    run: Mutex<Executor>,
    table: Mutex<SequenceTable>,
    backend: Arc<dyn AttentionBackend>,
    model: Arc<Model>,
    num_threads: usize,
    prefill_chunk: usize,
}

/// A sequence as a step sees it: its entry's backend name and length before the step.
struct Participants {
    backend_ids: Vec<SequenceId>,
    lengths: Vec<usize>,
}

impl Engine {
    /// Starts an engine's threads.
    ///
    /// # Errors
    /// `InvalidOption` when the backend was made for another shape, or for too many threads or rows.
    pub fn new(model: Arc<Model>, backend: Arc<dyn AttentionBackend>, options: EngineOptions) -> Result<Self> {
        let EngineOptions { num_threads, prefill_chunk } = options;
        const MAX_PREFILL_CHUNK: usize = 1 << 14;
        let num_threads = if num_threads == 0 { crate::machine::num_usable_threads() } else { num_threads };
        let prefill_chunk = if prefill_chunk == 0 { DEFAULT_PREFILL_CHUNK } else { prefill_chunk };
        let invalid =
            |option: &str, expected: String, actual: String| Error::InvalidOption { option: option.into(), expected, actual };
        if prefill_chunk > MAX_PREFILL_CHUNK {
            return Err(invalid("prefillChunk", format!("at most {MAX_PREFILL_CHUNK}"), prefill_chunk.to_string()));
        }
        let (wanted, got) = (model.spec().attention_shape(), backend.shape());
        if wanted != got {
            return Err(invalid("attention backend's shape", format!("{wanted:?}"), format!("{got:?}")));
        }
        if num_threads > backend.max_threads() {
            return Err(invalid(
                "numThreads",
                format!("at most the attention backend's {}", backend.max_threads()),
                num_threads.to_string(),
            ));
        }
        Ok(Self {
            run: Mutex::new(Executor::new(Arc::clone(&model), num_threads)?),
            table: Mutex::new(SequenceTable::default()),
            backend,
            model,
            num_threads,
            prefill_chunk,
        })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub fn num_threads(&self) -> usize {
        self.num_threads
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
        Ok(self.table().add(SequenceState {
            backend: None,
            max_tokens,
            kv_format,
            selector,
            tokens: Vec::new(),
            sampler,
            memory: SequenceMemory::default(),
            indexed_range: (0, 0),
            num_recent_queries: 0,
        }))
    }

    /// A second sequence with the same tokens, keys, values, index and sampler state.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`.
    pub fn fork_sequence(&self, sequence: SequenceId) -> Result<SequenceId> {
        let _run = self.lock_run("fork")?;
        let mut table = self.table();
        let origin = table.get(sequence)?;
        let backend = origin.backend.map(|id| self.backend.fork_sequence(id)).transpose()?;
        let fork = SequenceState {
            backend,
            max_tokens: origin.max_tokens,
            kv_format: origin.kv_format,
            selector: origin.selector.clone(),
            tokens: origin.tokens.clone(),
            sampler: origin.sampler.fork(),
            memory: origin.memory,
            indexed_range: origin.indexed_range,
            num_recent_queries: origin.num_recent_queries,
        };
        Ok(table.add(fork))
    }

    /// Releases a sequence; while a step runs, after that step. Idempotent.
    pub fn close_sequence(&self, sequence: SequenceId) {
        self.table().close(sequence);
        // When busy, the running operation's end or the next one's start releases it.
        drop(self.lock_run("close"));
    }

    /// Tokens whose keys and values are stored.
    pub fn len(&self, sequence: SequenceId) -> Result<usize> {
        Ok(self.table().get(sequence)?.tokens.len())
    }

    /// The most tokens the sequence may hold.
    pub fn max_tokens(&self, sequence: SequenceId) -> Result<usize> {
        Ok(self.table().get(sequence)?.max_tokens)
    }

    /// Bytes held, as of the end of the last operation on the sequence.
    pub fn memory(&self, sequence: SequenceId) -> Result<SequenceMemory> {
        Ok(self.table().get(sequence)?.memory)
    }

    /// `[first, end)` covered by the index; `(0, 0)` when there is none. As of the end of the last operation.
    pub fn indexed_range(&self, sequence: SequenceId) -> Result<(usize, usize)> {
        Ok(self.table().get(sequence)?.indexed_range)
    }

    /// Queries held that a build would make centroids of. As of the end of the last operation.
    pub fn num_recent_queries(&self, sequence: SequenceId) -> Result<usize> {
        Ok(self.table().get(sequence)?.num_recent_queries)
    }

    /// Drops positions `>= len`, as if they had never been appended.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`, `InvalidOption` when the sequence is shorter.
    pub fn truncate(&self, sequence: SequenceId, len: usize) -> Result<()> {
        let _run = self.lock_run("truncate")?;
        let mut table = self.table();
        let state = table.get_mut(sequence)?;
        if len > state.tokens.len() {
            return Err(Error::InvalidOption {
                option: "length".into(),
                expected: format!("at most the sequence's {} tokens", state.tokens.len()),
                actual: len.to_string(),
            });
        }
        if let Some(id) = state.backend {
            self.backend.truncate(id, len)?;
        }
        state.tokens.truncate(len);
        self.refresh(state)
    }

    /// Changes how the sequence chooses keys. An index built with other settings is dropped.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`, `InvalidOption`.
    pub fn set_selector(&self, sequence: SequenceId, selector: SelectorOptions) -> Result<()> {
        selector.check()?;
        let _run = self.lock_run("setSelector")?;
        let mut table = self.table();
        let state = table.get_mut(sequence)?;
        if let Some(id) = state.backend {
            self.backend.set_selector(id, selector.clone())?;
        }
        state.selector = selector;
        self.refresh(state)
    }

    /// Replaces the sequence's sampler; its random state starts from the seed.
    ///
    /// # Errors
    /// `UnknownSequence`, `InvalidOption`.
    pub fn set_sampler(&self, sequence: SequenceId, options: SamplerOptions) -> Result<()> {
        let sampler = Sampler::new(options)?;
        self.table().get_mut(sequence)?.sampler = sampler;
        Ok(())
    }

    /// Builds the sequence's index over what is stored; once `most` has passed, what is left waits for the next call.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`, `Cancelled` (the old index stays).
    pub fn build_index(&self, sequence: SequenceId, most: Duration, cancel: &AtomicBool) -> Result<BuildReport> {
        let _run = self.lock_run("buildIndex")?;
        let Some(id) = self.table().get(sequence)?.backend else {
            return Ok(BuildReport::default());
        };
        let report = self.backend.build_index_part(id, most, self.num_threads, cancel)?;
        // Closed meanwhile: nothing to refresh.
        if let Ok(state) = self.table().get_mut(sequence) {
            self.refresh(state)?;
        }
        Ok(report)
    }

    /// Appends every entry's tokens and returns what was asked for the last of each. With `audit`, decode entries also measure the true
    /// attention mass. Setting `cancel` stops between layers. Whatever fails, all sequences are as before the step.
    ///
    /// # Errors
    /// `Busy`; `InvalidOption` (no tokens, a token outside the vocabulary, a sequence named twice, a decode of several tokens);
    /// `UnknownSequence`; `ContextExceeded` and `OutOfMemory` before any work; `Cancelled`; `Internal`.
    pub fn step(&self, entries: &[StepEntry], audit: bool, cancel: &AtomicBool) -> Result<StepResult> {
        let started = Instant::now();
        let mut executor = self.lock_run("step")?;
        let participants = self.admit(entries)?;
        let mut result =
            StepResult { sequences: entries.iter().map(|_| SequenceResult::default()).collect(), timings: StepTimings::default() };
        let chunks = plan_chunks(entries, &participants.backend_ids, &participants.lengths, self.prefill_chunk);
        let outcome = self
            .grow_indexes(entries, &participants, cancel, &mut result.timings)
            .and_then(|()| self.run_chunks(&mut executor, &chunks, entries, audit, cancel, &mut result));
        let mut table = self.table();
        for (entry, (id, length)) in entries.iter().zip(participants.backend_ids.iter().zip(&participants.lengths)) {
            if outcome.is_err() && self.backend.len(*id)? > *length {
                self.backend.truncate(*id, *length)?;
            }
            // A sequence closed meanwhile is gone from the table.
            if let Ok(state) = table.get_mut(entry.sequence) {
                if outcome.is_ok() {
                    state.tokens.extend_from_slice(entry.tokens);
                }
                self.refresh(state)?;
            }
        }
        outcome?;
        let timings = &mut result.timings;
        timings.total_ms = milliseconds(started);
        let attention_ms = timings.stages.retrieval_ms() + timings.stages.attention_ms();
        timings.linear_ms = (timings.total_ms - attention_ms - timings.sampling_ms - timings.index_ms).max(0.0);
        Ok(result)
    }

    /// Checks a plan and gives each of its sequences a place in the backend.
    fn admit(&self, entries: &[StepEntry]) -> Result<Participants> {
        let invalid = |option: &str, expected: &str, actual: String| {
            Err(Error::InvalidOption { option: option.into(), expected: expected.into(), actual })
        };
        if entries.is_empty() {
            return invalid("plan", "at least one entry", "none".into());
        }
        let mut table = self.table();
        let mut seen = std::collections::HashSet::new();
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
        let mut participants = Participants { backend_ids: Vec::new(), lengths: Vec::new() };
        for entry in entries {
            let state = table.get_mut(entry.sequence)?;
            let id = match state.backend {
                Some(id) => id,
                None => self.backend.create_sequence(state.max_tokens, state.kv_format, state.selector.clone())?,
            };
            state.backend = Some(id);
            participants.backend_ids.push(id);
            participants.lengths.push(state.tokens.len());
        }
        Ok(participants)
    }

    /// Grows the indexes of the decoding sequences where it is due.
    fn grow_indexes(
        &self,
        entries: &[StepEntry],
        participants: &Participants,
        cancel: &AtomicBool,
        timings: &mut StepTimings,
    ) -> Result<()> {
        let started = Instant::now();
        for (entry, id) in entries.iter().zip(&participants.backend_ids) {
            if entry.phase == Phase::Decode {
                self.backend.grow_index(*id, self.num_threads, cancel)?;
            }
        }
        timings.index_ms = milliseconds(started);
        Ok(())
    }

    /// Runs all chunks, then samples: a step that fails has drawn nothing from any sampler.
    fn run_chunks(
        &self,
        executor: &mut Executor,
        chunks: &[Chunk],
        entries: &[StepEntry],
        audit: bool,
        cancel: &AtomicBool,
        result: &mut StepResult,
    ) -> Result<()> {
        let mut kept: Vec<(usize, Vec<f32>)> = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            self.run_chunk(executor, chunk, audit, cancel, result)?;
            let started = Instant::now();
            if index + 1 < chunks.len() {
                let outputs = chunk.output_entries.iter().enumerate();
                kept.extend(outputs.map(|(output, entry)| (*entry, executor.logits(output).to_vec())));
                continue;
            }
            let mut logits: Vec<(usize, &[f32])> = kept.iter().map(|(entry, logits)| (*entry, logits.as_slice())).collect();
            logits.extend(chunk.output_entries.iter().enumerate().map(|(output, entry)| (*entry, executor.logits(output))));
            self.collect_outputs(&logits, entries, result)?;
            result.timings.sampling_ms += milliseconds(started);
        }
        Ok(())
    }

    /// Runs one chunk through the layers. On failure its rows are not part of their sequences.
    fn run_chunk(
        &self,
        executor: &mut Executor,
        chunk: &Chunk,
        audit: bool,
        cancel: &AtomicBool,
        result: &mut StepResult,
    ) -> Result<()> {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        self.backend.begin_step(&chunk.rows, audit)?;
        if let Err(error) = executor.run(&*self.backend, chunk, cancel) {
            self.backend.abort_step();
            return Err(error);
        }
        let report = self.backend.end_step();
        result.timings.stages.add(&report.stages);
        for (entry, counters) in chunk.entries.iter().zip(report.counters) {
            result.sequences[*entry].counters = counters;
        }
        Ok(())
    }

    /// Samples and copies what each entry asked for. `logits` holds (entry, f32 `[vocab_size]`).
    fn collect_outputs(&self, logits: &[(usize, &[f32])], entries: &[StepEntry], result: &mut StepResult) -> Result<()> {
        for (_, logits) in logits {
            check_logits(logits)?;
        }
        let mut table = self.table();
        for (index, logits) in logits {
            let (entry, output) = (&entries[*index], &mut result.sequences[*index]);
            // A sequence closed meanwhile has no sampler any more, and nobody waits for its token.
            if entry.output.wants_sample()
                && let Ok(state) = table.get_mut(entry.sequence)
            {
                output.token_id = Some(state.sampler.sample(logits, &[state.tokens.as_slice(), entry.tokens])?);
            }
            if entry.output.wants_logits() {
                output.logits = Some(logits.to_vec());
            }
        }
        Ok(())
    }

    /// Brings the table's copy of the backend's numbers up to date.
    fn refresh(&self, state: &mut SequenceState) -> Result<()> {
        if let Some(id) = state.backend {
            state.memory = self.backend.memory(id)?;
            state.indexed_range = self.backend.indexed_range(id)?;
            state.num_recent_queries = self.backend.num_recent_queries(id)?;
        }
        Ok(())
    }

    /// The right to use the backend; releases what was closed meanwhile.
    fn lock_run(&self, operation: &'static str) -> Result<MutexGuard<'_, Executor>> {
        let run = match self.run.try_lock() {
            Ok(run) => run,
            // A panic elsewhere in an operation leaves the executor usable: it holds no state between runs.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { operation }),
        };
        let closed = std::mem::take(&mut self.table().closed);
        for id in closed {
            self.backend.close_sequence(id);
        }
        Ok(run)
    }

    fn table(&self) -> MutexGuard<'_, SequenceTable> {
        self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
