//! Queries of appended tokens that may still become centroids: those that no block has had, and those that a cut would bring back.

use std::ops::Range;

/// Ascending positions with a query each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeptQueries {
    /// group * head_dim.
    row_len: usize,
    positions: Vec<u32>,
    /// f32 `[positions, row_len]`.
    rows: Vec<f32>,
}

impl KeptQueries {
    pub fn new(row_len: usize) -> Self {
        Self { row_len, positions: Vec::new(), rows: Vec::new() }
    }

    /// Positions and rows as [`KeptQueries::parts`] gave them.
    pub fn from_parts(row_len: usize, positions: Vec<u32>, rows: Vec<f32>) -> Self {
        debug_assert_eq!(positions.len() * row_len, rows.len());
        Self { row_len, positions, rows }
    }

    pub fn parts(&self) -> (&[u32], &[f32]) {
        (&self.positions, &self.rows)
    }

    /// Adds the query of a position behind all others.
    pub fn push(&mut self, position: usize, row: &[f32]) {
        debug_assert_eq!(row.len(), self.row_len);
        self.positions.push(position as u32);
        self.rows.extend_from_slice(row);
    }

    /// The last queries of positions in `range`, at most `most`: f32 `[n, row_len]`, oldest first.
    pub fn of_positions(&self, range: Range<usize>, most: usize) -> &[f32] {
        let (first, end) = (self.place(range.start), self.place(range.end));
        let first = first.max(end.saturating_sub(most)).min(end);
        &self.rows[first * self.row_len..end * self.row_len]
    }

    /// Drops positions `>= len`.
    pub fn truncate(&mut self, len: usize) {
        let keep = self.place(len);
        self.positions.truncate(keep);
        self.rows.truncate(keep * self.row_len);
    }

    /// Whether there are positions below `position`.
    pub fn has_before(&self, position: usize) -> bool {
        self.place(position) > 0
    }

    /// Drops positions below `position`.
    pub fn drop_before(&mut self, position: usize) {
        let count = self.place(position);
        self.positions.drain(..count);
        self.rows.drain(..count * self.row_len);
    }

    pub fn bytes(&self) -> usize {
        self.positions.len() * (size_of::<u32>() + self.row_len * size_of::<f32>())
    }

    fn place(&self, position: usize) -> usize {
        self.positions.partition_point(|&p| (p as usize) < position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_range_come_oldest_first() {
        let mut kept = KeptQueries::new(1);
        [2, 4, 8, 9].into_iter().for_each(|p| kept.push(p, &[p as f32]));
        assert_eq!(kept.of_positions(4..9, 9), [4.0, 8.0]);
        assert_eq!(kept.of_positions(0..20, 2), [8.0, 9.0]);
        assert!(kept.of_positions(5..8, 2).is_empty());
        kept.truncate(9);
        kept.drop_before(4);
        assert_eq!(kept.parts(), (&[4, 8][..], &[4.0, 8.0][..]));
        assert!(!kept.has_before(4) && kept.has_before(5));
    }
}
