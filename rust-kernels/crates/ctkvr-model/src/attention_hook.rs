//! The bridge from a graph's custom node to the attention backend.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctkvr_core::{AttentionBackend, LayerIo, Thread};
use llama_cpp_sys_2 as sys;

/// What every custom node of an engine shares.
pub(crate) struct AttentionHook {
    pub backend: Arc<dyn AttentionBackend>,
    /// A panic in a node may not unwind into C: it is noted here and the step fails.
    pub panicked: AtomicBool,
}

impl AttentionHook {
    /// Runs a node's work; returns whether it came to its end.
    pub fn run(&self, work: impl FnOnce()) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        if outcome.is_err() {
            self.panicked.store(true, Ordering::SeqCst);
        }
        outcome.is_ok()
    }
}

/// User data of one layer's node; lives as long as its graph.
pub(crate) struct LayerCall {
    pub layer: usize,
    pub hook: Arc<AttentionHook>,
}

/// The custom operator: sources are Q `[head_dim, num_q_heads, rows]`, K and V `[head_dim, num_kv_heads, rows]`, f32 and contiguous; the
/// result is `[head_dim * num_q_heads, rows]`. ggml calls it from all of its threads.
///
/// # Safety
/// `userdata` points to a live [`LayerCall`]; a step over as many rows is open in its backend.
pub(crate) unsafe extern "C" fn attend(result: *mut sys::ggml_tensor, thread: c_int, num_threads: c_int, userdata: *mut c_void) {
    // SAFETY: ggml passes back the pointer given when the node was made.
    let call = unsafe { &*userdata.cast::<LayerCall>() };
    call.hook.run(|| {
        // SAFETY: the node was made with three sources, which ggml has computed; buffers are live until all threads return.
        unsafe {
            let [queries, keys, values, ..] = (*result).src;
            let io = LayerIo {
                queries: (*queries).data.cast(),
                keys: (*keys).data.cast(),
                values: (*values).data.cast(),
                out: (*result).data.cast(),
                num_rows: (*result).ne[1] as usize,
            };
            call.hook.backend.run(call.layer, &io, Thread { index: thread as usize, count: num_threads as usize });
        }
    });
}
