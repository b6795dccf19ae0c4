//! Blocks of keys and values widened to f32 for matrix products: keys transposed, so that one query value meets a row of keys.

use ctkvr_kernels::{Kernels, Rows};

/// Keys in one block: a block of widened values fits in the first-level cache.
pub const BLOCK: usize = 128;

/// Widens `rows[first..first + count]` to f32 `[count, head_dim]`.
pub fn widen_rows(kernels: &Kernels, rows: &Rows, first: usize, count: usize, out: &mut [f32]) {
    assert!(first + count <= rows.len() && out.len() >= count * rows.head_dim());
    // SAFETY: the rows exist, and there is room for them.
    unsafe { (kernels.widen_rows)(&rows.part(first, count), out.as_mut_ptr()) };
}

/// Mean of the rows, f32 `[head_dim]`.
pub fn mean_row(kernels: &Kernels, rows: &Rows) -> Vec<f32> {
    let (d, len) = (rows.head_dim(), rows.len());
    let mut sum = vec![0f64; d];
    let mut row = vec![0.0; d];
    for i in 0..len {
        widen_rows(kernels, rows, i, 1, &mut row);
        sum.iter_mut().zip(&row).for_each(|(s, x)| *s += f64::from(*x));
    }
    sum.iter().map(|s| (s / len.max(1) as f64) as f32).collect()
}

/// Transposes `rows` `[count, d]` into `panel` `[d, BLOCK]`; columns from `count` on become 0.
pub fn transpose(rows: &[f32], count: usize, d: usize, panel: &mut [f32]) {
    const TILE: usize = 16;
    for c0 in (0..d).step_by(TILE) {
        for j0 in (0..BLOCK).step_by(TILE) {
            for c in c0..c0 + TILE {
                let out = &mut panel[c * BLOCK + j0..c * BLOCK + j0 + TILE];
                for (j, x) in out.iter_mut().enumerate() {
                    *x = if j0 + j < count { rows[(j0 + j) * d + c] } else { 0.0 };
                }
            }
        }
    }
}
