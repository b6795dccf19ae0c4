//! Small stores for the unit tests of this crate.

use std::sync::Arc;

pub(crate) use ctkvr_kernels::testing::{Random, dot, few, tables};
use ctkvr_kernels::{KvFormat, Rows};

use crate::kv::block_table::BlockTable;
use crate::kv::head_kv::HeadKv;
use crate::kv::host_pool::HostKvPool;
use crate::kv::pool::PageShape;

/// Keys and values of one head.
pub(crate) struct StoredHead(BlockTable);

impl StoredHead {
    pub fn head(&self) -> HeadKv<'_> {
        self.0.head(0)
    }

    pub fn keys(&self, start: usize, len: usize) -> Rows<'_> {
        self.head().keys(start, len)
    }

    pub fn values(&self, start: usize, len: usize) -> Rows<'_> {
        self.head().values(start, len)
    }
}

/// Keys and values f32 `[n, d]` as a store.
pub(crate) fn store(keys: &[f32], values: &[f32], d: usize) -> StoredHead {
    let pool = HostKvPool::new(PageShape { num_heads: 1, head_dim: d }, None);
    let mut stored = StoredHead(BlockTable::new(Arc::new(pool), KvFormat::F16));
    stored.0.reserve(0, keys.len() / d).expect("a small store");
    for (i, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
        // SAFETY: reserved above; each row holds d values.
        unsafe { stored.head().store(tables(d)[0], i, key.as_ptr(), value.as_ptr()) };
    }
    stored
}
