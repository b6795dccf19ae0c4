//! ggml's CPU device, reached only through ggml's registry so that the same code works when the kernels are linked in and when they
//! are libraries chosen at run time (feature `dynamic-backends`).

use std::ffi::{CStr, CString, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::logs;

type Features = unsafe extern "C" fn(sys::ggml_backend_reg_t) -> *mut sys::ggml_backend_feature;
type TypeTraits = unsafe extern "C" fn(sys::ggml_type) -> *const sys::ggml_type_traits_cpu;

/// The CPU device and the functions it offers by name.
#[derive(Clone, Copy)]
pub struct CpuDevice {
    registry: sys::ggml_backend_reg_t,
    features: Option<Features>,
    type_traits: TypeTraits,
}

// SAFETY: the pointers name process-wide singletons of ggml that are never freed; the functions may be called from any thread.
unsafe impl Send for CpuDevice {}
// SAFETY: as above.
unsafe impl Sync for CpuDevice {}

/// The CPU device; kernels are loaded on the first call.
///
/// # Errors
/// `NoComputeBackend`.
pub fn cpu_device() -> Result<&'static CpuDevice> {
    static DEVICE: OnceLock<std::result::Result<CpuDevice, String>> = OnceLock::new();
    DEVICE.get_or_init(open).as_ref().map_err(|reason| Error::NoComputeBackend { reason: reason.clone() })
}

/// Instruction sets and options that ggml's chosen kernels were built for, such as `AVX2` or `REPACK`.
pub fn ggml_features() -> Result<Vec<String>> {
    let cpu = cpu_device()?;
    let mut names = Vec::new();
    if let Some(features) = cpu.features {
        // SAFETY: returns a static array that ends with a null name.
        unsafe {
            let mut feature = features(cpu.registry);
            while !feature.is_null() && !(*feature).name.is_null() {
                names.push(CStr::from_ptr((*feature).name).to_string_lossy().into_owned());
                feature = feature.add(1);
            }
        }
    }
    Ok(names)
}

impl CpuDevice {
    /// How the device multiplies by weights of a type.
    pub fn type_traits(&self, kind: sys::ggml_type) -> &'static sys::ggml_type_traits_cpu {
        // SAFETY: an entry of a static table; the type was checked by ggml's reader.
        unsafe { &*(self.type_traits)(kind) }
    }
}

fn open() -> std::result::Result<CpuDevice, String> {
    logs::install();
    // SAFETY: plain initialisation; loading takes a NUL-terminated path.
    unsafe {
        sys::llama_backend_init();
        if cfg!(feature = "dynamic-backends") {
            let mut tried = Vec::new();
            for dir in backend_dirs() {
                if sys::ggml_backend_reg_count() > 0 {
                    break;
                }
                tried.push(dir.display().to_string());
                if let Ok(dir) = CString::new(dir.as_os_str().as_encoded_bytes()) {
                    sys::ggml_backend_load_all_from_path(dir.as_ptr());
                }
            }
            if sys::ggml_backend_reg_count() == 0 {
                return Err(format!("none of these folders holds them: {}", tried.join(", ")));
            }
        }
        let device = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
        if device.is_null() {
            return Err("ggml has no CPU device".into());
        }
        let registry = sys::ggml_backend_dev_backend_reg(device);
        let features = sys::ggml_backend_reg_get_proc_address(registry, c"ggml_backend_get_features".as_ptr());
        let features = (!features.is_null()).then(|| std::mem::transmute::<*mut c_void, Features>(features));
        Ok(CpuDevice { registry, features, type_traits: type_traits(features)? })
    }
}

/// The device's function of that name.
#[cfg(not(feature = "dynamic-backends"))]
fn type_traits(_: Option<Features>) -> std::result::Result<TypeTraits, String> {
    Ok(sys::ggml_get_type_traits_cpu)
}

/// The device's function of that name, which its registry does not offer: from the library that another of its functions is in.
#[cfg(all(feature = "dynamic-backends", unix))]
fn type_traits(other: Option<Features>) -> std::result::Result<TypeTraits, String> {
    let other = other.ok_or("ggml's CPU backend has no ggml_backend_get_features")?;
    // SAFETY: dladdr fills `info` when it returns non-zero; the library is loaded and stays so; the function has this type in ggml-cpu.h.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(other as *const c_void, &mut info) == 0 || info.dli_fname.is_null() {
            return Err("the library of ggml's CPU backend cannot be found".into());
        }
        let library = libc::dlopen(info.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD);
        let address = if library.is_null() { library } else { libc::dlsym(library, c"ggml_get_type_traits_cpu".as_ptr()) };
        if address.is_null() {
            return Err(format!("{} has no ggml_get_type_traits_cpu", CStr::from_ptr(info.dli_fname).to_string_lossy()));
        }
        Ok(std::mem::transmute::<*mut c_void, TypeTraits>(address))
    }
}

#[cfg(all(feature = "dynamic-backends", not(unix)))]
fn type_traits(_: Option<Features>) -> std::result::Result<TypeTraits, String> {
    Err("loadable kernels are not supported on this system".into())
}

/// Where kernel libraries are looked for: the user's choice, beside the library that holds this code, the build's own folder.
fn backend_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Some(dir) = std::env::var_os("CTKVR_BACKENDS_DIR") {
        dirs.push(PathBuf::from(dir));
    }
    dirs.extend(own_library_dir());
    dirs.extend(sys::BACKENDS_DIR.map(PathBuf::from));
    dirs
}

/// The folder of the shared library (or program) this code was loaded from.
#[cfg(unix)]
fn own_library_dir() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    // SAFETY: dladdr fills `info` when it returns non-zero; its file name is a NUL-terminated string owned by the loader.
    let file = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let own: fn() -> Option<PathBuf> = own_library_dir;
        if libc::dladdr(own as *const c_void, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        PathBuf::from(std::ffi::OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes()))
    };
    Some(file.canonicalize().ok()?.parent()?.to_path_buf())
}

#[cfg(not(unix))]
fn own_library_dir() -> Option<PathBuf> {
    None
}
