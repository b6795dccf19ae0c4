//! Linear layers over many rows as bf16 products, where the CPU multiplies bf16 faster than ggml does the weight's type.
//!
//! A weight is widened by ggml and packed as it is needed, one panel of its rows at a time: nothing of it is kept. Rounding both sides to
//! bf16 (2^-9 of each value) costs less precision than ggml's own products, which round the activations to 8 bits a block of 32.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ctkvr_core::{Bf16Kernels, Bf16Product, PANEL_COLUMNS};
use llama_cpp_sys_2 as sys;

use crate::attention_hook::AttentionHook;

/// Fewer rows than this do not pay for widening the weights.
pub(crate) const MIN_ROWS: usize = 96;

/// Whether ggml's own product of this weight is slower: types of blocks of 32 that are not in an extra buffer. (K-quants have tiled
/// products in ggml; f16, bf16 and f32 need no widening.)
///
/// # Safety
/// `weight` is a live, placed tensor.
pub(crate) unsafe fn pays(weight: *const sys::ggml_tensor) -> bool {
    // SAFETY: the caller's tensor; a placed tensor has a buffer.
    let (kind, len, plain) = unsafe { ((*weight).type_, (*weight).ne[0], sys::ggml_backend_buffer_is_host((*weight).buffer)) };
    let slow = [sys::GGML_TYPE_Q4_0, sys::GGML_TYPE_Q4_1, sys::GGML_TYPE_Q5_0, sys::GGML_TYPE_Q5_1, sys::GGML_TYPE_Q8_0];
    plain && slow.contains(&kind) && len % 2 == 0
}

/// User data of one product's node; lives as long as its graph.
pub(crate) struct LinearCall {
    pub kernels: &'static Bf16Kernels,
    pub hook: Arc<AttentionHook>,
    /// Turns that threads have taken in all runs of the node so far.
    turns: AtomicUsize,
}

impl LinearCall {
    pub fn new(kernels: &'static Bf16Kernels, hook: &Arc<AttentionHook>) -> Self {
        Self { kernels, hook: Arc::clone(hook), turns: AtomicUsize::new(0) }
    }

    /// The next item of this run that nobody has taken. In each run every thread is told once that there is none, so that a run takes
    /// `count + num_threads` turns and the next one starts at a multiple of that.
    fn next(&self, count: usize, num_threads: usize) -> Option<usize> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) % (count + num_threads);
        (turn < count).then_some(turn)
    }
}

/// Reused memory of one thread.
#[derive(Default)]
struct Scratch {
    /// One row of the weight, f32.
    wide: Vec<f32>,
    /// bf16 `[PANEL_COLUMNS, k]`.
    rows: Vec<u16>,
    /// bf16 `[k / 2, PANEL_COLUMNS, 2]`.
    panel: Vec<u16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The custom operator: sources are the weight `[k, n]` and the activations bf16 `[k, rows]`, contiguous; the result is f32 `[n, rows]`.
/// ggml calls it from all of its threads.
///
/// # Safety
/// `userdata` points to a live [`LinearCall`].
pub(crate) unsafe extern "C" fn multiply(result: *mut sys::ggml_tensor, _thread: c_int, num_threads: c_int, userdata: *mut c_void) {
    // SAFETY: ggml passes back the pointer given when the node was made.
    let call = unsafe { &*userdata.cast::<LinearCall>() };
    let work = AssertUnwindSafe(|| {
        // SAFETY: the node was made with two sources, which ggml has computed; buffers are live until all threads return.
        SCRATCH.with_borrow_mut(|scratch| unsafe { multiply_panels(call, &*result, num_threads as usize, scratch) });
    });
    if catch_unwind(work).is_err() {
        call.hook.panicked.store(true, Ordering::SeqCst);
        // The step fails; but this thread's turns must be taken, or the next run would begin in the middle.
        // SAFETY: as above.
        let num_panels = unsafe { num_panels(&*(*result).src[0]) };
        while call.next(num_panels, num_threads as usize).is_some() {}
    }
}

fn num_panels(weight: &sys::ggml_tensor) -> usize {
    (weight.ne[1] as usize).div_ceil(PANEL_COLUMNS)
}

/// # Safety
/// As [`multiply`].
unsafe fn multiply_panels(call: &LinearCall, result: &sys::ggml_tensor, num_threads: usize, s: &mut Scratch) {
    // SAFETY: the node's tensors; every row and panel is inside them.
    unsafe {
        let (weight, input) = (&*result.src[0], &*result.src[1]);
        let (k, n, rows) = (weight.ne[0] as usize, weight.ne[1] as usize, result.ne[1] as usize);
        let Some(widen) = (*sys::ggml_get_type_traits(weight.type_)).to_float else {
            panic!("ggml cannot widen weights of its type {}", weight.type_)
        };
        s.wide.resize(k, 0.0);
        s.rows.resize(PANEL_COLUMNS * k, 0);
        s.panel.resize(PANEL_COLUMNS * k, 0);
        while let Some(panel) = call.next(num_panels(weight), num_threads) {
            let first = panel * PANEL_COLUMNS;
            let columns = PANEL_COLUMNS.min(n - first);
            for j in 0..columns {
                widen(weight.data.cast::<u8>().add((first + j) * weight.nb[1]).cast(), s.wide.as_mut_ptr(), k as i64);
                (call.kernels.narrow)(s.wide.as_ptr(), k, s.rows.as_mut_ptr().add(j * k));
            }
            (call.kernels.pack_columns)(s.rows.as_ptr(), k, s.panel.as_mut_ptr());
            (call.kernels.product)(&Bf16Product {
                a: input.data.cast(),
                lda: k,
                panel: s.panel.as_ptr(),
                c: result.data.cast::<f32>().add(first),
                ldc: n,
                m: rows,
                columns,
                k,
                accumulate: false,
            });
        }
    }
}
