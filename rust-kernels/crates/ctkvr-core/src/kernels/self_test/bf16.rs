//! Products in bf16, on vectors and on tiles.

use super::super::bf16::{self, Bf16Kernels, Bf16Product, PANEL_COLUMNS};
use super::{DRAWS, Finding, Numbers, budget, check_fields, near, same};

pub(super) fn check(table: &Bf16Kernels) -> Finding {
    check_fields!(table, Bf16Kernels, no_kernels: [name], narrow: narrow, pack_columns: pack_columns, pack_rows: pack_rows, product: product)
}

fn narrowed(x: &[f32]) -> Vec<u16> {
    let mut out = vec![0; x.len()];
    // SAFETY: both hold as many values.
    unsafe { (bf16::SCALAR.narrow)(x.as_ptr(), x.len(), out.as_mut_ptr()) };
    out
}

fn narrow(table: &Bf16Kernels) -> Finding {
    for n in [0, 1, 31, 32, 70, 1000] {
        let mut numbers = Numbers(n as u64);
        // Of every size; the last bits make half-way cases too.
        let x: Vec<f32> = (0..n).map(|i| (numbers.below(1 << 12) as f32 - 2048.0) * 2f32.powi(i as i32 % 60 - 30)).collect();
        let by = |table: &Bf16Kernels| {
            let mut out = vec![7; n + 1];
            // SAFETY: both hold n values.
            unsafe { (table.narrow)(x.as_ptr(), n, out.as_mut_ptr()) };
            out
        };
        same(format!("{n} values"), &by(table), &by(&bf16::SCALAR))?;
    }
    Ok(())
}

fn pack_columns(table: &Bf16Kernels) -> Finding {
    for k in [2, 30, 32, 34, 96] {
        let rows: Vec<u16> = (0..PANEL_COLUMNS * k).map(|i| i as u16).collect();
        let by = |table: &Bf16Kernels| {
            let mut panel = vec![7; PANEL_COLUMNS * k + 1];
            // SAFETY: both hold PANEL_COLUMNS * k values.
            unsafe { (table.pack_columns)(rows.as_ptr(), k, panel.as_mut_ptr()) };
            panel
        };
        same(format!("columns of {k}"), &by(table), &by(&bf16::SCALAR))?;
    }
    Ok(())
}

fn pack_rows(table: &Bf16Kernels) -> Finding {
    for k in [2, 30, 64] {
        for (ld, columns) in [(PANEL_COLUMNS, PANEL_COLUMNS), (PANEL_COLUMNS, 16), (17, 17)] {
            let rows: Vec<u16> = (0..k * ld).map(|i| i as u16 + 1).collect();
            let by = |table: &Bf16Kernels| {
                let mut panel = vec![7; PANEL_COLUMNS * k + 1];
                // SAFETY: rows hold k * ld values, the panel PANEL_COLUMNS * k.
                unsafe { (table.pack_rows)(rows.as_ptr(), ld, k, columns, panel.as_mut_ptr()) };
                panel
            };
            same(format!("{k} rows of {columns}"), &by(table), &by(&bf16::SCALAR))?;
        }
    }
    Ok(())
}

fn product(table: &Bf16Kernels) -> Finding {
    for draw in DRAWS {
        // Around the edges of vectors' tiles of 12 rows and of squares of 32.
        for (m, columns, k) in [(1, 1, 2), (13, 17, 66), (23, 31, 34), (16, 32, 32), (48, 32, 64), (70, 32, 96), (33, 32, 66)] {
            for accumulate in [false, true] {
                let mut numbers = Numbers((m * columns * k) as u64);
                let (lda, ldc) = (k + 6, columns + 3);
                let a = narrowed(&numbers.draw(draw, m * lda, 15));
                let panel = narrowed(&numbers.draw(draw, PANEL_COLUMNS * k, 15));
                let before = numbers.draw(draw, m * ldc, 15);
                let by = |table: &Bf16Kernels| {
                    let mut c = before.clone();
                    let (a, panel, c_at) = (a.as_ptr(), panel.as_ptr(), c.as_mut_ptr());
                    // SAFETY: the matrices hold what the job says.
                    unsafe { (table.product)(&Bf16Product { a, lda, panel, c: c_at, ldc, m, columns, k, accumulate }) };
                    c
                };
                // A product of two bf16 is exact in f32.
                let allowed = budget(draw, 2 * (k + 2), (k + 1) as f64);
                near(format!("{m}x{columns}x{k} {draw:?}"), &by(table), &by(&bf16::SCALAR), |_| allowed)?;
            }
        }
    }
    Ok(())
}
