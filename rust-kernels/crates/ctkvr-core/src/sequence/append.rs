//! Rows that a step appends to a sequence: prepared before an executor writes their keys, values and queries, then made part of the sequence
//! or undone.

use crate::error::{Error, Result};
use crate::sequence::recent_queries::Placement;
use crate::sequence::store::Sequence;
use crate::step::Phase;

/// Rows behind a sequence's last one, of [`Sequence::place`]: their pages are there and belong to the sequence alone.
#[derive(Debug, Clone, Copy)]
pub struct Append {
    pub phase: Phase,
    pub num_rows: usize,
    /// Where the rows' queries are written.
    pub queries: Placement,
}

impl Sequence {
    /// Makes room for `num_rows` tokens behind the last one; [`Sequence::place`] follows.
    ///
    /// # Errors
    /// `InvalidOption` for no rows or several decodes, `ContextExceeded`, `OutOfMemory`; [`Sequence::undo`] then frees what was got.
    pub fn prepare(&mut self, phase: Phase, num_rows: usize) -> Result<()> {
        if num_rows == 0 || (phase == Phase::Decode && num_rows != 1) {
            let expected = if phase == Phase::Decode { "1 for a decode" } else { "at least 1" };
            return Err(Error::InvalidOption { option: "numRows", expected: expected.into(), actual: num_rows.to_string() });
        }
        self.reserve(num_rows)?;
        match phase {
            Phase::Prefill => self.make_room_for_prompt(num_rows),
            Phase::Decode => self.make_room_for_decode(),
        }
        Ok(())
    }

    /// Gives the rows that were prepared their places. The oldest queries, in whose places theirs are written, are no longer held.
    pub fn place(&mut self, phase: Phase, num_rows: usize) -> Append {
        Append { phase, num_rows, queries: self.recent.place(self.len, num_rows, phase == Phase::Decode) }
    }

    /// The rows are written: they are part of the sequence now.
    pub fn keep(&mut self, append: &Append) {
        self.len += append.num_rows;
        self.recent.keep(&append.queries);
    }

    /// Gives up what was prepared. What was written is free to be overwritten.
    pub fn undo(&mut self) {
        self.kv.truncate(self.len);
    }
}
