//! The ledger itself, on a kernel whose accesses are known: each of 3 blocks of 128 threads reads the same 128 numbers, and writes one.

use ctkvr_cuda::stand_in::ledger::{Counted, Memory};
use ctkvr_cuda::stand_in::session;
use ctkvr_cuda::{Device, DeviceBuffer, Family, Grid, Span, kernel};

kernel! {
    fn sum_with_a_barrier(values: Span<i32>, out: Span<i32>);
}

const FAMILY: Family = Family { file: "faults", kernels: &[sum_with_a_barrier::DECLARATION] };

fn launch(device: &Device, values: Span<i32>, out: Span<i32>) {
    // SAFETY: 128 numbers, and one for each block.
    unsafe { sum_with_a_barrier::launch(device, device.compute(), Grid::new(3, 128), values, out) }.unwrap();
    device.compute().wait().unwrap();
}

#[test]
fn each_byte_counts_once_a_launch_and_once_a_block_and_as_often_as_it_is_asked_for() {
    let session = session();
    let device = Device::open_with(0, &[FAMILY]).unwrap();
    let values = DeviceBuffer::<i32>::zeroed(&device, 128).unwrap();
    let out = DeviceBuffer::new(&device, 3).unwrap();
    let once =
        Counted { launches: 1, passed: 512, written: 12, by_blocks: 3 * 512, asked: 3 * 512, sectors: 512, ..Counted::default() };
    launch(&device, values.span(), out.span());
    assert_eq!(session.counted("sum_with_a_barrier"), once);
    session.forget_counted();
    assert_eq!(session.counted("sum_with_a_barrier"), Counted::default());

    session.memory(values.span(), Memory::Stored);
    for launches in 1..3 {
        launch(&device, values.span(), out.span());
        let counted = session.counted("sum_with_a_barrier");
        assert_eq!((counted.stored, counted.passed, counted.fresh), (launches * 512, 0, 512));
    }
}

#[test]
fn bookkeeping_counts_apart() {
    let session = session();
    let device = Device::open_with(0, &[FAMILY]).unwrap();
    let values = DeviceBuffer::<i32>::zeroed(&device, 128).unwrap();
    let out = DeviceBuffer::new(&device, 3).unwrap();
    session.memory(values.span().part(0..32), Memory::Bookkeeping);
    session.memory(out.span(), Memory::Bookkeeping);
    launch(&device, values.span(), out.span());
    let counted = session.counted("sum_with_a_barrier");
    assert_eq!((counted.bookkeeping, counted.passed, counted.written), (128, 384, 0));
    assert_eq!((counted.by_blocks, counted.asked, counted.sectors), (3 * 384, 3 * 384, 384));
}

/// Addresses come back: what was there before says nothing of what is there now.
#[test]
fn freed_memory_is_nothing_in_particular() {
    let session = session();
    let device = Device::open_with(0, &[FAMILY]).unwrap();
    let out = DeviceBuffer::new(&device, 3).unwrap();
    let before = DeviceBuffer::<i32>::zeroed(&device, 128).unwrap();
    session.memory(before.span(), Memory::Stored);
    let address = before.span().address();
    drop(before);
    // Others of the same size may be given first.
    let mut others = Vec::new();
    let values = loop {
        let values = DeviceBuffer::<i32>::zeroed(&device, 128).unwrap();
        if values.span().address() == address {
            break values;
        }
        others.push(values);
    };
    launch(&device, values.span(), out.span());
    let counted = session.counted("sum_with_a_barrier");
    assert_eq!((counted.stored, counted.passed), (0, 512));
}
