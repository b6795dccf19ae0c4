//! Runs graphs on ggml's CPU backend with a thread pool that lives as long as the engine.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_sys_2 as sys;

use crate::backends::{CpuDevice, cpu_device};
use crate::error::{Error, Result};

/// More than ggml's fixed array of threads allows is refused there by aborting the process.
pub const MAX_THREADS: usize = 512;

/// A CPU backend with its threads. One graph at a time.
#[derive(Debug)]
pub(crate) struct Compute {
    cpu: &'static CpuDevice,
    backend: sys::ggml_backend_t,
    threadpool: *mut sys::ggml_threadpool,
}

// SAFETY: used by one thread at a time (the engine's run lock); ggml keeps no thread-local state about either handle.
unsafe impl Send for Compute {}

impl std::fmt::Debug for CpuDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("CpuDevice")
    }
}

impl Compute {
    pub fn new(num_threads: usize) -> Result<Self> {
        let cpu = cpu_device()?;
        let Some(threads) = i32::try_from(num_threads).ok().filter(|_| (1..=MAX_THREADS).contains(&num_threads)) else {
            return Err(Error::InvalidOption {
                option: "numThreads".into(),
                expected: format!("from 1 to {MAX_THREADS}"),
                actual: num_threads.to_string(),
            });
        };
        // SAFETY: every handle is checked; the pool's worker threads start here.
        unsafe {
            let backend = sys::ggml_backend_dev_init(cpu.device, std::ptr::null());
            if backend.is_null() {
                return Err(Error::Internal { what: "ggml could not create a CPU backend".into() });
            }
            let mut params = sys::ggml_threadpool_params_default(threads);
            // The least that is not nothing: some milliseconds after a graph, workers look for the next one instead of sleeping. JavaScript and
            // this thread, which sleeps, need one core between them; to wake a worker takes as long as a layer (decode of SmolLM2, two
            // threads: 2.31 ms a token at 0, 2.25 at 1). ggml's default is 50.
            params.poll = 1;
            let threadpool = (cpu.new_threadpool)(&mut params);
            if threadpool.is_null() {
                sys::ggml_backend_free(backend);
                return Err(Error::Internal { what: format!("ggml could not start {threads} threads") });
            }
            (cpu.set_threads)(backend, threads);
            (cpu.set_threadpool)(backend, threadpool);
            Ok(Self { cpu, backend, threadpool })
        }
    }

    /// Runs a graph; `cancel` is looked at between nodes.
    pub fn run(&mut self, graph: *mut sys::ggml_cgraph, cancel: &AtomicBool) -> Result<()> {
        // SAFETY: the graph's tensors are allocated; `cancel` outlives the call and the callback is removed after it.
        let status = unsafe {
            (self.cpu.set_abort)(self.backend, Some(is_cancelled), std::ptr::from_ref(cancel).cast_mut().cast());
            let status = sys::ggml_backend_graph_compute(self.backend, graph);
            (self.cpu.set_abort)(self.backend, None, std::ptr::null_mut());
            status
        };
        match status {
            sys::GGML_STATUS_SUCCESS => Ok(()),
            sys::GGML_STATUS_ABORTED => Err(Error::Cancelled),
            other => Err(Error::Internal { what: format!("ggml's graph computation failed with status {other}") }),
        }
    }
}

unsafe extern "C" fn is_cancelled(flag: *mut c_void) -> bool {
    // SAFETY: `run` passes a live AtomicBool.
    unsafe { (*flag.cast::<AtomicBool>()).load(Ordering::Relaxed) }
}

impl Drop for Compute {
    fn drop(&mut self) {
        // SAFETY: owned handles, freed once, backend first because it refers to the pool.
        unsafe {
            sys::ggml_backend_free(self.backend);
            (self.cpu.free_threadpool)(self.threadpool);
        }
    }
}
