//! A device that is ready for work: context, two streams, every kernel loaded.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use crate::context::Context;
use crate::declaration::{Declaration, Family};
use crate::error::{Error, Result};
use crate::properties::{Properties, check_capability, properties_of};
use crate::stream::{Event, Stream};
use crate::{driver, images};

/// Above so many bytes of dynamic shared memory a kernel must be allowed to have them.
const FREE_SHARED: usize = 48 << 10;

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
    /// Opens device `index` with these kernels.
    ///
    /// # Errors
    /// `NoDriver`, `DriverTooOld`, `NoDevice`, `DeviceTooOld`, `KernelsNotBuilt`, `BadKernel`, `OutOfMemory`.
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
