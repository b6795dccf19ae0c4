//! Rows of f16 that never change, as long as they need to be, where kernels want pages.

use ctkvr_kernels::{Kernels, KvFormat, KvSide, PAGE_SIZE, PageLayout, Rows};

/// f16 `[n, head_dim]`.
pub struct F16Rows {
    head_dim: usize,
    values: Box<[u16]>,
    /// First row of each `PAGE_SIZE`: they point into `values`.
    pages: Vec<*const u8>,
}

// SAFETY: the pointers point into the values, which nobody writes.
unsafe impl Send for F16Rows {}
// SAFETY: as above.
unsafe impl Sync for F16Rows {}

impl F16Rows {
    /// From f16 `[n, head_dim]`.
    pub fn new(values: Vec<u16>, head_dim: usize) -> Self {
        let values = values.into_boxed_slice();
        let pages = values.chunks(PAGE_SIZE * head_dim).map(|page| page.as_ptr().cast()).collect();
        Self { head_dim, values, pages }
    }

    /// From f32, rounded to nearest even; head_dim is a multiple of the lanes.
    pub fn narrowed(kernels: &Kernels, values: &[f32], head_dim: usize) -> Self {
        let mut narrow = vec![0; values.len()];
        // SAFETY: both hold as many values, whole rows.
        unsafe { (kernels.narrow)(values.as_ptr(), values.len(), narrow.as_mut_ptr()) };
        Self::new(narrow, head_dim)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.head_dim
    }

    pub fn rows(&self) -> Rows<'_> {
        let layout = PageLayout { head_dim: self.head_dim, format: KvFormat::F16 };
        Rows::run(&self.pages, layout, KvSide::Keys, 0, self.len())
    }

    /// f16 `[n, head_dim]`.
    pub fn values(&self) -> &[u16] {
        &self.values
    }

    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<u16>()
    }
}

impl PartialEq for F16Rows {
    fn eq(&self, other: &Self) -> bool {
        (self.head_dim, &self.values) == (other.head_dim, &other.values)
    }
}

impl std::fmt::Debug for F16Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "F16Rows[{}, {}]", self.len(), self.head_dim)
    }
}
