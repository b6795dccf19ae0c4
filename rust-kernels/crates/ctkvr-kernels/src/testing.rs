//! Small stores and seeded numbers, for the unit tests of this crate and, with the feature `testing`, of those above it.

use std::ops::Range;

use half::f16;

pub use crate::packed::FORMATS;
use crate::{Kernels, KvFormat, KvSide, PAGE_SIZE, PageLayout, Rows};

/// A small generator (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.index(range.len())
    }

    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())].clone()
    }

    /// True once in n times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.index(n) == 0
    }

    /// From -1 to below 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// n values from -1 to below 1.
    pub fn units(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }

    /// n values from -most to below most.
    pub fn values(&mut self, n: usize, most: f32) -> Vec<f32> {
        (0..n).map(|_| self.unit() * most).collect()
    }

    /// An integer from -most to most.
    pub fn integer(&mut self, most: i64) -> i64 {
        self.below(2 * most as u64 + 1) as i64 - most
    }

    /// n integers from -most to most.
    pub fn integers(&mut self, n: usize, most: i64) -> Vec<f32> {
        (0..n).map(|_| self.integer(most) as f32).collect()
    }

    /// n multiples of 1/1024 from -most to most: f16 holds them well enough, and their sums have no ties to speak of.
    pub fn reals(&mut self, n: usize, most: i64) -> Vec<f32> {
        self.integers(n, most * 1024).into_iter().map(|x| f16::from_f32(x / 1024.0).to_f32()).collect()
    }
}

/// Pages of one KV head that a test fills.
pub struct TestPages {
    layout: PageLayout,
    /// Words, for their alignment.
    pages: Vec<Vec<u64>>,
    pointers: Vec<*const u8>,
}

// SAFETY: the pointers are into its own pages, which nobody changes.
unsafe impl Send for TestPages {}

impl TestPages {
    /// Keys and values f32 `[n, head_dim]`, stored in `format`.
    pub fn new(keys: &[f32], values: &[f32], head_dim: usize, format: KvFormat) -> Self {
        let layout = PageLayout { head_dim, format };
        let num_pages = (keys.len() / head_dim).div_ceil(PAGE_SIZE);
        let mut pages = vec![vec![0u64; layout.bytes() / 8]; num_pages];
        for (i, (key, value)) in keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim)).enumerate() {
            let page = pages[i / PAGE_SIZE].as_mut_ptr().cast();
            // SAFETY: the page has this layout and is not shared.
            unsafe { layout.store(tables(head_dim)[0], page, i % PAGE_SIZE, key, value) };
        }
        let pointers = pages.iter().map(|page| page.as_ptr().cast()).collect();
        Self { layout, pages, pointers }
    }

    pub fn keys(&self, start: usize, len: usize) -> Rows<'_> {
        // SAFETY: the pages are this store's own, and were written when it was made.
        unsafe { Rows::run(&self.pointers, self.layout, KvSide::Keys, start, len) }
    }

    pub fn values(&self, start: usize, len: usize) -> Rows<'_> {
        // SAFETY: as above.
        unsafe { Rows::run(&self.pointers, self.layout, KvSide::Values, start, len) }
    }

    pub fn keys_at<'a>(&'a self, positions: &'a [u32]) -> Rows<'a> {
        assert!(positions.iter().all(|p| (*p as usize) < self.pages.len() * PAGE_SIZE));
        // SAFETY: as above; the positions are inside.
        unsafe { Rows::list(&self.pointers, self.layout, KvSide::Keys, positions) }
    }

    /// All of page i.
    pub fn page(&self, i: usize) -> &[u64] {
        &self.pages[i]
    }

    /// Pages in use.
    pub fn num_pages(&self) -> usize {
        self.pages.len()
    }
}

/// All of some cases; of them the first `count` where Miri runs the tests, which takes a thousand times as long and sees in small ones what it
/// can see.
pub fn few<T, const N: usize>(count: usize, cases: [T; N]) -> impl Iterator<Item = T> {
    cases.into_iter().take(if cfg!(miri) { count } else { N })
}

/// Every table of this machine that can do heads of d values.
pub fn tables(d: usize) -> Vec<&'static Kernels> {
    Kernels::available().into_iter().filter(|k| d.is_multiple_of(k.lanes)).collect()
}

/// f64 inner product.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
