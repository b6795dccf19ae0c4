//! The driver's library: found, loaded and asked for its version once; its error codes as [`Error`].

use std::ffi::CStr;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use cudarc::driver::DriverError;
use cudarc::driver::{result, sys};

use crate::error::{Error, Result};

/// Names a driver library to load instead of the system's: the stand-in, where tests run from Node.
const DRIVER_VARIABLE: &str = "CTKVR_CUDA_DRIVER";

/// 12.0: what cubins of the 12.x compilers need (minor version compatibility).
const REQUIRED_VERSION: i32 = 12000;

/// Codes after which nothing works any more in this process's context.
const STICKY: [u32; 12] = [4, 214, 220, 700, 702, 709, 714, 715, 716, 717, 718, 719];

/// Loads the driver and checks its version. What went wrong the first time is said again each time; a version or the devices are asked
/// anew, as the answer may differ.
///
/// # Errors
/// `NoDriver`, `DriverTooOld`, `NoDevice`.
pub fn load() -> Result<()> {
    driver_version().map(drop)
}

/// The driver's version, as it counts: 1000 * major + 10 * minor.
///
/// # Errors
/// As [`load`].
pub fn driver_version() -> Result<i32> {
    static LIBRARY: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    LIBRARY.get_or_init(find_library).clone().map_err(|reason| Error::NoDriver { reason })?;
    // The bindings panic when a symbol is missing: a library of this name that is no driver.
    let version = catch_unwind(|| {
        let mut version = 0;
        // SAFETY: the version is written through a valid pointer; the call needs no initialisation.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map(|()| version)
    });
    let version = match version {
        Ok(version) => version.map_err(|e| failure("cuDriverGetVersion", e))?,
        Err(_) => return Err(Error::NoDriver { reason: "its library lacks cuDriverGetVersion".into() }),
    };
    if version < REQUIRED_VERSION {
        return Err(Error::DriverTooOld { required: REQUIRED_VERSION, actual: version });
    }
    match catch_unwind(result::init) {
        Ok(Ok(())) => Ok(version),
        Ok(Err(e)) if e.0 as u32 == 100 => Err(Error::NoDevice { index: 0, count: 0 }),
        Ok(Err(e)) => Err(failure("cuInit", e)),
        Err(_) => Err(Error::NoDriver { reason: "its library lacks cuInit".into() }),
    }
}

/// Devices that the driver lists.
///
/// # Errors
/// As [`load`].
pub fn device_count() -> Result<usize> {
    load()?;
    let count = result::device::get_count().map_err(|e| failure("cuDeviceGetCount", e))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn find_library() -> std::result::Result<(), String> {
    if let Some(path) = std::env::var_os(DRIVER_VARIABLE).filter(|path| !path.is_empty()) {
        preload(std::path::Path::new(&path)).map_err(|e| format!("{DRIVER_VARIABLE}: {e}"))?;
    }
    // SAFETY: loads the driver's library, whose initialisers are trusted as every program that uses a device does.
    match catch_unwind(|| unsafe { sys::is_culib_present() }) {
        Ok(true) => Ok(()),
        _ => Err("its library (libcuda.so.1, nvcuda.dll) is not found".into()),
    }
}

/// Loads a library that the bindings find from then on under its own name (SONAME `libcuda.so`). It stays loaded.
pub(crate) fn preload(path: &std::path::Path) -> std::result::Result<(), String> {
    // SAFETY: the library is one that the user or a test names as driver; it is never unloaded, so its symbols stay valid.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| e.to_string())?;
    std::mem::forget(library);
    Ok(())
}

/// Whether a code means that the device is lost.
pub(crate) fn is_sticky(code: u32) -> bool {
    STICKY.contains(&code)
}

/// A call's error.
pub(crate) fn failure(call: &'static str, error: DriverError) -> Error {
    // The number, never the variant: see `Error`.
    let code = error.0 as u32;
    let name = name_of(code);
    if is_sticky(code) { Error::DeviceLost { call, code, name } } else { Error::Driver { call, code, name } }
}

/// The driver's own name for a code.
pub(crate) fn name_of(code: u32) -> String {
    type GetErrorName = unsafe extern "C" fn(u32, *mut *const std::ffi::c_char) -> u32;
    let name = catch_unwind(|| {
        // SAFETY: the library is loaded, or nobody could have an error of its; the signature is the driver API's with the enum as number.
        unsafe {
            let get = sys::culib().get::<GetErrorName>(b"cuGetErrorName\0").ok()?;
            let mut name = std::ptr::null();
            if get(code, &raw mut name) != 0 || name.is_null() {
                return None;
            }
            Some(CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    });
    name.ok().flatten().unwrap_or_else(|| "unknown".into())
}
