//! Matrix products in f32.

use crate::Kernels;
use crate::simd::Simd;
use crate::sizes::{check_sizes, span};

/// C `[m, n]` = A `[m, k]` B `[k, n]` (plus C when `accumulate`), f32 row-major with row strides in values.
pub struct Gemm<'a> {
    pub a: &'a [f32],
    pub lda: usize,
    pub b: &'a [f32],
    pub ldb: usize,
    pub c: &'a mut [f32],
    pub ldc: usize,
    pub m: usize,
    /// A multiple of 16.
    pub n: usize,
    pub k: usize,
    pub accumulate: bool,
}

/// The same by pointers.
pub(crate) struct RawGemm {
    pub(crate) a: *const f32,
    pub(crate) lda: usize,
    pub(crate) b: *const f32,
    pub(crate) ldb: usize,
    pub(crate) c: *mut f32,
    pub(crate) ldc: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) accumulate: bool,
}

impl Kernels {
    /// Matrix product. Each value of C is one running sum in the order of k, beginning with what C holds where it accumulates; the first n
    /// values of C's first m rows are written. Reference: the table `scalar`.
    ///
    /// # Panics
    /// When the matrices are smaller than the product says, or n is no multiple of 16.
    #[inline]
    pub fn gemm(&self, product: Gemm) {
        let Gemm { a, lda, b, ldb, c, ldc, m, n, k, accumulate } = product;
        check_sizes!(
            n.is_multiple_of(16) && a.len() >= span(m, lda, k) && b.len() >= span(k, ldb, n) && c.len() >= span(m, ldc, n),
            "gemm",
            a = a.len(),
            lda = lda,
            b = b.len(),
            ldb = ldb,
            c = c.len(),
            ldc = ldc,
            m = m,
            n = n,
            k = k,
        );
        let raw = RawGemm { a: a.as_ptr(), lda, b: b.as_ptr(), ldb, c: c.as_mut_ptr(), ldc, m, n, k, accumulate };
        // SAFETY: checked above.
        unsafe { (self.gemm)(&raw) };
    }
}

/// Rows of A that one pass of the matrix product keeps in registers.
const GEMM_ROWS: usize = 6;

/// See [`super::Kernels::gemm`]. `VECS` vectors of columns at a time.
#[inline(always)]
pub(super) unsafe fn gemm<S: Simd, const VECS: usize>(m: &RawGemm) {
    let mut j = 0;
    while j < m.n {
        // SAFETY: the caller's bounds; n is a multiple of LANES.
        unsafe {
            if m.n - j >= VECS * S::LANES {
                gemm_columns::<S, VECS>(m, j);
                j += VECS * S::LANES;
            } else {
                gemm_columns::<S, 1>(m, j);
                j += S::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn gemm_columns<S: Simd, const VECS: usize>(m: &RawGemm, j: usize) {
    let mut i = 0;
    while i < m.m {
        // SAFETY: rows i.. and columns j.. are inside the matrices.
        unsafe {
            match m.m - i {
                GEMM_ROWS.. => gemm_tile::<S, GEMM_ROWS, VECS>(m, i, j),
                4.. => gemm_tile::<S, 4, VECS>(m, i, j),
                2.. => gemm_tile::<S, 2, VECS>(m, i, j),
                _ => gemm_tile::<S, 1, VECS>(m, i, j),
            }
        }
        i += match m.m - i {
            GEMM_ROWS.. => GEMM_ROWS,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
    }
}

/// A tile of `ROWS` x `VECS * LANES` of C, kept in registers over the whole of k.
#[inline(always)]
unsafe fn gemm_tile<S: Simd, const ROWS: usize, const VECS: usize>(m: &RawGemm, i: usize, j: usize) {
    // SAFETY: the tile is inside the matrices.
    unsafe {
        let (a, b, c) = (m.a.add(i * m.lda), m.b.add(j), m.c.add(i * m.ldc + j));
        let mut acc = [[S::splat(0.0); VECS]; ROWS];
        if m.accumulate {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = S::load(c.add(r * m.ldc + v * S::LANES));
                }
            }
        }
        for k in 0..m.k {
            let mut bv = [S::splat(0.0); VECS];
            for (v, x) in bv.iter_mut().enumerate() {
                *x = S::load(b.add(k * m.ldb + v * S::LANES));
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let av = S::splat(*a.add(r * m.lda + k));
                for (x, y) in row.iter_mut().zip(bv) {
                    *x = S::fma(av, y, *x);
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                S::store(c.add(r * m.ldc + v * S::LANES), *x);
            }
        }
    }
}
