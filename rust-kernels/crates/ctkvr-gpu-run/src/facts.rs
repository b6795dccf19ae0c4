//! What the machine is.

use ctkvr_cuda::driver_version;
use ctkvr_cuda::launch::{FAMILIES, MEASURING};

use crate::Result;
use crate::line::Line;

pub fn run() -> Result<()> {
    let device = crate::open()?;
    let of = device.properties();
    let (free, total) = device.memory()?;
    let version = driver_version()?;
    Line::of("facts")
        .text("device", &of.name)
        .text("capability", &format!("{}.{}", of.capability.0, of.capability.1))
        .count("multiprocessors", of.multiprocessors)
        .number("memory_gb", total as f64 / 1e9)
        .number("free_gb", free as f64 / 1e9)
        .text("driver_api", &format!("{}.{}", version / 1000, version % 1000 / 10))
        .count("cpus", std::thread::available_parallelism().map_or(0, usize::from))
        // Each has an image that fits the device, or it would not be open.
        .count("families_loaded", FAMILIES.len() + MEASURING.len())
        .print()
}
