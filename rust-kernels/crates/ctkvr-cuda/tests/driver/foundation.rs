//! The ground that kernels stand on: memory, streams, launches, errors, against the stand-in driver.

use crate::fill;
use crate::fill::fill;
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error, Family, Grid, PinnedBuffer, Span, kernel};

/// What new memory holds.
const POISON: u32 = 0xeeee_eeee;

fn open() -> Device {
    Device::open_with(0, &[fill::FAMILY]).unwrap()
}

#[test]
fn a_kernel_writes_what_it_should_and_nothing_else_in_every_order() {
    let session = session();
    let device = open();
    for order in ORDERS {
        session.order(order);
        for count in [0, 1, 31, 32, 255, 256, 257, 1000] {
            let out = DeviceBuffer::<u32>::new(&device, 1024).unwrap();
            fill(&device, device.compute(), out.span(), count, 7).unwrap();
            let values = out.to_vec(&device).unwrap();
            assert!(values[..count].iter().all(|v| *v == 7), "{order:?} {count}");
            assert!(values[count..].iter().all(|v| *v == POISON), "{order:?} {count}");
        }
    }
}

#[test]
fn copies_go_there_and_back_and_lengths_are_checked() {
    let _session = session();
    let device = open();
    let buffer = DeviceBuffer::from_slice(&device, &[1.5f32, 2.5, 3.5]).unwrap();
    assert_eq!(buffer.to_vec(&device).unwrap(), [1.5, 2.5, 3.5]);
    let mut two = [0f32; 2];
    device.compute().copy_out(&mut two, buffer.span().part(1..3)).unwrap();
    assert_eq!(two, [2.5, 3.5]);
    let e = device.compute().copy_in(buffer.span(), &two).unwrap_err();
    assert_eq!(e, Error::Length { what: "a copy to the device", expected: 2, actual: 3 });
    assert_eq!(DeviceBuffer::<i32>::zeroed(&device, 3).unwrap().to_vec(&device).unwrap(), [0; 3]);
    assert!(DeviceBuffer::<i32>::new(&device, 0).unwrap().to_vec(&device).unwrap().is_empty());
    let e = fill(&device, device.compute(), buffer.span().cast(), 4, 0).unwrap_err();
    assert_eq!(e, Error::Length { what: "fill: out", expected: 4, actual: 3 });
}

/// Copies on one stream, a fill on the other.
fn fill_after_a_copy(device: &Device, wait: bool) -> Vec<u32> {
    let buffer = DeviceBuffer::<u32>::new(device, 4).unwrap();
    let mut pinned = PinnedBuffer::<u32>::new(device, 4).unwrap();
    pinned.as_mut_slice().copy_from_slice(&[1, 2, 3, 4]);
    let copied = device.event().unwrap();
    // SAFETY: the buffer lives, untouched, until the wait below.
    unsafe { device.copy().copy_in_pinned(buffer.span(), pinned.span()) }.unwrap();
    device.copy().record(&copied).unwrap();
    if wait {
        device.compute().wait_for(&copied).unwrap();
    }
    fill(device, device.compute(), buffer.span(), 2, 9).unwrap();
    device.copy().wait().unwrap();
    buffer.to_vec(device).unwrap()
}

#[test]
fn an_event_orders_streams_and_a_forgotten_wait_is_found_out() {
    let session = session();
    let mut wrong = 0;
    for seed in 0..8 {
        session.seed(seed);
        let device = open();
        assert_eq!(fill_after_a_copy(&device, true), [9, 9, 3, 4]);
        wrong += usize::from(fill_after_a_copy(&device, false) != [9, 9, 3, 4]);
    }
    assert!(wrong > 0, "no seed shows it");
}

#[test]
fn a_captured_graph_runs_as_often_as_it_is_launched() {
    let session = session();
    let device = open();
    let buffer = DeviceBuffer::<u32>::zeroed(&device, 8).unwrap();
    let event = device.event().unwrap();
    let back = device.event().unwrap();
    let graph = device.compute().capture(|| {
        device.compute().record(&event)?;
        device.copy().wait_for(&event)?;
        fill(&device, device.copy(), buffer.span().part(4..8), 4, 2)?;
        device.copy().record(&back)?;
        fill(&device, device.compute(), buffer.span().part(0..4), 4, 1)?;
        device.compute().wait_for(&back)
    });
    let graph = graph.unwrap();
    assert_eq!(buffer.to_vec(&device).unwrap(), [0; 8], "capture runs nothing");
    for _ in 0..2 {
        device.compute().fill(buffer.span(), 0).unwrap();
        device.compute().launch_graph(&graph).unwrap();
        assert_eq!(buffer.to_vec(&device).unwrap(), [1, 1, 1, 1, 2, 2, 2, 2]);
    }
    assert_eq!(session.count("launches"), 4);
    let copied = device.compute().capture(|| device.compute().copy_in(buffer.span(), &[1; 8]));
    assert!(matches!(copied.err(), Some(Error::Driver { code: 900, .. })), "a graph would keep the address of pageable memory");
    let allocated = device.compute().capture(|| DeviceBuffer::<u8>::new(&device, 1).map(drop));
    assert!(matches!(allocated.err(), Some(Error::Driver { code: 900, .. })));
    let failed = device.compute().capture(|| Err(Error::Length { what: "it", expected: 1, actual: 2 }));
    assert!(matches!(failed.err(), Some(Error::Length { .. })));
    fill(&device, device.compute(), buffer.span(), 8, 3).unwrap();
    assert_eq!(buffer.to_vec(&device).unwrap(), [3; 8], "the stream is usable after a failed capture");
}

kernel! {
    /// As the kernel of this name, with a parameter too many.
    fn fill_u32(out: Span<u32>, count: i32, value: u32, more: u32);
    fn no_such_kernel(out: Span<u32>);
}

#[test]
fn a_declaration_at_odds_with_the_code_is_refused() {
    let session = session();
    let e = Device::open_with(0, &[Family { file: "fill", kernels: &[fill_u32::DECLARATION] }]).err().unwrap();
    assert_eq!(e, Error::BadKernel { kernel: "fill_u32".into(), code: 200 });
    assert_eq!(session.report(), "fill_u32: declared with parameters of 8 4 4 4 bytes, its C++ has 8 4 4");
    let e = Device::open_with(0, &[Family { file: "fill", kernels: &[no_such_kernel::DECLARATION] }]).err().unwrap();
    assert!(matches!(e, Error::BadKernel { .. }));
}

#[test]
fn a_grid_that_no_device_takes_is_refused_and_the_device_goes_on() {
    let _session = session();
    let device = open();
    let out = DeviceBuffer::<u32>::new(&device, 1).unwrap();
    // SAFETY: refused before it runs.
    let refused = unsafe { fill::fill_u32::launch(&device, device.compute(), Grid::new(1, 2048), out.span(), 1, 1) };
    assert!(matches!(refused, Err(Error::LaunchFailed { code: 1, .. })));
    fill(&device, device.compute(), out.span(), 1, 5).unwrap();
    assert_eq!(out.to_vec(&device).unwrap(), [5]);
}

#[test]
fn what_is_missing_has_its_error() {
    let session = session();
    session.set("devices", 0);
    assert_eq!(Device::open(0).err().unwrap(), Error::NoDevice { index: 0, count: 0 });
    session.set("devices", 1);
    assert_eq!(Device::open(1).err().unwrap(), Error::NoDevice { index: 1, count: 1 });
    session.set("version", 11080);
    assert_eq!(Device::open(0).err().unwrap(), Error::DriverTooOld { required: 12000, actual: 11080 });
}

#[test]
fn memory_that_does_not_fit_says_how_much_is_needed_and_there() {
    let session = session();
    session.set("total_memory", 1 << 20);
    let device = open();
    let kept = DeviceBuffer::<u8>::new(&device, 1 << 19).unwrap();
    let e = DeviceBuffer::<u64>::new(&device, 1 << 17).err().unwrap();
    assert_eq!(e, Error::OutOfMemory { needed: 1 << 20, available: 1 << 19 });
    drop(kept);
    assert!(DeviceBuffer::<u64>::new(&device, 1 << 17).is_ok(), "it is free again");
    session.set("fail_alloc_at", session.count("allocations") + 1);
    assert!(matches!(DeviceBuffer::<u8>::new(&device, 1), Err(Error::OutOfMemory { .. })));
}

#[test]
fn a_lost_device_says_so_at_every_later_call() {
    let session = session();
    let device = open();
    let out = DeviceBuffer::<u32>::new(&device, 8).unwrap();
    session.set("lose_at_launch", 2);
    fill(&device, device.compute(), out.span(), 8, 1).unwrap();
    device.compute().wait().unwrap();
    fill(&device, device.compute(), out.span(), 8, 2).unwrap();
    let lost = |e: Error| assert!(matches!(e, Error::DeviceLost { code: 700, .. }), "{e}");
    lost(device.compute().wait().unwrap_err());
    lost(fill(&device, device.compute(), out.span(), 8, 3).unwrap_err());
    lost(device.memory().unwrap_err());
    lost(DeviceBuffer::<u8>::new(&device, 1).err().unwrap());
    lost(out.to_vec(&device).unwrap_err());
    drop(out);
}

#[test]
fn devices_are_listed_also_one_that_cannot_be_opened() {
    let session = session();
    session.set("devices", 2);
    let listed = ctkvr_cuda::devices().unwrap();
    assert!(listed.iter().enumerate().all(|(i, device)| device.index == i && device.unusable.is_none() && device.free_bytes > 0));
    assert_eq!(listed.len(), 2);
    // Two devices were opened already.
    session.set("fail_entry", "cuDevicePrimaryCtxRetain").set("fail_entry_code", 2).set("fail_entry_at", 3);
    let listed = ctkvr_cuda::devices().unwrap();
    assert!(listed[0].unusable.is_some() && listed[1].unusable.is_none(), "{listed:?}");
    session.set("devices", 0);
    assert_eq!(ctkvr_cuda::devices().unwrap_or_default(), []);
}
