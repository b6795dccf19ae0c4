//! What the stand-in finds out in kernels, and what it emulates: each kernel of stand-in/kernels/faults.cu has one mistake.

use ctkvr_cuda::stand_in::{ORDERS, Order, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error, Family, Grid, Plain, Span, kernel};
use half::f16;

kernel! {
    fn barrier_in_a_branch();
    fn half_a_warp_waits();
    fn shuffle_with_absent_lanes();
    fn trap();
    fn sum_with_a_barrier(values: Span<i32>, out: Span<i32>);
    fn sum_without_a_barrier(values: Span<i32>, out: Span<i32>);
    fn write_beyond(out: Span<i32>, at: i32);
    fn unwritten_shared(out: Span<u32>);
    fn product_u8_i8(left: Span<u8>, right: Span<i8>, out: Span<i32>);
    fn product_i8_i8(left: Span<i8>, right: Span<i8>, out: Span<i32>);
    fn product_f16(left: Span<f16>, right: Span<f16>, out: Span<f32>);
}

const FAULTS: Family = Family {
    file: "faults",
    kernels: &[
        barrier_in_a_branch::DECLARATION,
        half_a_warp_waits::DECLARATION,
        shuffle_with_absent_lanes::DECLARATION,
        trap::DECLARATION,
        sum_with_a_barrier::DECLARATION,
        sum_without_a_barrier::DECLARATION,
        write_beyond::DECLARATION,
        unwritten_shared::DECLARATION,
        product_u8_i8::DECLARATION,
        product_i8_i8::DECLARATION,
        product_f16::DECLARATION,
    ],
};

/// Runs a faulty kernel in each order; the reports.
fn reports(launch: impl Fn(&Device) -> ctkvr_cuda::Result<()>) -> Vec<String> {
    ORDERS
        .map(|order| {
            let session = session();
            session.order(order);
            let device = Device::open_with(0, &[FAULTS]).unwrap();
            launch(&device).unwrap();
            let e = device.compute().wait().unwrap_err();
            assert!(matches!(e, Error::DeviceLost { code: 719, .. }), "{e}");
            session.report()
        })
        .into()
}

macro_rules! assert_reports {
    ($kernel:ident, $threads:expr, $text:expr) => {
        for report in reports(|device| {
            // SAFETY: it touches no memory.
            unsafe { $kernel::launch(device, device.compute(), Grid::new(1, $threads)) }
        }) {
            assert!(report.starts_with(concat!("kernel ", stringify!($kernel), ": ", $text)), "{report}");
            assert!(report.contains("faults.cu:"), "{report}");
        }
    };
}

#[test]
fn barriers_in_branches_absent_lanes_and_deadlocks_are_reported_by_line() {
    assert_reports!(barrier_in_a_branch, 64, "threads meet at different barriers");
    assert_reports!(half_a_warp_waits, 32, "deadlock: thread ");
    assert_reports!(trap, 32, "__trap at ");
}

#[test]
fn a_shuffle_whose_lanes_are_absent_is_reported() {
    for report in reports(|device| {
        // SAFETY: it touches no memory.
        unsafe { shuffle_with_absent_lanes::launch(device, device.compute(), Grid::new(1, 32)) }
    }) {
        assert!(report.contains("deadlock") || report.contains("has returned"), "{report}");
    }
}

fn sums(device: &Device, barrier: bool) -> Vec<i32> {
    let values: Vec<i32> = (0..128).collect();
    let values = DeviceBuffer::from_slice(device, &values).unwrap();
    let out = DeviceBuffer::<i32>::new(device, 3).unwrap();
    let (grid, stream) = (Grid::new(3, 128), device.compute());
    // SAFETY: as the kernels read and write.
    unsafe {
        if barrier {
            sum_with_a_barrier::launch(device, stream, grid, values.span(), out.span())
        } else {
            sum_without_a_barrier::launch(device, stream, grid, values.span(), out.span())
        }
    }
    .unwrap();
    out.to_vec(device).unwrap()
}

#[test]
fn a_forgotten_barrier_gives_wrong_sums_in_some_order() {
    let session = session();
    let device = Device::open_with(0, &[FAULTS]).unwrap();
    for order in ORDERS {
        session.order(order);
        assert_eq!(sums(&device, true), [8128; 3], "{order:?}");
    }
    session.order(Order::Ascending);
    assert_ne!(sums(&device, false), [8128; 3]);
}

#[test]
fn shared_memory_begins_poisoned_in_every_block() {
    let _session = session();
    let device = Device::open_with(0, &[FAULTS]).unwrap();
    let out = DeviceBuffer::<u32>::new(&device, 2).unwrap();
    for _ in 0..2 {
        // SAFETY: it writes two numbers.
        unsafe { unwritten_shared::launch(&device, device.compute(), Grid::new(2, 32).with_shared(64), out.span()) }.unwrap();
        let values = out.to_vec(&device).unwrap();
        assert_eq!(values[1], 0xeeee_eeee);
        // AddressSanitizer has red zones between variables: static ones stay as they are there.
        assert!(values[0] == 0xeeee_eeee || std::env::var_os("ASAN_OPTIONS").is_some());
    }
}

/// Numbers that look random, -128..=127.
fn bytes(n: usize, seed: u64) -> Vec<i8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as i8
    };
    (0..n).map(|_| next()).collect()
}

fn product<A: Plain, B: Plain, C: Plain + Default>(
    left: &[A],
    right: &[B],
    launch: impl Fn(&Device, Span<A>, Span<B>, Span<C>) -> ctkvr_cuda::Result<()>,
) -> Vec<C> {
    let device = Device::open_with(0, &[FAULTS]).unwrap();
    let (left, right) = (DeviceBuffer::from_slice(&device, left).unwrap(), DeviceBuffer::from_slice(&device, right).unwrap());
    let out = DeviceBuffer::<C>::new(&device, 16 * 8).unwrap();
    launch(&device, left.span(), right.span(), out.span()).unwrap();
    out.to_vec(&device).unwrap()
}

#[test]
fn products_of_tensor_cores_are_the_sums_that_they_should_be() {
    let session = session();
    let (left, right) = (bytes(16 * 32, 1), bytes(8 * 32, 2));
    let unsigned: Vec<u8> = left.iter().map(|x| *x as u8).collect();
    let sum = |l: &dyn Fn(usize) -> i32| -> Vec<i32> {
        (0..128).map(|i| (0..32).map(|k| l(i / 8 * 32 + k) * i32::from(right[i % 8 * 32 + k])).sum()).collect()
    };
    let halves = |x: &[i8]| -> Vec<f16> { x.iter().map(|v| f16::from_f32(f32::from(*v) / 8.0)).collect() };
    let (left16, right16) = (halves(&left[..16 * 16]), halves(&right[..8 * 16]));
    let sum16: Vec<f32> =
        (0..128).map(|i| (0..16).map(|k| left16[i / 8 * 16 + k].to_f32() * right16[i % 8 * 16 + k].to_f32()).sum()).collect();
    let warp = Grid::new(1, 32);
    for order in ORDERS {
        session.order(order);
        // SAFETY: each reads and writes what it is given.
        unsafe {
            let got = product(&unsigned, &right, |d, a, b, c| product_u8_i8::launch(d, d.compute(), warp, a, b, c));
            assert_eq!(got, sum(&|i| i32::from(unsigned[i])));
            let got = product(&left, &right, |d, a, b, c| product_i8_i8::launch(d, d.compute(), warp, a, b, c));
            assert_eq!(got, sum(&|i| i32::from(left[i])));
            let got: Vec<f32> = product(&left16, &right16, |d, a, b, c| product_f16::launch(d, d.compute(), warp, a, b, c));
            assert_eq!(got, sum16, "eighths: exact in f32");
        }
    }
}

/// Runs a test of this file that ends the process, in a process of its own; what it says.
fn dies(test: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args([&format!("shim::{test}"), "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(!output.status.success(), "it lives");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[ignore = "ends the process: run by the_host_cannot_read_device_memory"]
fn host_reads_device_memory() {
    let _session = session();
    let device = Device::open_with(0, &[FAULTS]).unwrap();
    let buffer = DeviceBuffer::<u32>::zeroed(&device, 1).unwrap();
    device.compute().wait().unwrap();
    // SAFETY: none; that is the point.
    let value = unsafe { std::ptr::read_volatile(buffer.span().address() as *const u32) };
    assert_eq!(value, 0);
}

#[test]
fn the_host_cannot_read_device_memory() {
    let said = dies("host_reads_device_memory");
    assert!(said.contains("stand-in: the host touches device memory at"), "{said}");
}

#[test]
#[ignore = "ends the process: run by a_kernel_cannot_write_beyond_an_allocation"]
fn kernel_writes_beyond() {
    let _session = session();
    let device = Device::open_with(0, &[FAULTS]).unwrap();
    let buffer = DeviceBuffer::<i32>::zeroed(&device, 64).unwrap();
    // SAFETY: none; that is the point.
    unsafe { write_beyond::launch(&device, device.compute(), Grid::new(1, 1), buffer.span(), 64) }.unwrap();
    device.compute().wait().unwrap();
}

#[test]
fn a_kernel_cannot_write_beyond_an_allocation() {
    let said = dies("kernel_writes_beyond");
    assert!(said.contains("stand-in: kernel write_beyond touches"), "{said}");
    assert!(said.contains("out of the bounds of an allocation"), "{said}");
}
