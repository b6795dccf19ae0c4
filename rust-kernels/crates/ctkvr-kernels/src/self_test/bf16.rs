//! Products in bf16, on vectors and on tiles.

use super::super::Rows;
use super::super::bf16::{self, Bf16Kernels, Bf16Product, PANEL_COLUMNS};
use super::super::bf16_attention::{BF16_BLOCK, BF16_ROWS, BF16_SCORES, Bf16Block};
use super::super::bf16_pack::bf16_depth;
use super::super::table::SCALAR;
use super::{DRAWS, Draw, Finding, Numbers, budget, check_fields, near, rows, same};
use crate::aligned::Aligned;

pub(super) fn check(table: &Bf16Kernels) -> Finding {
    check_fields!(table, Bf16Kernels, no_kernels: [name], narrow: narrow, pack_columns: pack_columns, pack_rows: pack_rows, product: product, pack_keys: pack_keys, pack_values: pack_values, attend_block: attend_block)
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
                    table.product(Bf16Product { a: &a, lda, panel: &panel, c: &mut c, ldc, m, columns, k, accumulate });
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

fn pack_keys(table: &Bf16Kernels) -> Finding {
    packed(table, |table| table.pack_keys)
}

fn pack_values(table: &Bf16Kernels) -> Finding {
    packed(table, |table| table.pack_values)
}

type Pack = unsafe fn(rows: &Rows, panels: *mut u16);

fn packed(table: &Bf16Kernels, kernel: impl Fn(&Bf16Kernels) -> Pack) -> Finding {
    rows::for_rows(&SCALAR, |_, _, rows| {
        let by = |table: &Bf16Kernels| {
            let mut panels = aligned(&vec![7; BF16_BLOCK * bf16_depth(rows.head_dim())]);
            // SAFETY: the panels of a block.
            unsafe { kernel(table)(rows, panels.as_mut_ptr()) };
            panels.to_vec()
        };
        same(format!("{} rows of {} in {:?}", rows.len(), rows.head_dim(), rows.format()), &by(table), &by(&bf16::SCALAR))
    })
}

fn aligned<T: crate::aligned::Number>(x: &[T]) -> Aligned<T> {
    let mut out = Aligned::new();
    out.resize(x.len());
    out.copy_from_slice(x);
    out
}

/// What a block adds to some rows: largest scores, sums, totals.
type Attended = (Vec<f32>, Vec<f32>, Vec<f32>);

fn attend_block(table: &Bf16Kernels) -> Finding {
    for draw in DRAWS {
        // Rows that see all, and rows that see a part, up to their own or of a window; across the edges of passes.
        for (depth, group, num_rows, num_keys, position, window) in [
            (64usize, 3, 9usize, 256, 400, usize::MAX),
            (64, 7, 70, 200, 190, usize::MAX),
            (96, 1, 33, 32, -1, usize::MAX),
            (64, 2, 90, 256, 230, 40),
        ] {
            let mut numbers = Numbers((depth * num_rows) as u64);
            let rows = num_rows.next_multiple_of(BF16_ROWS);
            // Scores of 0 weigh 1 each: with integers for values every sum is exact.
            let largest = if draw == Draw::Integers { 0.0 } else { 0.125 };
            let queries: Vec<f32> = numbers.reals(rows * depth).into_iter().map(|x| x * largest).collect();
            let queries = aligned(&narrowed(&queries));
            let keys = aligned(&narrowed(&numbers.reals(BF16_BLOCK * depth)));
            let values = aligned(&narrowed(&numbers.draw(draw, BF16_BLOCK * depth, 15)));
            let by = |table: &Bf16Kernels| -> Attended {
                let mut scores = aligned(&vec![f32::NAN; BF16_SCORES]);
                let (mut max, mut sum) = (vec![f32::NEG_INFINITY; num_rows], vec![0f32; num_rows]);
                let mut totals = aligned(&vec![0f32; rows * depth]);
                let block = Bf16Block {
                    queries: &queries,
                    keys: &keys,
                    values: &values,
                    scores: &mut scores,
                    max: &mut max,
                    sum: &mut sum,
                    totals: &mut totals,
                    depth,
                    num_rows,
                    group,
                    num_keys,
                    position,
                    window,
                };
                table.attend_block(block);
                (max, sum, totals[..num_rows * depth].to_vec())
            };
            let (got, expected) = (by(table), by(&bf16::SCALAR));
            let what = format!("{num_rows} rows of {depth} over {num_keys} keys, {draw:?}");
            let score = budget(draw, depth, f64::from(largest) * depth as f64);
            near(format!("the largest score of {what}"), &got.0, &expected.0, |_| score)?;
            // A weight moves with its score and with the largest one, and is rounded to bf16 for the totals.
            let weight = if draw == Draw::Integers { 0.0 } else { 4.0 * score + 300.0 * f64::from(f32::EPSILON) };
            near(format!("the sum of {what}"), &got.1, &expected.1, |sum| weight * sum)?;
            let rounding = if draw == Draw::Integers { 0.0 } else { 2f64.powi(-8) + 2.0 * weight };
            near(format!("the totals of {what}"), &got.2, &expected.2, |_| rounding * num_keys as f64)?;
        }
    }
    Ok(())
}
