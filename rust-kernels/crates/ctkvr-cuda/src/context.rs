//! A device's context: what streams and buffers share. It remembers when the device is lost.

use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::{DriverError, result, sys};

use crate::driver;
use crate::error::{Error, Result};

/// The primary context of a device, retained.
pub struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
    /// Code of the error that lost the device, 0 while it is there.
    lost: AtomicU32,
}

// SAFETY: the driver API may be called from any thread; the handles are only numbers to us.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// # Errors
    /// Those of the driver; `NoDevice` if there is none of this index.
    pub(crate) fn retain(index: usize) -> Result<Self> {
        let count = driver::device_count()?;
        if index >= count {
            return Err(Error::NoDevice { index, count });
        }
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        let device = result::device::get(index).map_err(|e| driver::failure("cuDeviceGet", e))?;
        // SAFETY: the device is one of the driver's.
        let raw = unsafe { result::primary_ctx::retain(device) }.map_err(|e| driver::failure("cuDevicePrimaryCtxRetain", e))?;
        Ok(Self { device, raw, lost: AtomicU32::new(0) })
    }

    pub(crate) fn device(&self) -> sys::CUdevice {
        self.device
    }

    /// Makes the context this thread's. Called before each call of the driver: others in this process may have set theirs.
    ///
    /// # Errors
    /// `DeviceLost` from the first time on.
    pub(crate) fn bind(&self) -> Result<()> {
        let code = self.lost.load(Ordering::Acquire);
        if code != 0 {
            return Err(Error::DeviceLost { call: "an earlier call", code, name: driver::name_of(code) });
        }
        self.make_current()
    }

    fn make_current(&self) -> Result<()> {
        if result::ctx::get_current().map_err(|e| self.failed("cuCtxGetCurrent", e))? != Some(self.raw) {
            // SAFETY: the context is retained until this is dropped.
            unsafe { result::ctx::set_current(self.raw) }.map_err(|e| self.failed("cuCtxSetCurrent", e))?;
        }
        Ok(())
    }

    /// A call's error; that the device is lost is kept.
    pub(crate) fn failed(&self, call: &'static str, error: DriverError) -> Error {
        let error = driver::failure(call, error);
        if let Error::DeviceLost { code, .. } = error {
            self.lost.store(code, Ordering::Release);
        }
        error
    }

    /// A call of the driver in this context.
    ///
    /// # Errors
    /// What the driver says; `DeviceLost` from the first time on.
    pub(crate) fn call<T>(&self, name: &'static str, f: impl FnOnce() -> std::result::Result<T, DriverError>) -> Result<T> {
        self.bind()?;
        f().map_err(|e| self.failed(name, e))
    }

    /// A call that gives something back. Nobody can act on its error: one that matters comes again at the next call.
    pub(crate) fn release(&self, f: impl FnOnce() -> std::result::Result<(), DriverError>) {
        if self.make_current().is_ok() {
            let _ = f();
        }
    }

    /// Free and total bytes of the device.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.call("cuMemGetInfo", result::mem_get_info)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `retain`; everything made in it holds an Arc of this and is gone.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
