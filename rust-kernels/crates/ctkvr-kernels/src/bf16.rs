//! Matrix products of bf16 values with f32 sums, for CPUs that multiply pairs of bf16 in one instruction: twice the arithmetic of f32.
//!
//! B comes in panels of [`PANEL_COLUMNS`] columns, bf16 `[k / 2, PANEL_COLUMNS, 2]`: the two values that meet one pair of A lie side by
//! side, as AVX-512 BF16 and AMX read them.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
mod scalar;
#[cfg(test)]
pub(super) mod tests;

use crate::bf16_attention::{Bf16Block, RawBlock};
use crate::bf16_pack::bf16_depth;
use crate::rows::Rows;
use crate::sizes::{check_sizes, span};
use crate::{Aligned, BF16_BLOCK, BF16_ROWS, BF16_SCORES};

/// Columns of one panel of B.
pub const PANEL_COLUMNS: usize = 32;

/// C `[m, columns]` = A `[m, k]` times one panel of B (plus C when `accumulate`); C f32, A bf16, both row-major with row strides in values.
pub struct Bf16Product<'a> {
    pub a: &'a [u16],
    pub lda: usize,
    /// bf16 `[k / 2, PANEL_COLUMNS, 2]`.
    pub panel: &'a [u16],
    pub c: &'a mut [f32],
    pub ldc: usize,
    pub m: usize,
    /// Columns written, at most `PANEL_COLUMNS`.
    pub columns: usize,
    /// Even.
    pub k: usize,
    pub accumulate: bool,
}

/// The same by pointers.
pub(crate) struct RawProduct {
    pub(crate) a: *const u16,
    pub(crate) lda: usize,
    pub(crate) panel: *const u16,
    pub(crate) c: *mut f32,
    pub(crate) ldc: usize,
    pub(crate) m: usize,
    pub(crate) columns: usize,
    pub(crate) k: usize,
    pub(crate) accumulate: bool,
}

/// The kernels of one instruction set; `Kernels::bf16` names those of this CPU. Fields are the raw forms of the methods of their names.
pub struct Bf16Kernels {
    /// `scalar`, `avx512bf16` or `amx`.
    pub name: &'static str,
    pub(crate) narrow: unsafe fn(x: *const f32, n: usize, out: *mut u16),
    pub(crate) pack_columns: unsafe fn(rows: *const u16, k: usize, panel: *mut u16),
    pub(crate) pack_rows: unsafe fn(rows: *const u16, ld: usize, k: usize, columns: usize, panel: *mut u16),
    pub(crate) product: unsafe fn(p: &RawProduct),
    pub(crate) pack_keys: unsafe fn(rows: &Rows, panels: *mut u16),
    pub(crate) pack_values: unsafe fn(rows: &Rows, panels: *mut u16),
    pub(crate) attend_block: unsafe fn(b: &RawBlock),
}

impl Bf16Kernels {
    /// f32 to bf16, to nearest even. Both `[n]`.
    ///
    /// # Panics
    /// When their lengths differ.
    #[inline]
    pub fn narrow(&self, x: &[f32], out: &mut [u16]) {
        check_sizes!(x.len() == out.len(), "bf16 narrow", x = x.len(), out = out.len());
        // SAFETY: both hold as many values.
        unsafe { (self.narrow)(x.as_ptr(), x.len(), out.as_mut_ptr()) };
    }

    /// Makes a panel of columns that lie as rows: `rows` bf16 `[PANEL_COLUMNS, k]`, k even; `panel` bf16 `[k / 2, PANEL_COLUMNS, 2]`.
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn pack_columns(&self, rows: &[u16], panel: &mut [u16]) {
        let k = rows.len() / PANEL_COLUMNS;
        check_sizes!(
            rows.len() == panel.len() && rows.len().is_multiple_of(2 * PANEL_COLUMNS),
            "pack_columns",
            rows = rows.len(),
            panel = panel.len(),
        );
        // SAFETY: both hold PANEL_COLUMNS * k values.
        unsafe { (self.pack_columns)(rows.as_ptr(), k, panel.as_mut_ptr()) };
    }

    /// Makes a panel of rows that meet one value of A each: `rows` bf16 `[k, ld]`, of which the first `columns` of each, at most
    /// `PANEL_COLUMNS`, are used; the panel's other columns become 0. `panel` bf16 `[k / 2, PANEL_COLUMNS, 2]`, k even.
    ///
    /// # Panics
    /// When the sizes do not fit.
    #[inline]
    pub fn pack_rows(&self, rows: &[u16], ld: usize, columns: usize, panel: &mut [u16]) {
        let k = panel.len() / PANEL_COLUMNS;
        check_sizes!(
            panel.len().is_multiple_of(2 * PANEL_COLUMNS) && columns <= PANEL_COLUMNS && rows.len() >= span(k, ld, columns),
            "pack_rows",
            rows = rows.len(),
            ld = ld,
            columns = columns,
            panel = panel.len(),
        );
        // SAFETY: k rows of the stride hold the columns, the panel PANEL_COLUMNS * k values.
        unsafe { (self.pack_rows)(rows.as_ptr(), ld, k, columns, panel.as_mut_ptr()) };
    }

    /// Matrix product: products of two bf16 are exact, sums in f32 over pairs of k, in their order.
    ///
    /// # Panics
    /// When the matrices are smaller than the product says, or k is odd.
    #[inline]
    pub fn product(&self, product: Bf16Product) {
        let Bf16Product { a, lda, panel, c, ldc, m, columns, k, accumulate } = product;
        check_sizes!(
            k.is_multiple_of(2)
                && columns <= PANEL_COLUMNS
                && a.len() >= span(m, lda, k)
                && panel.len() >= k.saturating_mul(PANEL_COLUMNS)
                && c.len() >= span(m, ldc, columns),
            "bf16 product",
            a = a.len(),
            lda = lda,
            panel = panel.len(),
            c = c.len(),
            ldc = ldc,
            m = m,
            columns = columns,
            k = k,
        );
        let (a, panel, c) = (a.as_ptr(), panel.as_ptr(), c.as_mut_ptr());
        // SAFETY: checked above.
        unsafe { (self.product)(&RawProduct { a, lda, panel, c, ldc, m, columns, k, accumulate }) };
    }

    /// Panels of keys as [`Bf16Block`] has them, of at most [`BF16_BLOCK`] rows; 0 beyond them to the next multiple of 32. `panels` bf16
    /// `[BF16_BLOCK * bf16_depth(head_dim)]`.
    ///
    /// # Panics
    /// When there are more rows, or the panels are smaller.
    #[inline]
    pub fn pack_keys(&self, rows: &Rows, panels: &mut Aligned<u16>) {
        check_panels(rows, panels);
        // SAFETY: the panels of a block; the rows are readable, as a `Rows` is.
        unsafe { (self.pack_keys)(rows, panels.as_mut_ptr()) };
    }

    /// The same of values.
    ///
    /// # Panics
    /// When there are more rows, or the panels are smaller.
    #[inline]
    pub fn pack_values(&self, rows: &Rows, panels: &mut Aligned<u16>) {
        check_panels(rows, panels);
        // SAFETY: as above.
        unsafe { (self.pack_values)(rows, panels.as_mut_ptr()) };
    }

    /// Attention of some rows to one block: adds the block's keys and values to the rows that see them, and raises their maxima, rescaling what
    /// they have so far. Scores are sums over pairs of values; a weight is e^(score - max) to 1.04e-4 of itself, rounded to bf16 for the values
    /// and not for the sum.
    ///
    /// # Panics
    /// When the buffers are smaller than the block says, or its depth is no whole panels.
    #[inline]
    pub fn attend_block(&self, block: Bf16Block) {
        let Bf16Block { queries, keys, values, scores, max, sum, totals, depth, num_rows, group, num_keys, position, window } =
            block;
        let rows = num_rows.next_multiple_of(BF16_ROWS).saturating_mul(depth);
        let panels = BF16_BLOCK.saturating_mul(depth);
        check_sizes!(
            depth.is_multiple_of(PANEL_COLUMNS)
                && depth <= bf16_depth(crate::MAX_HEAD_DIM)
                && group > 0
                && num_keys <= BF16_BLOCK
                && queries.len() >= rows
                && totals.len() >= rows
                && keys.len() >= panels
                && values.len() >= panels
                && scores.len() >= BF16_SCORES
                && max.len() >= num_rows
                && sum.len() >= num_rows,
            "attend_block",
            queries = queries.len(),
            keys = keys.len(),
            values = values.len(),
            scores = scores.len(),
            max = max.len(),
            sum = sum.len(),
            totals = totals.len(),
            depth = depth,
            num_rows = num_rows,
            group = group,
            num_keys = num_keys,
        );
        let raw = RawBlock {
            queries: queries.as_ptr(),
            keys: keys.as_ptr(),
            values: values.as_ptr(),
            scores: scores.as_mut_ptr(),
            max: max.as_mut_ptr(),
            sum: sum.as_mut_ptr(),
            totals: totals.as_mut_ptr(),
            depth,
            num_rows,
            group,
            num_keys,
            position,
            window,
        };
        // SAFETY: checked above; what is `Aligned` begins with a cache line.
        unsafe { (self.attend_block)(&raw) };
    }
}

fn check_panels(rows: &Rows, panels: &[u16]) {
    let (n, d) = (rows.len(), rows.head_dim());
    check_sizes!(
        n <= BF16_BLOCK && d.is_multiple_of(16) && panels.len() >= BF16_BLOCK.saturating_mul(bf16_depth(d)),
        "packing a block",
        rows = n,
        head_dim = d,
        panels = panels.len(),
    );
}

pub(super) static SCALAR: Bf16Kernels = Bf16Kernels {
    name: "scalar",
    narrow: scalar::narrow,
    pack_columns: scalar::pack_columns,
    pack_rows: scalar::pack_rows,
    product: scalar::product,
    pack_keys: super::bf16_pack::scalar::pack_keys,
    pack_values: super::bf16_pack::scalar::pack_values,
    attend_block: super::bf16_attention::software::attend,
};
#[cfg(target_arch = "x86_64")]
pub(super) static AVX512: Bf16Kernels = Bf16Kernels {
    name: "avx512bf16",
    narrow: avx512::narrow,
    pack_columns: avx512::pack_columns,
    pack_rows: avx512::pack_rows,
    product: avx512::product,
    pack_keys: super::bf16_pack::avx512::pack_keys,
    pack_values: super::bf16_pack::avx512::pack_values,
    attend_block: super::bf16_attention::avx512::attend,
};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) static AMX: Bf16Kernels = Bf16Kernels {
    name: "amx",
    product: super::amx::product,
    attend_block: super::bf16_attention::avx512::attend_on_tiles,
    ..AVX512
};
