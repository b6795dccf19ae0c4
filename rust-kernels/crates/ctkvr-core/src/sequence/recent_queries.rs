//! The last queries of a sequence, kept to become centroids: f16 rows, a ring per layer. A prefill keeps every query, a decode every
//! few: where positions come one at a time, neighbours add little.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Decoded positions that are multiples of this keep their query.
pub const DECODE_STRIDE: usize = 4;

/// The rings of all layers, and which positions they hold.
#[derive(Clone)]
pub struct RecentQueries {
    capacity: usize,
    /// `[num_layers]`; copied when a fork writes.
    layers: Vec<Arc<Ring>>,
    /// Ascending; the i-th is in slot (first + i) mod capacity.
    positions: VecDeque<u32>,
    first: usize,
}

/// Where a step's queries go: rows `skip..num_rows` to the slots from `slot` on.
#[derive(Debug, Clone, Copy)]
pub struct Placement {
    pub skip: usize,
    slot: usize,
    first_position: usize,
    count: usize,
}

impl RecentQueries {
    /// `row_len`: num_q_heads * head_dim.
    pub fn new(num_layers: usize, capacity: usize, row_len: usize) -> Self {
        let layers = (0..num_layers).map(|_| Arc::new(Ring::new(capacity, row_len))).collect();
        Self { capacity, layers, positions: VecDeque::new(), first: 0 }
    }

    /// The same queries, as far as they fit (the newest), in rings of another size.
    pub fn resized(&self, capacity: usize) -> Self {
        if capacity == self.capacity {
            return self.clone();
        }
        let row_len = self.layers.first().map_or(0, |l| l.row_len);
        let mut resized = Self::new(self.layers.len(), capacity, row_len);
        let kept = self.positions.len().min(capacity);
        let skip = self.positions.len() - kept;
        for (new, old) in resized.layers.iter().zip(&self.layers) {
            for i in 0..kept {
                // SAFETY: both rows hold row_len values; nobody else has the new ring.
                unsafe { std::ptr::copy_nonoverlapping(old.row(self.slot(skip + i)).as_ptr(), new.slot(i), row_len) };
            }
        }
        resized.positions.extend(self.positions.iter().skip(skip));
        resized
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|l| l.rows.len() * size_of::<u16>()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions whose queries are held.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Positions whose queries are held, ascending.
    pub fn positions(&self) -> impl Iterator<Item = u32> {
        self.positions.iter().copied()
    }

    /// Holds these, of empty rings that have room for them. `positions` ascending; `rows` u16 `[num_layers, positions, row_len]` in this
    /// machine's byte order.
    pub fn fill(&mut self, positions: &[u32], rows: &[u8]) {
        assert!(self.is_empty() && positions.len() <= self.capacity, "empty rings with room");
        let row_bytes = rows.len() / (self.layers.len() * positions.len()).max(1);
        let mut rows = rows.chunks_exact(row_bytes.max(1));
        for layer in &mut self.layers {
            let layer = Arc::make_mut(layer);
            for (i, row) in rows.by_ref().take(positions.len()).enumerate() {
                layer.write((self.first + i) % self.capacity, row);
            }
        }
        self.positions.extend(positions);
    }

    /// Which held queries have positions in `range`: indexes for [`RecentQueries::row`].
    pub fn of_positions(&self, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let place = |position: usize| self.positions.partition_point(|&p| (p as usize) < position);
        place(range.start)..place(range.end).max(place(range.start))
    }

    /// Makes room for the queries of `num_rows` positions from `first_position` on: what they will overwrite is no longer held. Call
    /// [`RecentQueries::keep`] when they are written.
    pub fn place(&mut self, first_position: usize, num_rows: usize, decode: bool) -> Placement {
        let count = match decode {
            true if !first_position.is_multiple_of(DECODE_STRIDE) => 0,
            _ => num_rows.min(self.capacity),
        };
        if count > 0 {
            self.layers.iter_mut().for_each(|layer| {
                Arc::make_mut(layer);
            });
        }
        while self.positions.len() + count > self.capacity {
            self.positions.pop_front();
            self.first = (self.first + 1) % self.capacity;
        }
        Placement { skip: num_rows - count, slot: self.slot(self.positions.len()), first_position, count }
    }

    /// Holds what was written.
    pub fn keep(&mut self, placed: &Placement) {
        let first = placed.first_position + placed.skip;
        self.positions.extend((first..first + placed.count).map(|p| p as u32));
    }

    /// Drops positions `>= len`.
    pub fn truncate(&mut self, len: usize) {
        self.positions.truncate(self.positions.partition_point(|&p| (p as usize) < len));
    }

    /// Where row i of a step (`i >= placed.skip`) is written: the threads of a step write different rows at once, while nobody reads.
    pub fn write_slot(&self, layer: usize, placed: &Placement, i: usize) -> *mut u16 {
        self.layers[layer].slot((placed.slot + i - placed.skip) % self.capacity)
    }

    /// The i-th held query of a layer, f16 `[num_q_heads, head_dim]`.
    pub fn row(&self, layer: usize, i: usize) -> &[u16] {
        self.layers[layer].row(self.slot(i))
    }

    fn slot(&self, i: usize) -> usize {
        (self.first + i) % self.capacity
    }
}

/// One layer's rows.
struct Ring {
    row_len: usize,
    rows: Vec<UnsafeCell<u16>>,
}

// SAFETY: writers and readers are kept apart by the steps of CpuAttention, see `write_slot` and `row`.
unsafe impl Sync for Ring {}

impl Clone for Ring {
    fn clone(&self) -> Self {
        // SAFETY: nobody writes while a ring is copied (between steps), and UnsafeCell<u16> has u16's layout.
        let rows: &[u16] = unsafe { std::slice::from_raw_parts(self.rows.as_ptr().cast(), self.rows.len()) };
        Self { row_len: self.row_len, rows: rows.iter().map(|&x| UnsafeCell::new(x)).collect() }
    }
}

impl Ring {
    fn new(capacity: usize, row_len: usize) -> Self {
        Self { row_len, rows: (0..capacity * row_len).map(|_| UnsafeCell::new(0)).collect() }
    }

    fn slot(&self, slot: usize) -> *mut u16 {
        // Of the whole row: a pointer to its first value alone would reach no further.
        UnsafeCell::raw_get(self.rows[slot * self.row_len..(slot + 1) * self.row_len].as_ptr())
    }

    /// Overwrites a row with values as bytes.
    fn write(&mut self, slot: usize, row: &[u8]) {
        let (values, _) = row.as_chunks();
        let cells = &mut self.rows[slot * self.row_len..(slot + 1) * self.row_len];
        cells.iter_mut().zip(values).for_each(|(cell, value)| *cell.get_mut() = u16::from_ne_bytes(*value));
    }

    fn row(&self, slot: usize) -> &[u16] {
        let row = &self.rows[slot * self.row_len..(slot + 1) * self.row_len];
        // SAFETY: UnsafeCell<u16> has u16's layout, and nobody writes while rows are read (builds and resizes, between steps).
        unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), row.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes rows whose values are their positions.
    fn write(queries: &mut RecentQueries, first: usize, n: usize, decode: bool) {
        let placed = queries.place(first, n, decode);
        for i in placed.skip..n {
            // SAFETY: one thread.
            unsafe { *queries.write_slot(0, &placed, i) = (first + i) as u16 };
        }
        queries.keep(&placed);
    }

    fn held(queries: &RecentQueries) -> Vec<u16> {
        (0..queries.len()).map(|i| queries.row(0, i)[0]).collect()
    }

    #[test]
    fn a_prefill_keeps_the_last_and_a_decode_every_few() {
        let mut queries = RecentQueries::new(1, 6, 1);
        write(&mut queries, 0, 4, false);
        write(&mut queries, 4, 4, false);
        assert_eq!(held(&queries), [2, 3, 4, 5, 6, 7]);
        (8..17).for_each(|p| write(&mut queries, p, 1, true));
        assert_eq!(held(&queries), [5, 6, 7, 8, 12, 16]);
        assert_eq!(queries.of_positions(7..13), 2..5);
        assert_eq!(queries.of_positions(17..30), 6..6);
        write(&mut queries, 17, 20, false);
        assert_eq!(held(&queries), [31, 32, 33, 34, 35, 36]);
    }

    #[test]
    fn a_cut_keeps_what_lies_before_it_and_forks_do_not_share_writes() {
        let mut queries = RecentQueries::new(1, 4, 1);
        write(&mut queries, 0, 6, false);
        let fork = queries.clone();
        queries.truncate(4);
        write(&mut queries, 4, 2, false);
        // SAFETY: one thread.
        unsafe { *queries.layers[0].slot(queries.slot(2)) = 99 };
        assert_eq!(held(&queries), [2, 3, 99, 5]);
        assert_eq!(held(&fork), [2, 3, 4, 5]);
    }

    #[test]
    fn rings_of_another_size_hold_the_newest() {
        let mut queries = RecentQueries::new(1, 5, 1);
        write(&mut queries, 0, 7, false);
        assert_eq!(held(&queries.resized(3)), [4, 5, 6]);
        let mut larger = queries.resized(8);
        write(&mut larger, 7, 2, false);
        assert_eq!(held(&larger), [2, 3, 4, 5, 6, 7, 8]);
    }
}
