//! Pairs of rows in 8 bits that never change, in pages as those of a KV store in this format, so that the same kernels read them.

use ctkvr_kernels::{Kernels, KvFormat, KvSide, PAGE_SIZE, PageLayout, Q8_BLOCK, Rows};

/// `[n, head_dim]` of a keys' side and a values' side. The last page is whole.
pub struct Q8Pages {
    layout: PageLayout,
    len: usize,
    /// All pages; what no row has is 0.
    words: Vec<u32>,
    /// First byte of each page: they point into `words`.
    pages: Vec<*const u8>,
}

// SAFETY: the pointers point into the words, which nobody writes.
unsafe impl Send for Q8Pages {}
// SAFETY: as above.
unsafe impl Sync for Q8Pages {}

impl Q8Pages {
    /// From f32 `[n, head_dim]` each; head_dim is a multiple of [`Q8_BLOCK`].
    pub fn rounded(kernels: &Kernels, keys: &[f32], values: &[f32], head_dim: usize) -> Self {
        assert!(keys.len() == values.len() && head_dim.is_multiple_of(Q8_BLOCK), "internal bug: rows that q8 does not take");
        let (layout, len) = (layout(head_dim), keys.len() / head_dim);
        let mut words = vec![0u32; Self::num_words(len, head_dim)];
        let start: *mut u8 = words.as_mut_ptr().cast();
        for (i, (key, value)) in keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim)).enumerate() {
            // SAFETY: the words hold whole pages for so many rows, aligned to 4, and are this function's own.
            unsafe { layout.store(kernels, start.add(i / PAGE_SIZE * layout.bytes()), i % PAGE_SIZE, key, value) };
        }
        Self::new(words, len, layout)
    }

    /// As [`Q8Pages::words`] gave them; `None` where they are not as many as `len` rows take, or a scale is none.
    pub fn from_words(words: Vec<u32>, len: usize, head_dim: usize) -> Option<Self> {
        let layout = layout(head_dim);
        let (page, scales_from) = (layout.bytes() / size_of::<u32>(), layout.offsets(KvSide::Keys, 0).1 / size_of::<u32>());
        let is_scale = |word: &u32| f32::from_bits(*word).is_finite() && f32::from_bits(*word).is_sign_positive();
        let fits = words.len() == Self::num_words(len, head_dim);
        let fits = fits && words.chunks_exact(page).all(|page| page[scales_from..].iter().all(is_scale));
        fits.then(|| Self::new(words, len, layout))
    }

    fn new(words: Vec<u32>, len: usize, layout: PageLayout) -> Self {
        let pages = words.chunks_exact(layout.bytes() / size_of::<u32>()).map(|page| page.as_ptr().cast()).collect();
        Self { layout, len, words, pages }
    }

    /// Words that `len` rows of each side take.
    pub fn num_words(len: usize, head_dim: usize) -> usize {
        len.div_ceil(PAGE_SIZE) * layout(head_dim).bytes() / size_of::<u32>()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whole pages.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    pub fn rows(&self, side: KvSide) -> Rows<'_> {
        // SAFETY: the pages are these words, of this layout, which nobody writes; every row was stored.
        unsafe { Rows::run(&self.pages, self.layout, side, 0, self.len) }
    }

    /// Asks for all rows of a side.
    pub fn prefetch(&self, kernels: &Kernels, side: KvSide) {
        let (row, scale) = self.layout.offsets(side, 0);
        let words = |bytes: usize| bytes / size_of::<u32>();
        let (codes_len, scales_len) = (PAGE_SIZE * self.layout.head_dim, PAGE_SIZE * self.layout.head_dim / Q8_BLOCK);
        for page in self.words.chunks_exact(words(self.layout.bytes())) {
            kernels.prefetch(&page[words(row)..words(row + codes_len)]);
            kernels.prefetch(&page[words(scale)..words(scale) + scales_len]);
        }
    }
}

fn layout(head_dim: usize) -> PageLayout {
    PageLayout { head_dim, format: KvFormat::Q8 }
}

impl PartialEq for Q8Pages {
    fn eq(&self, other: &Self) -> bool {
        (self.layout, self.len, &self.words) == (other.layout, other.len, &other.words)
    }
}

impl std::fmt::Debug for Q8Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Q8Pages[{}, {}]", self.len, self.layout.head_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::panels::widen_rows;
    use crate::test_rows::{Random, tables};

    const D: usize = 64;

    #[test]
    fn rows_come_back_within_half_a_step_and_as_they_were_saved() {
        for kernels in tables(D) {
            for n in [1, 255, 256, 257, 600] {
                let mut random = Random(n as u64);
                let (keys, values) = (random.reals(n * D, 3), random.reals(n * D, 9));
                let pages = Q8Pages::rounded(kernels, &keys, &values, D);
                assert_eq!((pages.len(), pages.words().len()), (n, n.div_ceil(256) * 2 * 256 * (D + D / 32 * 4) / 4));
                for (side, rows) in [(KvSide::Keys, &keys), (KvSide::Values, &values)] {
                    let mut row = vec![0.0; D];
                    for (i, expected) in rows.chunks_exact(D).enumerate() {
                        widen_rows(kernels, &pages.rows(side), i, 1, &mut row);
                        for (block, expected) in row.chunks_exact(32).zip(expected.chunks_exact(32)) {
                            let step = expected.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
                            let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.5001 * step;
                            assert!(block.iter().zip(expected).all(is_near), "{} n {n} {side:?} row {i}", kernels.name);
                        }
                    }
                }
                assert_eq!(Q8Pages::from_words(pages.words().to_vec(), n, D).as_ref(), Some(&pages));
            }
        }
    }

    #[test]
    fn words_that_do_not_fit_are_refused() {
        let kernels = tables(D)[0];
        let pages = Q8Pages::rounded(kernels, &[1.0; 3 * D], &[2.0; 3 * D], D);
        let words = pages.words();
        assert!(Q8Pages::from_words(words[1..].to_vec(), 3, D).is_none(), "a word too few");
        assert!(Q8Pages::from_words(words.to_vec(), 257, D).is_none(), "a page too few");
        for scale in [f32::NAN, f32::INFINITY, -1.0] {
            let mut words = words.to_vec();
            *words.last_mut().expect("some words") = scale.to_bits();
            assert!(Q8Pages::from_words(words, 3, D).is_none(), "a scale of {scale}");
        }
    }
}
