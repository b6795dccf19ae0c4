//! Some of a batch's sequences with their rows: what one lane of a step takes through the model.

use std::ops::Range;

use ctkvr_core::Phase;
use ctkvr_engine::{Batch, BatchRows};

/// Consecutive sequences of a batch. Rows and outputs are counted from its own first ones.
#[derive(Clone)]
pub(crate) struct BatchPart<'b, 'a> {
    pub batch: &'b Batch<'a>,
    /// Of the batch.
    pub sequences: Range<usize>,
    rows: Range<usize>,
    pub outputs: Range<usize>,
}

impl<'b, 'a> BatchPart<'b, 'a> {
    pub fn whole(batch: &'b Batch<'a>) -> Self {
        Self::of(batch, 0..batch.sequences.len())
    }

    /// Two parts, each with half of the decodes, so that the host works on one while the device works on the other; one where there is
    /// nothing to share. Prompts are the second's.
    pub fn halves(batch: &'b Batch<'a>) -> Vec<Self> {
        let half = batch.num_decodes().div_ceil(2);
        if batch.num_decodes() < 2 {
            return vec![Self::whole(batch)];
        }
        vec![Self::of(batch, 0..half), Self::of(batch, half..batch.sequences.len())]
    }

    fn of(batch: &'b Batch<'a>, sequences: Range<usize>) -> Self {
        let first_row = |i: usize| batch.sequences.get(i).map_or(batch.num_rows(), |of| of.first_row);
        let rows = first_row(sequences.start)..first_row(sequences.end);
        let output = |row: usize| batch.output_rows.partition_point(|output| *output < row);
        let outputs = output(rows.start)..output(rows.end);
        Self { batch, sequences, rows, outputs }
    }

    pub fn sequences(&self) -> &'b [BatchRows<'a>] {
        &self.batch.sequences[self.sequences.clone()]
    }

    pub fn num_rows(&self) -> usize {
        self.rows.len()
    }

    /// Rows of decodes: the first ones, one for each of the first sequences.
    pub fn num_decodes(&self) -> usize {
        self.sequences().iter().take_while(|of| of.append.phase == Phase::Decode).count()
    }

    pub fn tokens(&self) -> &'b [i32] {
        &self.batch.tokens[self.rows.clone()]
    }

    pub fn positions(&self) -> &'b [i32] {
        &self.batch.positions[self.rows.clone()]
    }

    /// Rows of a sequence of it.
    pub fn rows_of(&self, of: &BatchRows) -> Range<usize> {
        let rows = of.rows();
        rows.start - self.rows.start..rows.end - self.rows.start
    }

    /// Rows whose logits are wanted.
    pub fn output_rows(&self) -> impl Iterator<Item = u32> {
        let first = self.rows.start;
        // Rows of a batch are counted in u32.
        self.batch.output_rows[self.outputs.clone()].iter().map(move |row| (row - first) as u32)
    }
}
