//! Mean keys and mean values of a segment's clusters: f16, or 8 bits where a segment is long enough for them to take less.

use std::borrow::Cow;

use ctkvr_kernels::{Kernels, KvFormat, KvSide, Q8_BLOCK, Rows};
use half::f16;

use crate::kv::f16_rows::F16Rows;
use crate::kv::q8_pages::Q8Pages;

/// `[num_clusters, head_dim]` each.
#[derive(Debug, PartialEq)]
pub enum ClusterMeans {
    Exact { keys: F16Rows, values: F16Rows },
    Rounded(Q8Pages),
}

impl ClusterMeans {
    /// Of f32 `[n, head_dim]`.
    pub fn new(kernels: &Kernels, keys: &[f32], values: &[f32], head_dim: usize, format: KvFormat) -> Self {
        if format == KvFormat::Q8 && rounding_pays(keys.len() / head_dim, head_dim) {
            return Self::Rounded(Q8Pages::rounded(kernels, keys, values, head_dim));
        }
        let narrowed = |rows| F16Rows::narrowed(kernels, rows, head_dim);
        Self::Exact { keys: narrowed(keys), values: narrowed(values) }
    }

    pub fn format(&self) -> KvFormat {
        match self {
            Self::Exact { .. } => KvFormat::F16,
            Self::Rounded(_) => KvFormat::Q8,
        }
    }

    /// Clusters; `None` where the two sides do not have the same number.
    pub fn num_clusters(&self) -> Option<usize> {
        match self {
            Self::Exact { keys, values } => Some(keys.len()).filter(|&n| n == values.len()),
            Self::Rounded(pages) => Some(pages.len()),
        }
    }

    pub fn keys(&self) -> Rows<'_> {
        match self {
            Self::Exact { keys, .. } => keys.rows(),
            Self::Rounded(pages) => pages.rows(KvSide::Keys),
        }
    }

    pub fn values(&self) -> Rows<'_> {
        match self {
            Self::Exact { values, .. } => values.rows(),
            Self::Rounded(pages) => pages.rows(KvSide::Values),
        }
    }

    /// Asks for all mean keys.
    pub fn prefetch_keys(&self, kernels: &Kernels) {
        match self {
            Self::Exact { keys, .. } => kernels.prefetch(keys.values()),
            Self::Rounded(pages) => pages.prefetch(kernels, KvSide::Keys),
        }
    }

    /// Asks for all mean values.
    pub fn prefetch_values(&self, kernels: &Kernels) {
        match self {
            Self::Exact { values, .. } => kernels.prefetch(values.values()),
            Self::Rounded(pages) => pages.prefetch(kernels, KvSide::Values),
        }
    }

    /// Mean keys in f16, `[num_clusters, head_dim]`: for who reads no other format. Rounded once more where they are in 8 bits.
    pub fn keys_in_f16(&self) -> Cow<'_, [u16]> {
        match self {
            Self::Exact { keys, .. } => keys.values().into(),
            Self::Rounded(pages) => narrowed(&pages.rows(KvSide::Keys)).into(),
        }
    }

    /// Likewise mean values.
    pub fn values_in_f16(&self) -> Cow<'_, [u16]> {
        match self {
            Self::Exact { values, .. } => values.values().into(),
            Self::Rounded(pages) => narrowed(&pages.rows(KvSide::Values)).into(),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Exact { keys, values } => keys.bytes() + values.bytes(),
            Self::Rounded(pages) => size_of_val(pages.words()),
        }
    }

    /// Bytes of a mean key, or a mean value.
    pub fn row_bytes(&self) -> usize {
        self.format().row_bytes(self.keys().head_dim())
    }
}

/// Whether means of so many clusters take no more memory in 8 bits, whose last page is whole, than in f16.
fn rounding_pays(num_clusters: usize, head_dim: usize) -> bool {
    let f16_words = num_clusters * head_dim * 2 * size_of::<u16>() / size_of::<u32>();
    head_dim.is_multiple_of(Q8_BLOCK) && Q8Pages::num_words(num_clusters, head_dim) <= f16_words
}

fn narrowed(rows: &Rows) -> Vec<u16> {
    // The plain kernels are there on every machine, and take any head that q8 takes.
    let kernels = Kernels::named("scalar", rows.head_dim()).expect("the plain kernels take whole blocks of 32");
    let mut wide = vec![0.0; rows.len() * rows.head_dim()];
    kernels.widen_rows(rows, &mut wide);
    wide.iter().map(|&x| f16::from_f32(x).to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, tables};

    #[test]
    fn eight_bits_only_where_they_take_no_more() {
        let kernels = tables(64)[0];
        for (n, head_dim, format) in [
            (143, 64, KvFormat::F16),
            (144, 64, KvFormat::Q8),
            (256, 64, KvFormat::Q8),
            (287, 128, KvFormat::F16),
            (288, 128, KvFormat::Q8),
            (500, 48, KvFormat::F16),
        ] {
            let rows = Random(n as u64).reals(n * head_dim, 2);
            let means = ClusterMeans::new(kernels, &rows, &rows, head_dim, KvFormat::Q8);
            assert_eq!((means.format(), means.num_clusters()), (format, Some(n)), "{n} of {head_dim}");
            assert!(means.bytes() <= n * head_dim * 4);
            assert_eq!(ClusterMeans::new(kernels, &rows, &rows, head_dim, KvFormat::F16).format(), KvFormat::F16);
        }
    }

    /// Small integers with a block's largest at 127 are the same in both formats.
    #[test]
    fn what_both_formats_hold_comes_back_in_f16() {
        let (n, d) = (300, 64);
        let mut random = Random(3);
        let mut rows = || -> Vec<f32> {
            let mut rows = random.integers(n * d, 100);
            rows.iter_mut().step_by(32).for_each(|x| *x = 127.0);
            rows
        };
        let (keys, values) = (rows(), rows());
        let kernels = tables(d)[0];
        let [exact, rounded] = [KvFormat::F16, KvFormat::Q8].map(|format| ClusterMeans::new(kernels, &keys, &values, d, format));
        assert_eq!(rounded.format(), KvFormat::Q8);
        assert_eq!((exact.keys_in_f16(), exact.values_in_f16()), (rounded.keys_in_f16(), rounded.values_in_f16()));
    }
}
