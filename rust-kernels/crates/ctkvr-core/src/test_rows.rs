//! Small stores for the unit tests of selectors.

use half::f16;

use crate::kernels::{Kernels, KvFormat};
use crate::kv::HeadKv;

/// A small generator (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// n integers from -most to most.
    pub(crate) fn integers(&mut self, n: usize, most: i64) -> Vec<f32> {
        (0..n).map(|_| (self.below(2 * most as u64 + 1) as i64 - most) as f32).collect()
    }

    /// n multiples of 1/1024 from -most to most: f16 holds them well enough, and their sums have no ties to speak of.
    pub(crate) fn reals(&mut self, n: usize, most: i64) -> Vec<f32> {
        self.integers(n, most * 1024).into_iter().map(|x| f16::from_f32(x / 1024.0).to_f32()).collect()
    }
}

/// Keys and values f32 `[n, d]` as a store.
pub(crate) fn store(keys: &[f32], values: &[f32], d: usize) -> HeadKv {
    let mut kv = HeadKv::new(d, KvFormat::F16);
    kv.reserve(0, keys.len() / d).expect("a small store");
    for (i, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
        // SAFETY: reserved above; each row holds d values.
        unsafe { kv.store(tables(d)[0], i, key.as_ptr(), value.as_ptr()) };
    }
    kv
}

/// Every table of this machine that can do heads of d values.
pub(crate) fn tables(d: usize) -> Vec<&'static Kernels> {
    Kernels::available().into_iter().filter(|k| d.is_multiple_of(k.lanes)).collect()
}

/// f64 inner product.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
