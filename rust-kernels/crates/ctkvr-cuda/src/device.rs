//! A device that is ready for work: context, two streams, every kernel loaded.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::kernel::{Declaration, Family};
use crate::stream::{Event, Stream};
use crate::{driver, images, launch};

/// The oldest that the kernels are compiled for.
const REQUIRED_CAPABILITY: (i32, i32) = (8, 0);
const REQUIRED_CAPABILITY_TEXT: &str = "8.0 (Ampere)";

/// Above so many bytes of dynamic shared memory a kernel must be allowed to have them.
const FREE_SHARED: usize = 48 << 10;

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    pub total_bytes: usize,
    pub multiprocessors: usize,
}

/// An open device.
pub struct Device {
    properties: Properties,
    functions: HashMap<&'static str, sys::CUfunction>,
    modules: Vec<sys::CUmodule>,
    compute: Stream,
    copy: Stream,
    context: Arc<Context>,
}

// SAFETY: functions and modules are handles that the driver lets any thread use; they are not changed after `open`.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Opens device `index` with every kernel of this crate.
    ///
    /// # Errors
    /// `NoDriver`, `DriverTooOld`, `NoDevice`, `DeviceTooOld`, `KernelsNotBuilt`, `BadKernel`, `OutOfMemory`.
    pub fn open(index: usize) -> Result<Self> {
        Self::open_with(index, launch::FAMILIES)
    }

    /// Opens device `index` with these kernels.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(index: usize, families: &[Family]) -> Result<Self> {
        driver::load()?;
        let context = Arc::new(Context::retain(index)?);
        let properties = properties_of(&context)?;
        check_capability(&properties)?;
        let (compute, copy) = (Stream::new(&context)?, Stream::new(&context)?);
        let mut device = Self { properties, functions: HashMap::new(), modules: Vec::new(), compute, copy, context };
        for family in families.iter().filter(|family| !family.kernels.is_empty()) {
            device.load(family)?;
        }
        Ok(device)
    }

    fn load(&mut self, family: &Family) -> Result<()> {
        let image = images::of(family, &self.properties)?;
        // SAFETY: the image is a cubin, or PTX or a manifest that ends with 0.
        let module = self.context.call("cuModuleLoadData", || unsafe { result::module::load_data(image.as_ptr().cast()) })?;
        self.modules.push(module);
        for kernel in family.kernels {
            let bad = |code| Error::BadKernel { kernel: kernel.name.into(), code };
            let name = std::ffi::CString::new(kernel.name).map_err(|_| bad(0))?;
            // SAFETY: the module is loaded.
            let function = unsafe { result::module::get_function(module, name) }.map_err(|e| bad(e.0 as u32))?;
            let shared = kernel.needs.dynamic_shared;
            if shared > FREE_SHARED {
                let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                let shared = i32::try_from(shared).unwrap_or(i32::MAX);
                // SAFETY: the function is of this module.
                self.context.call("cuFuncSetAttribute", || unsafe {
                    result::function::set_function_attribute(function, attribute, shared)
                })?;
            }
            self.functions.insert(kernel.name, function);
        }
        Ok(())
    }

    pub(crate) fn function(&self, kernel: &Declaration) -> Result<sys::CUfunction> {
        self.functions.get(kernel.name).copied().ok_or_else(|| Error::BadKernel { kernel: kernel.name.into(), code: 0 })
    }

    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Where kernels run.
    pub fn compute(&self) -> &Stream {
        &self.compute
    }

    /// Where copies run beside them.
    pub fn copy(&self) -> &Stream {
        &self.copy
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Free and total bytes.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context.memory()
    }

    /// A mark for streams that wait for each other.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn event(&self) -> Result<Event> {
        Event::new(&self.context, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// A mark between which time is measured ([`Event::ms_since`]).
    ///
    /// # Errors
    /// Those of the driver.
    pub fn timed_event(&self) -> Result<Event> {
        Event::new(&self.context, sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    /// Another stream.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn new_stream(&self) -> Result<Stream> {
        Stream::new(&self.context)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for module in self.modules.drain(..) {
            // SAFETY: loaded in `load`, unloaded once; the driver waits for what runs.
            self.context.release(|| unsafe { result::module::unload(module) });
        }
    }
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
