//! What can go wrong with a device, in terms that the layers above can act on.

/// What the driver's numbers mean for us. Its numbers are kept: the enum of the bindings is closed, and drivers know newer ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No driver library on this machine, or one that cannot be loaded.
    #[error("no CUDA driver: {reason}. Install NVIDIA's driver, or use the CPU engine")]
    NoDriver { reason: String },
    /// Versions as the driver counts: 1000 * major + 10 * minor.
    #[error("the CUDA driver is of version {actual}, {required} or newer is needed: update NVIDIA's driver")]
    DriverTooOld { required: i32, actual: i32 },
    #[error("no CUDA device {index}: there are {count}")]
    NoDevice { index: usize, count: usize },
    #[error("the device {name} is of compute capability {major}.{minor}, {required} or newer is needed")]
    DeviceTooOld { name: String, major: i32, minor: i32, required: &'static str },
    /// Bytes that were asked for, and that are free.
    #[error("{needed} bytes of device memory are needed, {available} are available")]
    OutOfMemory { needed: usize, available: usize },
    /// This build has no machine code.
    #[error("this build has no kernels for {target}: build with CTKVR_CUDA_KERNELS set to the folder that scripts/kernels wrote")]
    KernelsNotBuilt { target: String },
    /// The declaration of a kernel is at odds with its code.
    #[error("kernel {kernel}: not in its module as declared (driver error {code})")]
    BadKernel { kernel: String, code: u32 },
    /// The launch was refused; the device is as it was.
    #[error("kernel {kernel} was not launched: driver error {code} ({name})")]
    LaunchFailed { kernel: String, code: u32, name: String },
    /// A kernel trapped or the device is gone. Everything in its memory is lost; every later call says so.
    #[error("the device is lost: driver error {code} ({name}) in {call}")]
    DeviceLost { call: &'static str, code: u32, name: String },
    #[error("driver error {code} ({name}) in {call}")]
    Driver { call: &'static str, code: u32, name: String },
    /// Lengths in elements.
    #[error("{what}: expected {expected} elements, got {actual}")]
    Length { what: &'static str, expected: usize, actual: usize },
}

pub type Result<T> = std::result::Result<T, Error>;

/// For the engine, which knows no driver.
impl From<Error> for ctkvr_model::Error {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error {
            Error::OutOfMemory { needed, available } => {
                Self::OutOfMemory { what: "the device".into(), needed: needed as u64, available: available as u64 }
            }
            Error::DeviceLost { .. } => Self::DeviceLost { reason },
            Error::Length { .. } | Error::LaunchFailed { .. } | Error::Driver { .. } => Self::Internal { what: reason },
            Error::NoDriver { .. }
            | Error::DriverTooOld { .. }
            | Error::NoDevice { .. }
            | Error::DeviceTooOld { .. }
            | Error::KernelsNotBuilt { .. }
            | Error::BadKernel { .. } => Self::DeviceUnavailable { reason },
        }
    }
}
