//! One step's way: growth, chunk after chunk through the executor, samples.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ctkvr_core::Phase;
use ctkvr_core::sequence::lifecycle;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_model::check_logits;

use crate::batch::{Batch, BatchOutput, NewRows};
use crate::batch_plan::{Chunk, plan_chunks};
use crate::executor::Executor;
use crate::sequence_table::{Loan, SequenceTable, lock};
use crate::step::{Measures, SequenceResult, StepEntry, StepOutput, StepResult};
use crate::{Error, Result};

/// A step whose plan was checked, with its sequences.
pub(crate) struct StepRun<'a> {
    pub entries: &'a [StepEntry<'a>],
    pub measures: Measures,
    pub cancel: &'a AtomicBool,
    pub executor: &'a mut dyn Executor,
    pub output: &'a mut BatchOutput,
    pub table: &'a Mutex<SequenceTable>,
    /// One for each entry, in order.
    pub loan: Loan<'a>,
}

/// Logits of an entry's last row, kept while later chunks run.
struct KeptLogits {
    entry: usize,
    logits: Vec<f32>,
}

impl StepRun<'_> {
    /// Runs all chunks, of `max_rows` rows at most, then samples: a step that fails has drawn nothing from any sampler, and appended nothing.
    pub fn run(mut self, max_rows: usize, started: Instant) -> Result<StepResult> {
        let sequences = self.entries.iter().map(|_| SequenceResult::default()).collect();
        let mut result = StepResult { sequences, ..StepResult::default() };
        let lengths: Vec<usize> = self.loan.sequences.iter().map(|lent| lent.len).collect();
        let chunks = plan_chunks(self.entries, &lengths, max_rows);
        self.grow_indexes(&mut result)?;
        let mut kept: Vec<KeptLogits> = Vec::new();
        let tokens_only = chunks.len() == 1 && self.wants_tokens_only();
        for (index, chunk) in chunks.iter().enumerate() {
            self.run_chunk(chunk, tokens_only, &mut result)?;
            let started = Instant::now();
            if index + 1 < chunks.len() {
                let of = |(output, &entry): (usize, &usize)| KeptLogits { entry, logits: self.logits(output).to_vec() };
                kept.extend(chunk.output_entries.iter().enumerate().map(of));
            } else {
                self.collect_outputs(&kept, chunk, &mut result)?;
                result.timings.sampling_ms += milliseconds(started);
            }
        }
        self.loan.keep(self.entries.iter().map(|entry| entry.tokens));
        let timings = &mut result.timings;
        timings.total_ms = milliseconds(started);
        let attention_ms = timings.stages.retrieval_ms() + timings.stages.attention_ms();
        timings.linear_ms = (timings.total_ms - attention_ms - timings.sampling_ms - timings.index_ms).max(0.0);
        Ok(result)
    }

    /// Whether every output is a token of a sampler that takes the most probable one.
    fn wants_tokens_only(&self) -> bool {
        let table = lock(self.table);
        let is_greedy = |entry: &StepEntry| table.get(entry.sequence).is_ok_and(|state| state.sampler.is_greedy());
        self.entries.iter().all(|entry| match entry.output {
            StepOutput::None => true,
            StepOutput::Sample => is_greedy(entry),
            StepOutput::Logits | StepOutput::SampleAndLogits => false,
        })
    }

    /// Grows the indexes of the decoding sequences where it is due.
    fn grow_indexes(&mut self, result: &mut StepResult) -> Result<()> {
        let started = Instant::now();
        for (entry, lent) in self.entries.iter().zip(&mut self.loan.sequences) {
            if entry.phase == Phase::Decode {
                lifecycle::grow(&*self.executor, &mut lent.sequence, self.cancel)?;
            }
        }
        result.timings.index_ms = milliseconds(started);
        Ok(())
    }

    /// Runs one chunk through the executor. On failure its rows are not part of their sequences.
    fn run_chunk(&mut self, chunk: &Chunk, tokens_only: bool, result: &mut StepResult) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let mut sequences: Vec<Option<&mut Sequence>> =
            self.loan.sequences.iter_mut().map(|lent| Some(&mut *lent.sequence)).collect();
        let rows = chunk.parts.iter().filter_map(|part| {
            let sequence = sequences[part.entry].take()?;
            Some(NewRows { sequence, phase: part.phase, num_rows: part.num_rows })
        });
        let mut batch = Batch::open(&chunk.tokens, &chunk.positions, &chunk.output_rows, rows.collect())?;
        batch.measures = self.measures;
        batch.tokens_only = tokens_only;
        self.output.tokens.clear();
        self.executor.forward(&mut batch, self.output, self.cancel)?;
        batch.keep();
        result.timings.stages.add(&self.output.stages);
        for (part, output) in chunk.parts.iter().zip(&mut self.output.sequences) {
            result.sequences[part.entry].counters = output.counters;
            result.sequences[part.entry].read_map = output.read_map.take();
            let repairs = std::mem::take(&mut output.repairs);
            lifecycle::learn(&*self.executor, &mut self.loan.sequences[part.entry].sequence, repairs);
        }
        Ok(())
    }

    /// Logits of the last chunk's output `index`: f32 `[vocab_size]`.
    fn logits(&self, index: usize) -> &[f32] {
        let len = self.executor.capabilities().vocab_size;
        &self.output.logits[index * len..(index + 1) * len]
    }

    /// Samples and copies what each entry asked for: those of earlier chunks, then those of the last.
    fn collect_outputs(&self, kept: &[KeptLogits], last: &Chunk, result: &mut StepResult) -> Result<()> {
        if !self.output.tokens.is_empty() {
            for (entry, token) in last.output_entries.iter().zip(&self.output.tokens) {
                result.sequences[*entry].token_id = Some(*token);
            }
            return Ok(());
        }
        let earlier = kept.iter().map(|kept| (kept.entry, kept.logits.as_slice()));
        let outputs = || earlier.clone().chain(last.output_entries.iter().enumerate().map(|(i, &entry)| (entry, self.logits(i))));
        outputs().try_for_each(|(_, logits)| check_logits(logits))?;
        let mut table = lock(self.table);
        for (index, logits) in outputs() {
            let (entry, output) = (&self.entries[index], &mut result.sequences[index]);
            // A sequence closed meanwhile has no sampler any more, and nobody waits for its token.
            if entry.output.wants_sample()
                && let Ok(state) = table.get_mut(entry.sequence)
            {
                match state.sampler.sample(logits, &[state.tokens.as_slice(), entry.tokens]) {
                    Ok(token) => output.token_id = Some(token),
                    Err(error @ Error::InvalidOption { .. }) => output.failure = Some(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
            if entry.output.wants_logits() {
                output.logits = Some(logits.to_vec());
            }
        }
        Ok(())
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
