//! How much a step has of what its memory is for.

/// What memory has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StepSizes {
    pub rows: usize,
    /// Rows of decodes.
    pub decodes: usize,
    /// Rows whose logits are wanted.
    pub outputs: usize,
    /// Splits of attention of any slot.
    pub splits: usize,
    /// Entries of all page tables.
    pub pages: usize,
}

impl StepSizes {
    pub fn hold(&self, other: &Self) -> bool {
        let pairs = [
            (self.rows, other.rows),
            (self.decodes, other.decodes),
            (self.outputs, other.outputs),
            (self.splits, other.splits),
            (self.pages, other.pages),
        ];
        pairs.iter().all(|(room, needed)| room >= needed)
    }

    /// Room for both, and some more of what grows from token to token.
    pub fn joined(&self, other: &Self) -> Self {
        let more = |a: usize, b: usize| if b > a { b.next_power_of_two() } else { a };
        Self {
            rows: self.rows.max(other.rows),
            decodes: self.decodes.max(other.decodes),
            outputs: self.outputs.max(other.outputs),
            splits: more(self.splits, other.splits),
            pages: more(self.pages, other.pages),
        }
    }
}
