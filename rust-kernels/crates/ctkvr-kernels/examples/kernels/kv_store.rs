//! Keys and values in pages, as the engine stores them, and positions to read.

use std::ops::Range;

use ctkvr_kernels::{KvFormat, KvSide, PAGE_SIZE, PageLayout, Rows};

/// Values of one key: that of both evaluation models.
pub(crate) const HEAD_DIM: usize = 64;
const LAYOUT: PageLayout = PageLayout { head_dim: HEAD_DIM, format: KvFormat::F16 };
/// Rows of one call: their scores stay in the second-level cache, as a head's part of a step does.
const ROWS_PER_CALL: usize = 1024;
/// One in so many is read, about, where positions are scattered: as many as CTkvr scores of a long prompt.
const SCATTER: u64 = 4;

/// Bytes of keys and values: inside a core's caches, and far beyond all of them.
pub(crate) const CACHE_BYTES: usize = 256 << 10;
pub(crate) const MEMORY_BYTES: usize = 128 << 20;

/// Pages of one head: keys f16 `[PAGE_SIZE, HEAD_DIM]`, then values.
pub(crate) struct KvStore {
    _block: Vec<u16>,
    pages: Vec<*const u8>,
    /// What is read, ascending; empty = every row.
    positions: Vec<u32>,
    num_rows: usize,
}

impl KvStore {
    /// `bytes` of keys and values, of which every row or about one in [`SCATTER`] is read.
    pub(crate) fn new(bytes: usize, is_scattered: bool) -> Self {
        let page_len = 2 * PAGE_SIZE * HEAD_DIM;
        let num_pages = bytes / (page_len * size_of::<u16>());
        let mut random = Random(1);
        // f16 from 1/16 to 1.
        let block: Vec<u16> = (0..num_pages * page_len).map(|_| 0x2c00 + (random.next() % 0x1000) as u16).collect();
        let pages = block.chunks_exact(page_len).map(|page| page.as_ptr().cast()).collect();
        let num_rows = num_pages * PAGE_SIZE;
        let scattered = 0..if is_scattered { num_rows as u32 } else { 0 };
        let positions = scattered.filter(|_| random.next().is_multiple_of(SCATTER)).collect();
        Self { _block: block, pages, positions, num_rows }
    }

    /// Rows that one pass reads.
    pub(crate) fn num_read(&self) -> usize {
        if self.positions.is_empty() { self.num_rows } else { self.positions.len() }
    }

    /// Calls `read` with the keys of all that is to be read, part by part.
    pub(crate) fn for_keys(&self, read: impl FnMut(&Rows)) {
        self.for_rows(KvSide::Keys, read);
    }

    /// The same with the values.
    pub(crate) fn for_values(&self, read: impl FnMut(&Rows)) {
        self.for_rows(KvSide::Values, read);
    }

    /// Calls `read` with the keys and values of every whole block of `len` rows.
    pub(crate) fn for_blocks(&self, len: usize, mut read: impl FnMut(&Rows, &Rows)) {
        for start in (0..self.num_rows).step_by(len) {
            let rows = |side| Rows::run(&self.pages, LAYOUT, side, start, len);
            read(&rows(KvSide::Keys), &rows(KvSide::Values));
        }
    }

    /// Most rows of one part.
    pub(crate) fn rows_per_part() -> usize {
        ROWS_PER_CALL
    }

    fn for_rows(&self, side: KvSide, mut read: impl FnMut(&Rows)) {
        for part in parts(self.num_read()) {
            let rows = if self.positions.is_empty() {
                Rows::run(&self.pages, LAYOUT, side, part.start, part.len())
            } else {
                Rows::list(&self.pages, LAYOUT, side, &self.positions[part])
            };
            read(&rows);
        }
    }
}

fn parts(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(ROWS_PER_CALL).map(move |start| start..(start + ROWS_PER_CALL).min(len))
}

/// A small generator (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    pub(crate) fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }
}
