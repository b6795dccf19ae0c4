//! What a device is.

use cudarc::driver::{result, sys};

use crate::context::Context;
use crate::error::{Error, Result};

/// The oldest that the kernels are compiled for.
const REQUIRED_CAPABILITY: (i32, i32) = (8, 0);
const REQUIRED_CAPABILITY_TEXT: &str = "8.0 (Ampere)";

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    pub total_bytes: usize,
    pub multiprocessors: usize,
}

/// # Errors
/// `DeviceTooOld`.
pub(crate) fn check_capability(properties: &Properties) -> Result<()> {
    let (major, minor) = properties.capability;
    if properties.capability < REQUIRED_CAPABILITY {
        return Err(Error::DeviceTooOld { name: properties.name.clone(), major, minor, required: REQUIRED_CAPABILITY_TEXT });
    }
    Ok(())
}

pub(crate) fn properties_of(context: &Context) -> Result<Properties> {
    use sys::CUdevice_attribute as Attribute;
    let device = context.device();
    let attribute = |which| {
        // SAFETY: the device is one of the driver's.
        context.call("cuDeviceGetAttribute", || unsafe { result::device::get_attribute(device, which) })
    };
    Ok(Properties {
        name: context.call("cuDeviceGetName", || result::device::get_name(device))?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        total_bytes: context.call("cuDeviceTotalMem", || unsafe { result::device::total_mem(device) })?,
        multiprocessors: usize::try_from(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?).unwrap_or(0),
    })
}
