//! Pages on a device that is lost: what cannot be read is an error, not zeros.

use std::sync::Arc;

use ctkvr_core::Error;
use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::kv::pool::{KvPool, PageShape};
use ctkvr_cuda::Device;
use ctkvr_cuda::kv_pool::DeviceKvPool;
use ctkvr_cuda::stand_in::session;
use ctkvr_kernels::{KvFormat, PAGE_SIZE};

const SHAPE: PageShape = PageShape { num_heads: 2, head_dim: 64 };

/// What each use of a page says when the device is lost in the entry point named.
#[test]
fn a_lost_device_is_told_by_whatever_uses_a_page() {
    type Use = fn(&Arc<DeviceKvPool>, &mut BlockTable) -> Result<(), Error>;
    // The call that fails, counted from 1: the page of before took one.
    let uses: [(&str, usize, Use); 4] = [
        ("cuMemAlloc_v2", 2, |_, table| table.reserve(3, PAGE_SIZE + 1)),
        ("cuMemcpyDtoHAsync_v2", 1, |_, table| {
            let mut out = Vec::new();
            // SAFETY: positions of a test, whatever they hold.
            let exported = unsafe { table.export_page(0, 3, &mut out) };
            assert!(out.is_empty());
            exported
        }),
        ("cuMemcpyDtoDAsync_v2", 1, |_, table| {
            let other = table.fork();
            let reserved = table.reserve(3, PAGE_SIZE + 1);
            assert_eq!((table.pages().len(), table.shared_bytes()), (1, other.bytes()));
            reserved
        }),
        ("cuMemcpyHtoDAsync_v2", 1, |pool, _| {
            let bytes = vec![0; SHAPE.exported_bytes(KvFormat::F16, 3)];
            pool.import(KvFormat::F16, 3, &bytes).map(|page| pool.release(page))
        }),
    ];
    for (entry, call, use_page) in uses {
        let session = session();
        let device = Arc::new(Device::open_with(0, &[]).unwrap());
        let pool = Arc::new(DeviceKvPool::new(device, SHAPE, None));
        let mut table = BlockTable::new(Arc::<DeviceKvPool>::clone(&pool), KvFormat::F16);
        table.reserve(0, 3).unwrap();
        session.set("fail_entry", entry).set("fail_entry_at", call);
        let outcome = use_page(&pool, &mut table);
        assert!(matches!(outcome, Err(Error::DeviceLost { .. })), "{entry}: {outcome:?}");
        assert_eq!(pool.usage().pages, 1, "{entry}");
    }
}
