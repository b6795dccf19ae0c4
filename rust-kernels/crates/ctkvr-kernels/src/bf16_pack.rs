//! Rows of keys and values as panels of bf16, straight from how they are stored.

use super::bf16::PANEL_COLUMNS;

/// A head's values rounded up to whole panels.
pub const fn bf16_depth(head_dim: usize) -> usize {
    head_dim.next_multiple_of(PANEL_COLUMNS)
}

/// One value at a time: the plain form the other one is tested against.
pub(super) mod scalar {
    use super::super::bf16_attention::BF16_BLOCK;
    use super::super::rows::Rows;
    use super::super::simd::Scalar;
    use super::super::{bf16, generic};
    use super::{PANEL_COLUMNS, bf16_depth};

    /// bf16 `[BF16_BLOCK, depth]`; what is beyond the rows and their values is 0.
    fn narrowed(rows: &Rows) -> Vec<u16> {
        let (d, depth) = (rows.head_dim(), bf16_depth(rows.head_dim()));
        let mut wide = vec![0.0; rows.len() * d];
        let mut narrow = vec![0; BF16_BLOCK * depth];
        // SAFETY: there is room for the caller's rows.
        unsafe { generic::widen_rows::<Scalar>(rows, wide.as_mut_ptr()) };
        for (row, out) in wide.chunks_exact(d).zip(narrow.chunks_exact_mut(depth)) {
            // SAFETY: both hold d values.
            unsafe { (bf16::SCALAR.narrow)(row.as_ptr(), d, out.as_mut_ptr()) };
        }
        narrow
    }

    pub(in super::super) unsafe fn pack_keys(rows: &Rows, panels: *mut u16) {
        let (narrow, depth) = (narrowed(rows), bf16_depth(rows.head_dim()));
        for i in 0..rows.len().next_multiple_of(PANEL_COLUMNS) {
            for c in 0..depth {
                let at = (i / PANEL_COLUMNS * (depth / 2) + c / 2) * PANEL_COLUMNS + i % PANEL_COLUMNS;
                // SAFETY: the caller's panels hold BF16_BLOCK * depth values.
                unsafe { *panels.add(2 * at + c % 2) = narrow[i * depth + c] };
            }
        }
    }

    pub(in super::super) unsafe fn pack_values(rows: &Rows, panels: *mut u16) {
        let (narrow, depth) = (narrowed(rows), bf16_depth(rows.head_dim()));
        for i in 0..rows.len().next_multiple_of(PANEL_COLUMNS) {
            for c in 0..depth {
                let at = (c / PANEL_COLUMNS * (BF16_BLOCK / 2) + i / 2) * PANEL_COLUMNS + c % PANEL_COLUMNS;
                // SAFETY: the caller's panels hold depth * BF16_BLOCK values.
                unsafe { *panels.add(2 * at + i % 2) = narrow[i * depth + c] };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

    use super::super::bf16::avx512::transpose;
    use super::super::bf16_attention::BF16_BLOCK;
    use super::super::generic::{BYTES_AHEAD, CACHE_LINE, rows_in};
    use super::super::kv_format::KvFormat;
    use super::super::rows::{F16, Q8, RowFormat, Rows};
    use super::super::simd::Avx512;
    use super::{PANEL_COLUMNS, bf16_depth};
    use std::arch::x86_64::*;

    /// bf16 pairs, or f32 values, in one vector.
    const LANES: usize = 16;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    pub(in super::super) unsafe fn pack_keys(rows: &Rows, panels: *mut u16) {
        unsafe {
            match rows.format() {
                KvFormat::F16 => pack_keys_of::<F16>(rows, panels),
                KvFormat::Q8 => pack_keys_of::<Q8>(rows, panels),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    pub(in super::super) unsafe fn pack_values(rows: &Rows, panels: *mut u16) {
        unsafe {
            match rows.format() {
                KvFormat::F16 => pack_values_of::<F16>(rows, panels),
                KvFormat::Q8 => pack_values_of::<Q8>(rows, panels),
            }
        }
    }

    /// 32 values of a row from column c on; 0 beyond its end.
    #[inline(always)]
    unsafe fn load<F: RowFormat>(row: F::Row, c: usize, d: usize) -> __m512i {
        unsafe {
            let low = F::load::<Avx512>(row, c);
            let high = if c + LANES < d { F::load::<Avx512>(row, c + LANES) } else { _mm512_setzero_ps() };
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    /// The same of row i, or 0 beyond the rows.
    #[inline(always)]
    unsafe fn load_or_zero<F: RowFormat>(rows: &Rows, i: usize, c: usize) -> __m512i {
        unsafe { if i < rows.len() { load::<F>(F::row(rows, i), c, rows.head_dim()) } else { _mm512_setzero_si512() } }
    }

    /// Asks for row i, if it is one that will be read: into all caches, since the next item of the prompt reads it again. (On Intel's
    /// servers what is asked for past the second cache is in none afterwards, and comes from memory each time.)
    #[inline(always)]
    unsafe fn prefetch<F: RowFormat>(rows: &Rows, i: usize) {
        if i < rows.reach() {
            unsafe {
                F::for_pieces(F::row(rows, i), rows.head_dim(), |start, bytes| {
                    for offset in (0..bytes).step_by(CACHE_LINE) {
                        _mm_prefetch::<_MM_HINT_T0>(start.add(offset).cast());
                    }
                });
            }
        }
    }

    /// Asks for the first rows, of which nobody comes before.
    #[inline(always)]
    unsafe fn prefetch_first<F: RowFormat>(rows: &Rows, count: usize) {
        (0..count.min(rows.len())).for_each(|i| unsafe { prefetch::<F>(rows, i) });
    }

    #[inline(always)]
    unsafe fn pack_keys_of<F: RowFormat>(rows: &Rows, panels: *mut u16) {
        let (d, len) = (rows.head_dim(), rows.len());
        let (depth, ahead) = (bf16_depth(d), rows_in::<F>(BYTES_AHEAD, d));
        unsafe {
            prefetch_first::<F>(rows, ahead);
            for first in (0..len.next_multiple_of(PANEL_COLUMNS)).step_by(LANES) {
                let panel = panels.add(first / PANEL_COLUMNS * depth * PANEL_COLUMNS + first % PANEL_COLUMNS * 2);
                (first..first + LANES).for_each(|i| prefetch::<F>(rows, i + ahead));
                for c in (0..depth).step_by(2 * LANES) {
                    let mut tile = [_mm512_setzero_si512(); LANES];
                    if first + LANES <= len {
                        for (r, x) in tile.iter_mut().enumerate() {
                            *x = load::<F>(F::row(rows, first + r), c, d);
                        }
                    } else {
                        for (r, x) in tile.iter_mut().enumerate() {
                            *x = load_or_zero::<F>(rows, first + r, c);
                        }
                    }
                    for (r, x) in transpose(tile).into_iter().enumerate() {
                        _mm512_storeu_si512(panel.add((c / 2 + r) * PANEL_COLUMNS * 2).cast(), x);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_values_of<F: RowFormat>(rows: &Rows, panels: *mut u16) {
        let (d, len) = (rows.head_dim(), rows.len());
        let (depth, ahead) = (bf16_depth(d), rows_in::<F>(BYTES_AHEAD, d));
        // Values 0, 32, 1, 33 and so on of two vectors, and from 16 on.
        let mut low = [0u16; 2 * LANES];
        for (i, x) in low.iter_mut().enumerate() {
            *x = (i / 2 + i % 2 * 2 * LANES) as u16;
        }
        unsafe {
            let low = _mm512_loadu_si512(low.as_ptr().cast());
            let high = _mm512_add_epi16(low, _mm512_set1_epi16(LANES as i16));
            prefetch_first::<F>(rows, ahead);
            for i in (0..len.next_multiple_of(PANEL_COLUMNS)).step_by(2) {
                prefetch::<F>(rows, i + ahead);
                prefetch::<F>(rows, i + 1 + ahead);
                for c in (0..depth).step_by(PANEL_COLUMNS) {
                    let (first, second) = (load_or_zero::<F>(rows, i, c), load_or_zero::<F>(rows, i + 1, c));
                    let out = panels.add(c * BF16_BLOCK + i * PANEL_COLUMNS);
                    _mm512_storeu_si512(out.cast(), _mm512_permutex2var_epi16(first, low, second));
                    _mm512_storeu_si512(out.add(PANEL_COLUMNS).cast(), _mm512_permutex2var_epi16(first, high, second));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::tests::all;
    use crate::testing::{Random, TestPages};
    use crate::{BF16_BLOCK, KvFormat};

    #[test]
    fn panels_are_the_same_everywhere() {
        for (d, format) in [(16, KvFormat::F16), (64, KvFormat::F16), (80, KvFormat::F16), (64, KvFormat::Q8), (96, KvFormat::Q8)] {
            let mut random = Random(d as u64);
            let len = BF16_BLOCK + 40;
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for _ in 0..len {
                keys.extend(random.reals(d, 3));
                values.extend(random.reals(d, 3));
            }
            let kv = TestPages::new(&keys, &values, d, format);
            for (first, count) in [(0, 1), (5, 31), (0, 32), (7, 33), (40, BF16_BLOCK)] {
                let panels: Vec<_> = all()
                    .iter()
                    .map(|kernels| {
                        let mut panels = vec![vec![7u16; BF16_BLOCK * bf16_depth(d)]; 2];
                        // SAFETY: panels of a whole block.
                        unsafe {
                            (kernels.pack_keys)(&kv.keys(first, len - first).part(0, count), panels[0].as_mut_ptr());
                            (kernels.pack_values)(&kv.values(first, len - first).part(0, count), panels[1].as_mut_ptr());
                        }
                        panels
                    })
                    .collect();
                assert!(panels.iter().all(|p| *p == panels[0]), "d {d} {format:?} {count} rows from {first}");
            }
        }
    }
}
