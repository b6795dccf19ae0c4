//! An owned ggml context that holds tensor descriptions only; their data lives in backend buffers.

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};

/// Frees the context when dropped.
#[derive(Debug)]
pub(crate) struct GgmlContext(*mut sys::ggml_context);

// SAFETY: a context is a plain arena; it is used by one thread at a time.
unsafe impl Send for GgmlContext {}
// SAFETY: shared references only read tensor descriptions.
unsafe impl Sync for GgmlContext {}

impl GgmlContext {
    /// Room for `num_tensors` descriptions.
    pub fn new(num_tensors: usize) -> Result<Self> {
        // SAFETY: plain arithmetic and an allocation that is checked.
        let context = unsafe {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: num_tensors * sys::ggml_tensor_overhead(),
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            })
        };
        if context.is_null() { Err(Error::Internal { what: "ggml could not create a context".into() }) } else { Ok(Self(context)) }
    }

    pub fn raw(&self) -> *mut sys::ggml_context {
        self.0
    }
}

impl Drop for GgmlContext {
    fn drop(&mut self) {
        // SAFETY: made by ggml_init, freed once.
        unsafe { sys::ggml_free(self.0) };
    }
}
