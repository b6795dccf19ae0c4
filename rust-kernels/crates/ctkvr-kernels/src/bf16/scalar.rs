//! One value at a time: the plain form the other one is tested against.

use super::{PANEL_COLUMNS, RawProduct};
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

pub(super) unsafe fn product(p: &RawProduct) {
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
