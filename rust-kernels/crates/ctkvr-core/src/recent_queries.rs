//! The last queries of a sequence, kept to become centroids: a ring of f16 rows per layer.

use std::cell::UnsafeCell;

/// One layer's ring: row of position p lies in slot p mod capacity.
pub(crate) struct RecentQueries {
    capacity: usize,
    /// num_q_heads * head_dim.
    row_len: usize,
    rows: Vec<UnsafeCell<u16>>,
}

// SAFETY: writers and readers are kept apart by the steps of CpuAttention, see `slot` and `row`.
unsafe impl Sync for RecentQueries {}

impl Clone for RecentQueries {
    fn clone(&self) -> Self {
        let rows = (0..self.capacity).flat_map(|p| self.row(p)).map(|&x| UnsafeCell::new(x)).collect();
        Self { capacity: self.capacity, row_len: self.row_len, rows }
    }
}

impl RecentQueries {
    pub(crate) fn new(capacity: usize, row_len: usize) -> Self {
        Self { capacity, row_len, rows: (0..capacity * row_len).map(|_| UnsafeCell::new(0)).collect() }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.len() * size_of::<u16>()
    }

    /// Where the row of a position is written: the threads of a step write different positions at once, while nobody reads.
    pub(crate) fn slot(&self, position: usize) -> *mut u16 {
        self.rows[position % self.capacity * self.row_len].get()
    }

    /// One position's row, f16 `[num_q_heads, head_dim]`.
    pub(crate) fn row(&self, position: usize) -> &[u16] {
        let slot = position % self.capacity * self.row_len;
        let row = &self.rows[slot..slot + self.row_len];
        // SAFETY: UnsafeCell<u16> has u16's layout, and nobody writes while rows are read (builds and resizes, between steps).
        unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), row.len()) }
    }
}
