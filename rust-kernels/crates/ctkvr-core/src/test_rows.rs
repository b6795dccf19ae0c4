//! Small stores for the unit tests of this crate.

use ctkvr_kernels::KvFormat;
pub(crate) use ctkvr_kernels::testing::{Random, dot, tables};

use crate::kv::head_kv::HeadKv;

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
