//! ggml's CPU device, reached only through ggml's registry so that the same code works when the kernels are linked in and when they
//! are libraries chosen at run time (feature `dynamic-backends`).

use std::ffi::{CStr, CString, c_int, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::logs;

type SetThreads = unsafe extern "C" fn(sys::ggml_backend_t, c_int);
type SetAbort = unsafe extern "C" fn(sys::ggml_backend_t, sys::ggml_abort_callback, *mut c_void);
type ExtraBufferTypes = unsafe extern "C" fn(sys::ggml_backend_dev_t) -> *mut sys::ggml_backend_buffer_type_t;
type Features = unsafe extern "C" fn(sys::ggml_backend_reg_t) -> *mut sys::ggml_backend_feature;
type NewThreadpool = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
type FreeThreadpool = unsafe extern "C" fn(*mut sys::ggml_threadpool);
type SetThreadpool = unsafe extern "C" fn(sys::ggml_backend_t, *mut sys::ggml_threadpool);

/// The CPU device and the functions it offers by name.
#[derive(Clone, Copy)]
pub(crate) struct CpuDevice {
    pub device: sys::ggml_backend_dev_t,
    registry: sys::ggml_backend_reg_t,
    pub set_threads: SetThreads,
    pub set_abort: SetAbort,
    extra_buffer_types: Option<ExtraBufferTypes>,
    features: Option<Features>,
    pub new_threadpool: NewThreadpool,
    pub free_threadpool: FreeThreadpool,
    pub set_threadpool: SetThreadpool,
}

// SAFETY: the pointers name process-wide singletons of ggml that are never freed; the functions may be called from any thread.
unsafe impl Send for CpuDevice {}
// SAFETY: as above.
unsafe impl Sync for CpuDevice {}

/// The CPU device; kernels are loaded on the first call.
pub(crate) fn cpu_device() -> Result<&'static CpuDevice> {
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
    /// Buffer types that keep weights in another order for faster products (CPU_REPACK), best first. Never ggml's AMX buffers: gcc 12
    /// compiles their kernels wrongly, and the tiles of a thread are ours.
    pub fn extra_buffer_types(&self) -> Vec<sys::ggml_backend_buffer_type_t> {
        let mut types = Vec::new();
        if let Some(list) = self.extra_buffer_types {
            // SAFETY: returns null or an array that ends with null.
            unsafe {
                let mut next = list(self.device);
                while !next.is_null() && !(*next).is_null() {
                    if CStr::from_ptr(sys::ggml_backend_buft_name(*next)) != c"AMX" {
                        types.push(*next);
                    }
                    next = next.add(1);
                }
            }
        }
        types
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
        let find = |name: &CStr| {
            let address = sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr());
            if address.is_null() { Err(format!("ggml's CPU backend has no {}", name.to_string_lossy())) } else { Ok(address) }
        };
        Ok(CpuDevice {
            device,
            registry,
            set_threads: std::mem::transmute::<*mut c_void, SetThreads>(find(c"ggml_backend_set_n_threads")?),
            set_abort: std::mem::transmute::<*mut c_void, SetAbort>(find(c"ggml_backend_set_abort_callback")?),
            extra_buffer_types: find(c"ggml_backend_dev_get_extra_bufts")
                .ok()
                .map(|address| std::mem::transmute::<*mut c_void, ExtraBufferTypes>(address)),
            features: find(c"ggml_backend_get_features").ok().map(|address| std::mem::transmute::<*mut c_void, Features>(address)),
            new_threadpool: std::mem::transmute::<*mut c_void, NewThreadpool>(find(c"ggml_threadpool_new")?),
            free_threadpool: std::mem::transmute::<*mut c_void, FreeThreadpool>(find(c"ggml_threadpool_free")?),
            set_threadpool: std::mem::transmute::<*mut c_void, SetThreadpool>(find(c"ggml_backend_cpu_set_threadpool")?),
        })
    }
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
