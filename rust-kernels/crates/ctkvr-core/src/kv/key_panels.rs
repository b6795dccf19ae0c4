//! The keys of a region, laid out for products with some queries at a time: f32, or bf16 where there are kernels for it.

use crate::error::{Error, Result};
use crate::kv::panels::{BLOCK, transpose, widen_rows};
use ctkvr_kernels::{Bf16Kernels, Bf16Product, Gemm, Kernels, PANEL_COLUMNS, Rows};

/// Keys from which on products are in bf16: a list of fewer keys is quickly made, and small cases stay exact.
const MIN_BF16_KEYS: usize = 2048;

/// One layout of all keys; those past the last are 0.
pub struct KeyPanels<'a> {
    kernels: &'a Kernels,
    d: usize,
    /// Keys, rounded up to whole blocks.
    stride: usize,
    panels: Panels,
    /// Reused memory of [`KeyPanels::score`]: queries in bf16.
    narrow_queries: Vec<u16>,
}

enum Panels {
    /// `[stride / BLOCK, d, BLOCK]`.
    Wide(Vec<f32>),
    /// bf16 `[stride / PANEL_COLUMNS, d / 2, PANEL_COLUMNS, 2]`.
    Narrow(&'static Bf16Kernels, Vec<u16>),
}

impl<'a> KeyPanels<'a> {
    pub fn new(kernels: &'a Kernels, keys: &Rows) -> Result<Self> {
        let (d, n) = (keys.head_dim(), keys.len());
        let stride = n.next_multiple_of(BLOCK);
        let mut panels = match kernels.bf16.filter(|_| n >= MIN_BF16_KEYS) {
            Some(bf16) => Panels::Narrow(bf16, vec![0; stride * d]),
            None => Panels::Wide(vec![0.0; stride * d]),
        };
        let (mut rows, mut narrow_rows) = (vec![0.0; BLOCK * d], vec![0; BLOCK * d]);
        for (b, first) in (0..n).step_by(BLOCK).enumerate() {
            let count = BLOCK.min(n - first);
            widen_rows(kernels, keys, first, count, &mut rows);
            check_finite(first * d, &rows[..count * d])?;
            let block = b * d * BLOCK..(b + 1) * d * BLOCK;
            match &mut panels {
                Panels::Wide(panels) => transpose(&rows[..count * d], count, d, &mut panels[block]),
                Panels::Narrow(bf16, panels) => {
                    rows[count * d..].fill(0.0);
                    let size = PANEL_COLUMNS * d;
                    // SAFETY: a block holds whole panels, in rows and packed.
                    unsafe {
                        (bf16.narrow)(rows.as_ptr(), BLOCK * d, narrow_rows.as_mut_ptr());
                        for (rows, panel) in narrow_rows.chunks_exact(size).zip(panels[block].chunks_exact_mut(size)) {
                            (bf16.pack_columns)(rows.as_ptr(), d, panel.as_mut_ptr());
                        }
                    }
                }
            }
        }
        Ok(Self { kernels, d, stride, panels, narrow_queries: Vec::new() })
    }

    /// Values from one row of scores to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Writes every query (f32 `[rows, d]`) times every key to `out`, f32 `[rows, stride]`.
    pub fn score(&mut self, queries: &[f32], out: &mut [f32]) {
        let (d, rows) = (self.d, queries.len() / self.d);
        assert!(out.len() >= rows * self.stride);
        match &self.panels {
            Panels::Wide(panels) => {
                for (panel, first) in panels.chunks_exact(d * BLOCK).zip((0..).step_by(BLOCK)) {
                    let product = Gemm {
                        a: queries.as_ptr(),
                        lda: d,
                        b: panel.as_ptr(),
                        ldb: BLOCK,
                        c: out[first..].as_mut_ptr(),
                        ldc: self.stride,
                        m: rows,
                        n: BLOCK,
                        k: d,
                        accumulate: false,
                    };
                    // SAFETY: out holds rows * stride values, a panel d * BLOCK.
                    unsafe { (self.kernels.gemm)(&product) };
                }
            }
            Panels::Narrow(bf16, panels) => {
                self.narrow_queries.resize(queries.len(), 0);
                // SAFETY: both hold as many values.
                unsafe { (bf16.narrow)(queries.as_ptr(), queries.len(), self.narrow_queries.as_mut_ptr()) };
                for (panel, first) in panels.chunks_exact(d * PANEL_COLUMNS).zip((0..).step_by(PANEL_COLUMNS)) {
                    let product = Bf16Product {
                        a: self.narrow_queries.as_ptr(),
                        lda: d,
                        panel: panel.as_ptr(),
                        c: out[first..].as_mut_ptr(),
                        ldc: self.stride,
                        m: rows,
                        columns: PANEL_COLUMNS,
                        k: d,
                        accumulate: false,
                    };
                    // SAFETY: as above; d is even.
                    unsafe { (bf16.product)(&product) };
                }
            }
        }
    }
}

/// Finite f16-sized keys and queries cannot make a score that is not. `first`: what comes before.
fn check_finite(first: usize, keys: &[f32]) -> Result<()> {
    // All of them first, without a way out: many at a time.
    if keys.iter().fold(true, |all, x| all & x.is_finite()) {
        return Ok(());
    }
    let index = first + keys.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(Error::NonFinite { op: "buildIndex", what: "keys", index })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, dot, store, tables};

    const D: usize = 64;

    /// Small integers: exact in bf16 too. Sizes around a block's, and on both sides of where bf16 begins.
    #[test]
    fn every_query_meets_every_key() -> Result<()> {
        for kernels in tables(D) {
            for n in [1, BLOCK - 1, BLOCK + 1, MIN_BF16_KEYS - 1, MIN_BF16_KEYS, MIN_BF16_KEYS + 33] {
                let mut random = Random(n as u64);
                let (keys, queries) = (random.integers(n * D, 8), random.integers(7 * D, 8));
                let kv = store(&keys, &keys, D);
                let mut panels = KeyPanels::new(kernels, &kv.keys(0, n))?;
                let stride = panels.stride();
                let mut scores = vec![f32::NAN; 7 * stride];
                panels.score(&queries, &mut scores);
                for (row, query) in scores.chunks_exact(stride).zip(queries.chunks_exact(D)) {
                    for (score, key) in row.iter().zip(keys.chunks_exact(D)) {
                        assert_eq!(f64::from(*score), dot(query, key), "{} n {n}", kernels.name);
                    }
                    assert!(row[n..].iter().all(|x| *x == 0.0));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_key_that_is_not_finite_is_named() {
        let mut keys = vec![1.0; 300 * D];
        keys[200 * D + 5] = f32::INFINITY;
        let kv = store(&keys, &keys, D);
        for kernels in tables(D) {
            let error = KeyPanels::new(kernels, &kv.keys(0, 300)).err();
            assert_eq!(error, Some(Error::NonFinite { op: "buildIndex", what: "keys", index: 200 * D + 5 }), "{}", kernels.name);
        }
    }
}
