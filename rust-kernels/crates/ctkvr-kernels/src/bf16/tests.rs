use super::*;
use crate::Kernels;
use crate::testing::{Random, few};
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
    kernels.pack_columns(&rows, &mut panel);
    panel
}

#[test]
fn product_matches_f64() {
    for kernels in all() {
        for (m, columns, k) in few(
            3,
            [
                (1, 1, 2),
                (2, 32, 64),
                (12, 16, 66),
                (13, 17, 128),
                (23, 31, 34),
                (41, 32, 896),
                (16, 32, 32),
                (70, 32, 64),
                (33, 32, 66),
            ],
        ) {
            let mut random = Random((m * columns * k) as u64);
            let (lda, ldc) = (k + 6, columns + 3);
            let (a, b) = (narrowed(&random.reals(m * lda, 1)), narrowed(&random.reals(columns * k, 1)));
            let panel = packed(kernels, &b, k);
            for accumulate in [false, true] {
                let before = random.reals(m * ldc, 1);
                let mut c = before.clone();
                kernels.product(Bf16Product { a: &a, lda, panel: &panel, c: &mut c, ldc, m, columns, k, accumulate });
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
#[cfg_attr(miri, ignore = "minutes there; smaller tests see the same pointers")]
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
                kernels.product(Bf16Product { a: &a, lda: k, panel: &panel, c: &mut c, ldc: columns, m, columns, k, accumulate });
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
#[cfg_attr(miri, ignore = "minutes there; smaller tests see the same pointers")]
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
            kernels.product(Bf16Product {
                a: &a,
                lda: k,
                panel: &panel,
                c: &mut c,
                ldc: columns,
                m,
                columns,
                k,
                accumulate: false,
            });
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
            kernels.narrow(&x, &mut out[..n]);
            assert_eq!(out[..n], narrowed(&x), "{}", kernels.name);
            assert_eq!(out[n], 7, "{} wrote past n", kernels.name);
        }
    }
    for k in few(3, [2, 30, 32, 34, 96]) {
        let rows: Vec<u16> = (0..PANEL_COLUMNS * k).map(|i| i as u16).collect();
        let panels: Vec<_> = all.iter().map(|kernels| packed(kernels, &rows, k)).collect();
        assert!(panels.iter().all(|panel| *panel == panels[0]), "k = {k}");
        assert_eq!(panels[0][2 * PANEL_COLUMNS - 2..2 * PANEL_COLUMNS], rows[31 * k..31 * k + 2], "the last column's first pair");
        for (ld, columns) in [(PANEL_COLUMNS, PANEL_COLUMNS), (PANEL_COLUMNS, 16), (17, 17)] {
            let panels: Vec<_> = all
                .iter()
                .map(|kernels| {
                    let mut panel = vec![7; PANEL_COLUMNS * k];
                    kernels.pack_rows(&rows, ld, columns, &mut panel);
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
