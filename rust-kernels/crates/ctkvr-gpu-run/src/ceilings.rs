//! What the machine can do at most: bytes a second of its memories, and how long the smallest things take.

use std::time::Instant;

use ctkvr_cuda::launch::read_words::ReadWords;
use ctkvr_cuda::{Device, DeviceBuffer, PinnedBuffer};

use crate::Result;
use crate::line::Line;
use crate::shape::Shape;
use crate::timing::{Timer, median};

/// Launches of the larger graph.
const MANY: usize = 350;
/// Host memory of a copy, at most: all of it is pinned.
const PINNED_BYTES: usize = 256 << 20;

pub fn run(shape: &Shape) -> Result<()> {
    let device = crate::open()?;
    print("device memory, read by a kernel", "GB/s", read_gb_a_second(&device, shape)?)?;
    copies(&device, shape)?;
    round_trips(&device, shape)?;
    graphs(&device, shape)
}

fn print(what: &str, unit: &str, value: f64) -> Result<()> {
    Line::of("ceilings").text("what", what).number("value", value).text("unit", unit).print()
}

/// GB of device memory that a kernel reads in a second and that does nothing else: what bytes are held against.
pub fn read_gb_a_second(device: &Device, shape: &Shape) -> Result<f64> {
    let from = DeviceBuffer::<u32>::zeroed(device, shape.ceiling_bytes / size_of::<u32>())?;
    let parts = DeviceBuffer::new(device, ReadWords::parts_len(device))?;
    let read = ReadWords { from: from.span(), parts: parts.span() };
    best_gb_a_second(device, shape, shape.ceiling_bytes, || read.launch(device, device.compute()))
}

/// The fastest of some rounds: a ceiling is what can be reached at all.
fn best_gb_a_second(device: &Device, shape: &Shape, bytes: usize, work: impl Fn() -> ctkvr_cuda::Result<()>) -> Result<f64> {
    let timer = Timer::new(device)?;
    let mut least = f64::INFINITY;
    for _ in 0..=shape.rounds {
        least = least.min(timer.ms(&work)?);
    }
    Ok(bytes as f64 / 1e6 / least)
}

fn copies(device: &Device, shape: &Shape) -> Result<()> {
    let bytes = shape.ceiling_bytes;
    let (from, to) = (DeviceBuffer::<u8>::zeroed(device, bytes)?, DeviceBuffer::<u8>::new(device, bytes)?);
    let stream = device.compute();
    let both = best_gb_a_second(device, shape, 2 * bytes, || stream.copy(to.span(), from.span()))?;
    print("device memory, copied (read and written)", "GB/s", both)?;
    let some = bytes.min(PINNED_BYTES);
    let pinned = PinnedBuffer::<u8>::new(device, some)?;
    let part = to.span().part(0..some);
    // SAFETY: the buffers live, and the host touches none of them, until the timer's wait.
    let there = best_gb_a_second(device, shape, some, || unsafe { stream.copy_in_pinned(part, pinned.span()) })?;
    // SAFETY: as above.
    let back = best_gb_a_second(device, shape, some, || unsafe { stream.copy_out_pinned(pinned.span(), part) })?;
    print("pinned host memory to the device", "GB/s", there)?;
    print("device to pinned host memory", "GB/s", back)
}

/// Host, device, host: a kernel and a mark, waited for; and with 16 KB there and back as host mode would have them.
fn round_trips(device: &Device, shape: &Shape) -> Result<()> {
    const BYTES: usize = 16 << 10;
    let (words, parts) = (DeviceBuffer::<u32>::zeroed(device, 4)?, DeviceBuffer::new(device, ReadWords::parts_len(device))?);
    let (pinned, there) = (PinnedBuffer::<u8>::new(device, BYTES)?, DeviceBuffer::<u8>::new(device, BYTES)?);
    let read = ReadWords { from: words.span(), parts: parts.span() };
    let (stream, mark) = (device.compute(), device.event()?);
    let trip = |with_copies: bool| -> Result<f64> {
        let begun = Instant::now();
        if with_copies {
            // SAFETY: nobody touches the buffers until the wait below.
            unsafe { stream.copy_in_pinned(there.span(), pinned.span()) }?;
        }
        read.launch(device, stream)?;
        if with_copies {
            // SAFETY: as above.
            unsafe { stream.copy_out_pinned(pinned.span(), there.span()) }?;
        }
        stream.record(&mark)?;
        mark.wait()?;
        Ok(begun.elapsed().as_secs_f64() * 1e6)
    };
    let middle = |with_copies| -> Result<f64> {
        let times = (0..20 * shape.rounds).map(|_| trip(with_copies)).collect::<Result<Vec<_>>>()?;
        Ok(median(times))
    };
    print("round trip by an event: a small kernel", "us", middle(false)?)?;
    print("round trip by an event: 16 KiB there, a small kernel, 16 KiB back", "us", middle(true)?)
}

/// Graphs of small kernels: what a launch costs, and what each kernel in it costs.
fn graphs(device: &Device, shape: &Shape) -> Result<()> {
    let (words, parts) = (DeviceBuffer::<u32>::zeroed(device, 4)?, DeviceBuffer::new(device, ReadWords::parts_len(device))?);
    let read = ReadWords { from: words.span(), parts: parts.span() };
    let stream = device.compute();
    let of = |count: usize| stream.capture(|| (0..count).try_for_each(|_| read.launch(device, stream)));
    let (one, many) = (of(1)?, of(MANY)?);
    let times = Timer::new(device)?.of_graphs(&[one, many], shape.rounds)?;
    print("graph of one small kernel", "us", times[0] * 1e3)?;
    print(&format!("each small kernel of a graph of {MANY}"), "us", (times[1] - times[0]) * 1e3 / (MANY - 1) as f64)
}
