//! Asking memory for what will be read soon.

use crate::Kernels;
use crate::rows::{RowFormat, Rows};
use crate::simd::Simd;

impl Kernels {
    /// Asks for the cache lines of some values, which are read once and soon; changes nothing.
    #[inline]
    pub fn prefetch<T>(&self, values: &[T]) {
        // SAFETY: the slice's own bytes.
        unsafe { (self.prefetch)(values.as_ptr().cast(), size_of_val(values)) };
    }
}

/// Bytes of rows asked for ahead of their use: as many cache lines as a core can wait for, and room beside the block.
pub(super) const BYTES_AHEAD: usize = 8 << 10;
/// Bytes that memory is read in.
pub(super) const CACHE_LINE: usize = 64;

/// How many rows of `d` values are about `bytes` bytes.
#[inline(always)]
pub(super) fn rows_in<F: RowFormat>(bytes: usize, d: usize) -> usize {
    (bytes / F::FORMAT.row_bytes(d)).max(1)
}

/// Asks for the first rows, of which nobody comes before.
#[inline(always)]
pub(super) unsafe fn prefetch_first<S: Simd, F: RowFormat>(rows: &Rows) {
    for i in 0..rows_in::<F>(BYTES_AHEAD, rows.head_dim()).min(rows.len()) {
        // SAFETY: i is a row.
        unsafe { prefetch_row::<S, F>(rows, i) };
    }
}

/// Asks for row i.
#[inline(always)]
pub(super) unsafe fn prefetch_row<S: Simd, F: RowFormat>(rows: &Rows, i: usize) {
    // SAFETY: i is a row of the caller's.
    let row = unsafe { F::row(rows, i) };
    // SAFETY: the row's own bytes.
    F::for_pieces(row, rows.head_dim(), |start, bytes| unsafe { prefetch::<S>(start, bytes) });
}

/// See [`super::Kernels::prefetch`].
#[inline(always)]
pub(super) unsafe fn prefetch<S: Simd>(p: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(CACHE_LINE) {
        // SAFETY: within the caller's bytes; a prefetch cannot fault.
        unsafe { S::prefetch(p.add(offset)) };
    }
}
