//! Matrix products of bf16 values with f32 sums, for CPUs that multiply pairs of bf16 in one instruction: twice the arithmetic of f32.
//!
//! B comes in panels of [`PANEL_COLUMNS`] columns, bf16 `[k / 2, PANEL_COLUMNS, 2]`: the two values that meet one pair of A lie side by
//! side, as AVX-512 BF16 and AMX read them.

use super::Rows;
use super::bf16_attention::Bf16Block;

/// Columns of one panel of B.
pub const PANEL_COLUMNS: usize = 32;

/// C `[m, columns]` = A `[m, k]` times one panel of B (plus C when `accumulate`); C f32, A bf16, both row-major with row strides in values.
pub struct Bf16Product {
    pub a: *const u16,
    pub lda: usize,
    /// bf16 `[k / 2, PANEL_COLUMNS, 2]`.
    pub panel: *const u16,
    pub c: *mut f32,
    pub ldc: usize,
    pub m: usize,
    /// Columns written, at most `PANEL_COLUMNS`.
    pub columns: usize,
    /// Even.
    pub k: usize,
    pub accumulate: bool,
}

/// The kernels of one instruction set; `Kernels::bf16` names those of this CPU. Every function is unsafe for the same reason: pointers must be live for the sizes its comment gives.
pub struct Bf16Kernels {
    /// `scalar`, `avx512bf16` or `amx`.
    pub name: &'static str,
    /// f32 to bf16 (nearest even), n values.
    pub narrow: unsafe fn(x: *const f32, n: usize, out: *mut u16),
    /// Makes a panel of columns that lie as rows: `rows` bf16 `[PANEL_COLUMNS, k]`, k even.
    pub pack_columns: unsafe fn(rows: *const u16, k: usize, panel: *mut u16),
    /// Makes a panel of rows that meet one value of A each: `rows` bf16 `[k, ld]`, of which the first `columns` of each, at most
    /// `PANEL_COLUMNS`, are used; the panel's other columns become 0. k even.
    pub pack_rows: unsafe fn(rows: *const u16, ld: usize, k: usize, columns: usize, panel: *mut u16),
    /// Matrix product.
    pub product: unsafe fn(p: &Bf16Product),
    /// Panels of keys and of values as [`Bf16Block`] has them, of at most [`super::BF16_BLOCK`] rows; 0 beyond them to the next multiple of 32.
    pub pack_keys: unsafe fn(rows: &Rows, panels: *mut u16),
    pub pack_values: unsafe fn(rows: &Rows, panels: *mut u16),
    /// Adds a block of keys and values to the rows that see them.
    pub attend_block: unsafe fn(b: &Bf16Block),
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

/// One value at a time: the plain form the other one is tested against.
mod scalar {
    use super::{Bf16Product, PANEL_COLUMNS};
    use half::bf16;

    pub(super) unsafe fn narrow(x: *const f32, n: usize, out: *mut u16) {
        for i in 0..n {
            // SAFETY: the caller's n values.
            unsafe { *out.add(i) = bf16::from_f32(*x.add(i)).to_bits() };
        }
    }

    pub(super) unsafe fn pack_columns(rows: *const u16, k: usize, panel: *mut u16) {
        for t in 0..k {
            for j in 0..PANEL_COLUMNS {
                // SAFETY: the caller's rows and panel hold PANEL_COLUMNS * k values.
                unsafe { *panel.add((t / 2 * PANEL_COLUMNS + j) * 2 + t % 2) = *rows.add(j * k + t) };
            }
        }
    }

    pub(super) unsafe fn pack_rows(rows: *const u16, ld: usize, k: usize, columns: usize, panel: *mut u16) {
        for t in 0..k {
            for j in 0..PANEL_COLUMNS {
                // SAFETY: the caller's rows hold `columns` values each, the panel PANEL_COLUMNS * k.
                unsafe {
                    let x = if j < columns { *rows.add(t * ld + j) } else { 0 };
                    *panel.add((t / 2 * PANEL_COLUMNS + j) * 2 + t % 2) = x;
                }
            }
        }
    }

    pub(super) unsafe fn product(p: &Bf16Product) {
        for i in 0..p.m {
            for j in 0..p.columns {
                // SAFETY: the caller's matrices.
                unsafe {
                    let c = p.c.add(i * p.ldc + j);
                    let mut sum = if p.accumulate { *c } else { 0.0 };
                    for t in 0..p.k {
                        let b = *p.panel.add((t / 2 * PANEL_COLUMNS + j) * 2 + t % 2);
                        sum += bf16::from_bits(*p.a.add(i * p.lda + t)).to_f32() * bf16::from_bits(b).to_f32();
                    }
                    *c = sum;
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

    use super::{Bf16Product, PANEL_COLUMNS};
    use std::arch::x86_64::*;

    /// bf16 pairs in one vector.
    const PAIRS: usize = 16;
    /// Vectors of one row of a panel.
    const VECS: usize = PANEL_COLUMNS / PAIRS;
    /// Rows of a tile: with `VECS` vectors each, its sums fill 24 of the 32 registers.
    const ROWS: usize = 12;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn narrow(x: *const f32, n: usize, out: *mut u16) {
        let mut i = 0;
        unsafe {
            while i + 32 <= n {
                let pair = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x.add(i + 16)), _mm512_loadu_ps(x.add(i)));
                _mm512_storeu_si512(out.add(i).cast(), std::mem::transmute::<__m512bh, __m512i>(pair));
                i += 32;
            }
            super::scalar::narrow(x.add(i), n - i, out.add(i));
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn pack_columns(rows: *const u16, k: usize, panel: *mut u16) {
        let (rows, panel, pairs) = (rows.cast::<u32>(), panel.cast::<u32>(), k / 2);
        for v in 0..VECS {
            let mut t = 0;
            unsafe {
                while t + PAIRS <= pairs {
                    let mut tile = [_mm512_setzero_si512(); PAIRS];
                    for (r, x) in tile.iter_mut().enumerate() {
                        *x = _mm512_loadu_si512(rows.add((v * PAIRS + r) * pairs + t).cast());
                    }
                    for (r, x) in transpose(tile).into_iter().enumerate() {
                        _mm512_storeu_si512(panel.add((t + r) * PANEL_COLUMNS + v * PAIRS).cast(), x);
                    }
                    t += PAIRS;
                }
                for t in t..pairs {
                    for j in v * PAIRS..(v + 1) * PAIRS {
                        *panel.add(t * PANEL_COLUMNS + j) = *rows.add(j * pairs + t);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn pack_rows(rows: *const u16, ld: usize, k: usize, columns: usize, panel: *mut u16) {
        let mask = ((1u64 << columns.min(PANEL_COLUMNS)) - 1) as __mmask32;
        // Values 0, 32, 1, 33 and so on of two vectors, and from 16 on.
        let mut low = [0u16; PANEL_COLUMNS];
        for (i, x) in low.iter_mut().enumerate() {
            *x = (i / 2 + i % 2 * PANEL_COLUMNS) as u16;
        }
        unsafe {
            let low = _mm512_loadu_si512(low.as_ptr().cast());
            let high = _mm512_add_epi16(low, _mm512_set1_epi16(PAIRS as i16));
            for t in 0..k / 2 {
                let first = _mm512_maskz_loadu_epi16(mask, rows.add(2 * t * ld).cast());
                let second = _mm512_maskz_loadu_epi16(mask, rows.add((2 * t + 1) * ld).cast());
                let out = panel.add(2 * t * PANEL_COLUMNS);
                _mm512_storeu_si512(out.cast(), _mm512_permutex2var_epi16(first, low, second));
                _mm512_storeu_si512(out.add(PANEL_COLUMNS).cast(), _mm512_permutex2var_epi16(first, high, second));
            }
        }
    }

    /// Transposes 16 x 16 values of 32 bits: pairs, then fours, then 128-bit lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
        let mut a = r;
        for i in (0..16).step_by(2) {
            a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
            a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        }
        let mut b = a;
        for i in (0..16).step_by(4) {
            b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
            b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
            b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
            b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
        }
        // b[4 g + c] holds, in lane l, column 4 l + c of rows 4 g .. 4 g + 4.
        let mut out = r;
        for c in 0..4 {
            let low = |x, y| _mm512_shuffle_i32x4::<0x88>(x, y);
            let high = |x, y| _mm512_shuffle_i32x4::<0xdd>(x, y);
            let (even01, odd01) = (low(b[c], b[4 + c]), high(b[c], b[4 + c]));
            let (even23, odd23) = (low(b[8 + c], b[12 + c]), high(b[8 + c], b[12 + c]));
            out[c] = low(even01, even23);
            out[8 + c] = high(even01, even23);
            out[4 + c] = low(odd01, odd23);
            out[12 + c] = high(odd01, odd23);
        }
        out
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn product(p: &Bf16Product) {
        let mut i = 0;
        while i < p.m {
            let rows = p.m - i;
            unsafe {
                i += match rows {
                    ROWS.. => tile::<ROWS>(p, i),
                    6.. => tile::<6>(p, i),
                    3.. => tile::<3>(p, i),
                    _ => tile::<1>(p, i),
                };
            }
        }
    }

    /// Rows `i..i + R` of C, kept in registers over the whole of k. Returns R.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn tile<const R: usize>(p: &Bf16Product, i: usize) -> usize {
        unsafe {
            let (a, c) = (p.a.add(i * p.lda), p.c.add(i * p.ldc));
            let mask = |v: usize| -> __mmask16 { ((1u32 << p.columns.saturating_sub(v * PAIRS).min(PAIRS)) - 1) as u16 };
            let masks = [mask(0), mask(1)];
            let mut acc = [[_mm512_setzero_ps(); VECS]; R];
            if p.accumulate {
                for (r, row) in acc.iter_mut().enumerate() {
                    for (v, x) in row.iter_mut().enumerate() {
                        *x = _mm512_maskz_loadu_ps(masks[v], c.add(r * p.ldc + v * PAIRS));
                    }
                }
            }
            for t in 0..p.k / 2 {
                let mut b = [_mm512_setzero_si512(); VECS];
                for (v, x) in b.iter_mut().enumerate() {
                    *x = _mm512_loadu_si512(p.panel.add((t * PANEL_COLUMNS + v * PAIRS) * 2).cast());
                }
                for (r, row) in acc.iter_mut().enumerate() {
                    let pair = _mm512_set1_epi32(a.add(r * p.lda + 2 * t).cast::<i32>().read_unaligned());
                    for (x, y) in row.iter_mut().zip(b) {
                        *x = _mm512_dpbf16_ps(
                            *x,
                            std::mem::transmute::<__m512i, __m512bh>(pair),
                            std::mem::transmute::<__m512i, __m512bh>(y),
                        );
                    }
                }
            }
            for (r, row) in acc.iter().enumerate() {
                for (v, x) in row.iter().enumerate() {
                    _mm512_mask_storeu_ps(c.add(r * p.ldc + v * PAIRS), masks[v], *x);
                }
            }
        }
        R
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::Kernels;
    use crate::testing::Random;
    use half::bf16;

    /// The order of work on AMX tiles, with tiles in plain Rust.
    static SOFTWARE_TILES: Bf16Kernels = Bf16Kernels {
        name: "amx in software",
        product: crate::amx::software::product,
        attend_block: crate::bf16_attention::software::attend_on_tiles,
        ..SCALAR
    };

    /// Every table, those of this machine and the plain ones.
    pub(in super::super) fn all() -> Vec<&'static Bf16Kernels> {
        let mut all = vec![&SCALAR, &SOFTWARE_TILES];
        all.extend(Kernels::available().iter().filter_map(|kernels| kernels.bf16));
        all
    }

    pub(in super::super) fn narrowed(x: &[f32]) -> Vec<u16> {
        x.iter().map(|x| bf16::from_f32(*x).to_bits()).collect()
    }

    /// Columns of B, each `[k]`, as a panel with unused columns zero.
    fn packed(kernels: &Bf16Kernels, columns: &[u16], k: usize) -> Vec<u16> {
        let mut rows = columns.to_vec();
        rows.resize(PANEL_COLUMNS * k, 0);
        let mut panel = vec![0; PANEL_COLUMNS * k];
        // SAFETY: both hold PANEL_COLUMNS * k values.
        unsafe { (kernels.pack_columns)(rows.as_ptr(), k, panel.as_mut_ptr()) };
        panel
    }

    #[test]
    fn product_matches_f64() {
        for kernels in all() {
            for (m, columns, k) in [
                (1, 1, 2),
                (2, 32, 64),
                (12, 16, 66),
                (13, 17, 128),
                (23, 31, 34),
                (41, 32, 896),
                (16, 32, 32),
                (70, 32, 64),
                (33, 32, 66),
            ] {
                let mut random = Random((m * columns * k) as u64);
                let (lda, ldc) = (k + 6, columns + 3);
                let (a, b) = (narrowed(&random.reals(m * lda, 1)), narrowed(&random.reals(columns * k, 1)));
                let panel = packed(kernels, &b, k);
                for accumulate in [false, true] {
                    let before = random.reals(m * ldc, 1);
                    let mut c = before.clone();
                    let job = Bf16Product {
                        a: a.as_ptr(),
                        lda,
                        panel: panel.as_ptr(),
                        c: c.as_mut_ptr(),
                        ldc,
                        m,
                        columns,
                        k,
                        accumulate,
                    };
                    // SAFETY: the matrices hold what the job says.
                    unsafe { (kernels.product)(&job) };
                    let value = |x: u16| f64::from(bf16::from_bits(x).to_f32());
                    for i in 0..m {
                        for j in 0..columns {
                            let start = if accumulate { f64::from(before[i * ldc + j]) } else { 0.0 };
                            let terms = (0..k).map(|t| value(a[i * lda + t]) * value(b[j * k + t]));
                            let (exact, magnitude) = terms.fold((start, start.abs()), |(s, g), t| (s + t, g + t.abs()));
                            let error = (f64::from(c[i * ldc + j]) - exact).abs();
                            // k sums in f32 in any order (Higham, Accuracy and Stability, 3.1); a product of two bf16 is exact in f32.
                            let bound = (k + 2) as f64 * f64::from(f32::EPSILON) * magnitude;
                            assert!(error <= bound, "{} {m}x{columns}x{k} at {i},{j}: {error} > {bound}", kernels.name);
                        }
                        let end = i * ldc + columns;
                        assert_eq!(c[end..end + 3], before[end..end + 3], "{} wrote past its columns", kernels.name);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_whatever_rows_come_with_it() {
        let (columns, k, most) = (PANEL_COLUMNS, 64, 50);
        let mut random = Random(11);
        let (a, b) = (narrowed(&random.reals(most * k, 1)), narrowed(&random.reals(columns * k, 1)));
        let before = random.reals(most * columns, 1);
        for kernels in all() {
            let panel = packed(kernels, &b, k);
            for accumulate in [false, true] {
                let by = |m: usize| {
                    let mut c = before.clone();
                    let (a, panel, c_at) = (a.as_ptr(), panel.as_ptr(), c.as_mut_ptr());
                    let job = Bf16Product { a, lda: k, panel, c: c_at, ldc: columns, m, columns, k, accumulate };
                    // SAFETY: the matrices hold what the job says.
                    unsafe { (kernels.product)(&job) };
                    c
                };
                let whole = by(most);
                for m in [1, 3, 15, 16, 17, 33, 47] {
                    let part = by(m);
                    assert_eq!(part[..m * columns], whole[..m * columns], "{} {m} rows", kernels.name);
                    assert_eq!(part[m * columns..], before[m * columns..], "{} wrote past {m} rows", kernels.name);
                }
            }
        }
    }

    #[test]
    fn product_is_exact_on_small_integers() {
        let (m, columns, k) = (62, 32, 64);
        let mut random = Random(3);
        let mut integers = |n: usize| narrowed(&random.integers(n, 15));
        let (a, b) = (integers(m * k), integers(columns * k));
        let results: Vec<_> = all()
            .iter()
            .map(|kernels| {
                let panel = packed(kernels, &b, k);
                let mut c = vec![0f32; m * columns];
                let job = Bf16Product {
                    a: a.as_ptr(),
                    lda: k,
                    panel: panel.as_ptr(),
                    c: c.as_mut_ptr(),
                    ldc: columns,
                    m,
                    columns,
                    k,
                    accumulate: false,
                };
                // SAFETY: the matrices hold what the job says.
                unsafe { (kernels.product)(&job) };
                c
            })
            .collect();
        assert!(results.iter().all(|c| *c == results[0]));
    }

    #[test]
    fn narrowing_and_packing_are_the_same_everywhere() {
        let all = all();
        for n in [0, 1, 31, 32, 70] {
            let x = Random(n as u64).reals(n, 9);
            for kernels in &all {
                let mut out = vec![7; n + 1];
                // SAFETY: both hold n values.
                unsafe { (kernels.narrow)(x.as_ptr(), n, out.as_mut_ptr()) };
                assert_eq!(out[..n], narrowed(&x), "{}", kernels.name);
                assert_eq!(out[n], 7, "{} wrote past n", kernels.name);
            }
        }
        for k in [2, 30, 32, 34, 96] {
            let rows: Vec<u16> = (0..PANEL_COLUMNS * k).map(|i| i as u16).collect();
            let panels: Vec<_> = all.iter().map(|kernels| packed(kernels, &rows, k)).collect();
            assert!(panels.iter().all(|panel| *panel == panels[0]), "k = {k}");
            assert_eq!(
                panels[0][2 * PANEL_COLUMNS - 2..2 * PANEL_COLUMNS],
                rows[31 * k..31 * k + 2],
                "the last column's first pair"
            );
            for (ld, columns) in [(PANEL_COLUMNS, PANEL_COLUMNS), (PANEL_COLUMNS, 16), (17, 17)] {
                let panels: Vec<_> = all
                    .iter()
                    .map(|kernels| {
                        let mut panel = vec![7; PANEL_COLUMNS * k];
                        // SAFETY: rows hold at least k * ld values, the panel PANEL_COLUMNS * k.
                        unsafe { (kernels.pack_rows)(rows.as_ptr(), ld, k, columns, panel.as_mut_ptr()) };
                        panel
                    })
                    .collect();
                assert!(panels.iter().all(|panel| *panel == panels[0]), "k = {k}, {columns} columns");
                assert_eq!(
                    panels[0][2 * columns - 2..2 * columns],
                    [rows[columns - 1], rows[ld + columns - 1]],
                    "the last column used"
                );
                assert!(panels[0][2 * columns..2 * PANEL_COLUMNS].iter().all(|x| *x == 0), "unused columns");
            }
        }
    }
}
