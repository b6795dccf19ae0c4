//! Pages on a device that is lost: what cannot be read is an error, not zeros.

use std::sync::Arc;

use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::kv::pool::{KvPool, PageShape};
use ctkvr_core::{AttentionShape, Error};
use ctkvr_cuda::Device;
use ctkvr_cuda::kv_pool::{DeviceKvPool, PoolOptions};
use ctkvr_cuda::placement::Placement;
use ctkvr_cuda::stand_in::session;
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PAGE_SIZE};

const SHAPE: PageShape = PageShape { num_heads: 2, head_dim: 64 };

/// Two layers of a KV head each, the last ones in host memory.
fn options(hybrid_layers: usize) -> PoolOptions {
    let shape = AttentionShape { num_layers: 2, num_q_heads: 1, num_kv_heads: 1, head_dim: SHAPE.head_dim, local: None };
    PoolOptions { shape: SHAPE, placement: Placement::new(shape, hybrid_layers), device_budget_bytes: None }
}

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
        let pool = Arc::new(DeviceKvPool::new(device, options(0)));
        let mut table = BlockTable::new(Arc::<DeviceKvPool>::clone(&pool), KvFormat::F16);
        table.reserve(0, 3).unwrap();
        session.set("fail_entry", entry).set("fail_entry_at", call);
        let outcome = use_page(&pool, &mut table);
        assert!(matches!(outcome, Err(Error::DeviceLost { .. })), "{entry}: {outcome:?}");
        assert_eq!(pool.usage().pages, 1, "{entry}");
    }
}

/// Pages come back as they went, wherever their layers are, and between pools that place them otherwise.
#[test]
fn a_page_is_the_same_wherever_its_layers_are() -> ctkvr_core::Result<()> {
    let _session = session();
    let device = Arc::new(Device::open_with(0, &[]).expect("the stand-in has a device"));
    let pools = [0, 1, 2].map(|hybrid_layers| DeviceKvPool::new(Arc::clone(&device), options(hybrid_layers)));
    let mut random = Random(71);
    for format in [KvFormat::F16, KvFormat::Q8] {
        for len in [1, 100, PAGE_SIZE] {
            let bytes: Vec<u8> = (0..SHAPE.exported_bytes(format, len)).map(|_| random.below(256) as u8).collect();
            let mut sent = bytes.clone();
            for pool in &pools {
                let page = pool.import(format, len, &sent)?;
                let mut copy = pool.reserve(format, 1)?.remove(0);
                pool.copy(&page, &mut copy)?;
                sent.clear();
                // SAFETY: so many positions were imported.
                unsafe { pool.export(&copy, len, &mut sent)? };
                assert_eq!(sent, bytes, "{format:?} {len}");
                assert_eq!(pool.usage().bytes, 2 * SHAPE.page_bytes(format));
                [page, copy].into_iter().for_each(|page| pool.release(page));
            }
        }
    }
    Ok(())
}

/// The budget is for the device's part of pages.
#[test]
fn a_budget_bounds_what_is_on_the_device() {
    let _session = session();
    let device = Arc::new(Device::open_with(0, &[]).expect("the stand-in has a device"));
    let page_bytes = SHAPE.page_bytes(KvFormat::F16);
    for (hybrid_layers, most) in [(0, 2), (1, 4)] {
        let budget = PoolOptions { device_budget_bytes: Some(2 * page_bytes), ..options(hybrid_layers) };
        let pool = DeviceKvPool::new(Arc::clone(&device), budget);
        let pages = pool.reserve(KvFormat::F16, most).expect("as many as fit");
        let refused = pool.reserve(KvFormat::F16, 1);
        assert!(matches!(refused, Err(Error::OutOfMemory { available: 0, .. })), "{refused:?}");
        pages.into_iter().for_each(|page| pool.release(page));
    }
}
