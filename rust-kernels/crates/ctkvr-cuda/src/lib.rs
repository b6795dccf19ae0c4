//! The executor on a CUDA device: the same seam as the CPU's, its kernels in `kernels/*.cu`.
//!
//! - [`Device`], [`Stream`], [`Event`], [`Graph`]: the driver, loaded when it is first asked for.
//! - [`DeviceBuffer`], [`Span`], [`PinnedBuffer`]: memory.
//! - [`kernel!`] and [`launch`]: kernels and their launchers.
//! - `stand_in` (feature `stand-in`): a driver for tests, which runs the kernels on the CPU.
//!
//! It builds without a toolkit and runs without a driver: what is missing is an [`Error`].

mod batch_part;
mod buffer;
mod context;
mod counted;
mod declaration;
mod decode_report;
mod decode_slots;
mod decode_step;
mod device;
#[doc(hidden)]
pub mod device_builder;
mod devices;
mod driver;
mod error;
#[doc(hidden)]
pub mod exchange;
mod executor;
mod format_rows;
mod head_cache;
pub mod head_image;
mod host_head;
#[doc(hidden)]
pub mod host_layer;
mod images;
pub mod joined;
mod kernel;
pub mod kv_pool;
mod lane;
pub mod launch;
mod make_heads;
pub mod matrix;
mod mirror;
mod on_device;
mod page_tables;
mod placed_page;
pub mod placement;
mod properties;
#[doc(hidden)]
pub mod q6k_strips;
pub mod search;
mod span;
mod staging;
#[cfg(feature = "stand-in")]
pub mod stand_in;
mod step;
mod step_graphs;
mod step_inputs;
mod step_memory;
mod step_results;
mod step_sizes;
mod stream;
mod strip_format;
mod weights;
mod write_rows;

pub use buffer::{DeviceBuffer, PinnedBuffer};
pub use declaration::{Argument, Declaration, Family, Grid, Needs};
pub use device::Device;
pub use devices::{ListedDevice, devices};
pub use driver::{device_count, driver_version};
pub use error::{Error, Result};
pub use executor::{CudaExecutor, CudaOptions};
#[doc(hidden)]
pub use kernel::launch_raw;
pub use properties::Properties;
pub use span::{Plain, Span};
pub use stream::{Event, Graph, Stream};
pub use strip_format::StripFormat;
