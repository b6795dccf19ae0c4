//! Rows that go through a model together, and what comes out.

use std::ops::Range;

use ctkvr_core::sequence::append::Append;
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{Phase, SelectionCounters, StageTimes};

use crate::step::Measures;
use crate::{Error, Result};

/// Some rows of several sequences, each at the end of its own. Dropped without [`Batch::keep`], it leaves the sequences as they were.
pub struct Batch<'a> {
    /// i32 `[num_rows]`, each in the vocabulary.
    pub tokens: &'a [i32],
    /// i32 `[num_rows]`.
    pub positions: &'a [i32],
    /// Rows whose logits are wanted, ascending.
    pub output_rows: &'a [usize],
    pub measures: Measures,
    /// Whether the most probable token of each output row is all that is wanted: an executor may give [`BatchOutput::tokens`] then, and no
    /// logits.
    pub tokens_only: bool,
    /// Which rows are whose: in the order of the rows, those of decodes first.
    pub sequences: Vec<BatchRows<'a>>,
}

/// The rows of one sequence.
pub struct BatchRows<'a> {
    /// Its length is that before the rows.
    pub sequence: &'a mut Sequence,
    /// First row in the batch.
    pub first_row: usize,
    pub append: Append,
}

impl BatchRows<'_> {
    pub fn rows(&self) -> Range<usize> {
        self.first_row..self.first_row + self.append.num_rows
    }
}

/// Rows to append to a sequence.
pub struct NewRows<'a> {
    pub sequence: &'a mut Sequence,
    pub phase: Phase,
    pub num_rows: usize,
}

impl<'a> Batch<'a> {
    /// Prepares rows at the ends of sequences, those of decodes first: as many in all as there are tokens and positions.
    ///
    /// # Errors
    /// `ContextExceeded`, `OutOfMemory`, `InvalidOption`; the sequences are as before then.
    pub fn open(
        tokens: &'a [i32],
        positions: &'a [i32],
        output_rows: &'a [usize],
        mut rows: Vec<NewRows<'a>>,
    ) -> ctkvr_core::Result<Self> {
        debug_assert_eq!(rows.iter().map(|new| new.num_rows).sum::<usize>(), tokens.len());
        debug_assert!(rows.is_sorted_by_key(|new| new.phase == Phase::Prefill), "decodes first");
        if let Err(error) = rows.iter_mut().try_for_each(|new| new.sequence.prepare(new.phase, new.num_rows)) {
            rows.iter_mut().for_each(|new| new.sequence.undo());
            return Err(error);
        }
        let mut first_row = 0;
        let sequences = rows.into_iter().map(|NewRows { sequence, phase, num_rows }| {
            let append = sequence.place(phase, num_rows);
            first_row += num_rows;
            BatchRows { sequence, first_row: first_row - num_rows, append }
        });
        let sequences = sequences.collect();
        Ok(Self { tokens, positions, output_rows, measures: Measures::NONE, tokens_only: false, sequences })
    }

    pub fn num_rows(&self) -> usize {
        self.tokens.len()
    }

    /// Rows of decodes: the first ones.
    pub fn num_decodes(&self) -> usize {
        self.sequences.iter().take_while(|rows| rows.append.phase == Phase::Decode).count()
    }

    /// Of the rows whose logits are wanted, those of decodes: the first ones.
    pub fn num_decode_outputs(&self) -> usize {
        let num_decodes = self.num_decodes();
        self.output_rows.partition_point(|row| *row < num_decodes)
    }

    /// The rows are part of their sequences now.
    pub fn keep(mut self) {
        self.sequences.drain(..).for_each(|rows| rows.sequence.keep(&rows.append));
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.sequences.iter_mut().for_each(|rows| rows.sequence.undo());
    }
}

/// What a batch gave.
#[derive(Debug, Default)]
pub struct BatchOutput {
    /// f32 `[output_rows, vocab_size]`; may be longer.
    pub logits: Vec<f32>,
    /// i32 `[output_rows]`: the most probable token of each, the first of equal ones, in place of logits. Empty: there are logits.
    pub tokens: Vec<i32>,
    /// One for each of the batch's sequences, in order.
    pub sequences: Vec<SequenceOutput>,
    pub stages: StageTimes,
}

/// What it gave one sequence.
#[derive(Debug, Default)]
pub struct SequenceOutput {
    /// `None` for prefill.
    pub counters: Option<SelectionCounters>,
    /// See [`crate::SequenceResult::read_map`].
    pub read_map: Option<Vec<f32>>,
    /// Queries that were answered densely because nothing indexed is like them.
    pub repairs: Vec<Repair>,
}

impl BatchOutput {
    /// Makes room for `len` logits.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn reserve_logits(&mut self, len: usize) -> Result<()> {
        let more = len.saturating_sub(self.logits.len());
        if self.logits.try_reserve_exact(more).is_err() {
            return Err(Error::OutOfMemory {
                what: "the logits of a step".into(),
                needed: (size_of::<f32>() * len) as u64,
                available: ctkvr_model::available_memory_bytes(),
            });
        }
        if more > 0 {
            self.logits.resize(len, 0.0);
        }
        Ok(())
    }
}
