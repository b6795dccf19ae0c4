//! Linear layers over packed weights, as two custom nodes of ggml's graph: activations are gated if they are to be, and rounded to 8 bits
//! once for all the layers that read them (in blocks of 32, as ggml's own products round them), then multiplied.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ctkvr_core::{BLOCK, PackedKernels, PackedProduct, STRIP_ROWS, activation_bytes};
use llama_cpp_sys_2 as sys;

use crate::attention_hook::AttentionHook;
use crate::packed_weight::PackedShape;

/// Ranges of strips a thread may take in turn: more, and threads end together; fewer, and each reads longer runs of memory.
const RANGES_PER_THREAD: usize = 8;
/// Bytes of activations that meet one strip after another: they stay in a core's own cache.
const ROWS_BYTES: usize = 256 << 10;

/// A node being computed.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a>(pub &'a sys::ggml_tensor);

impl Node<'_> {
    pub fn num_rows(self) -> usize {
        self.0.ne[1] as usize
    }

    /// Start of a row of a source.
    ///
    /// # Safety
    /// There are such a source and row.
    pub unsafe fn row(self, source: usize, row: usize) -> *const f32 {
        // SAFETY: rows lie nb[1] bytes apart.
        unsafe {
            let source = &*self.0.src[source];
            source.data.cast::<u8>().add(row * source.nb[1]).cast()
        }
    }

    /// Start of a row of the result.
    ///
    /// # Safety
    /// There is such a row.
    pub unsafe fn result_row(self, row: usize) -> *mut f32 {
        // SAFETY: as above.
        unsafe { self.0.data.cast::<u8>().add(row * self.0.nb[1]).cast() }
    }
}

/// User data of the nodes that round; lives as long as its graph.
pub(crate) struct RoundCall {
    pub kernels: &'static PackedKernels,
    pub hook: Arc<AttentionHook>,
}

/// Turns that threads have taken in all runs of a node so far.
#[derive(Default)]
pub(crate) struct Turns(AtomicUsize);

impl Turns {
    /// The next of a run's `strips` that nobody has taken. In each run every thread is told once that there are none, so that a run takes
    /// `ranges + num_threads` turns and the next one starts at a multiple of that.
    pub fn next(&self, strips: usize, num_threads: usize) -> Option<Range<usize>> {
        let ranges = strips.min(RANGES_PER_THREAD * num_threads);
        let turn = self.0.fetch_add(1, Ordering::Relaxed) % (ranges + num_threads);
        (turn < ranges).then(|| strips * turn / ranges..strips * (turn + 1) / ranges)
    }
}

/// User data of one product's node; lives as long as its graph.
pub(crate) struct LinearCall {
    kernels: &'static PackedKernels,
    hook: Arc<AttentionHook>,
    shape: PackedShape,
    turns: Turns,
}

impl LinearCall {
    pub fn new(kernels: &'static PackedKernels, hook: &Arc<AttentionHook>, shape: PackedShape) -> Self {
        Self { kernels, hook: Arc::clone(hook), shape, turns: Turns::default() }
    }

    fn next(&self, num_threads: usize) -> Option<Range<usize>> {
        self.turns.next(self.shape.num_strips(), num_threads)
    }
}

thread_local! {
    /// A row that was gated.
    static GATED: RefCell<Vec<f32>> = RefCell::default();
}

/// The custom operator that rounds: from f32 `[k, rows]` to u8 `[activation_bytes(k), rows]`. With a second source it rounds silu(first) *
/// second. ggml calls it from all of its threads.
///
/// # Safety
/// `userdata` points to a live [`RoundCall`].
pub(crate) unsafe extern "C" fn round(result: *mut sys::ggml_tensor, thread: c_int, num_threads: c_int, userdata: *mut c_void) {
    // SAFETY: ggml passes back the pointer given when the node was made.
    let call = unsafe { &*userdata.cast::<RoundCall>() };
    call.hook.run(|| {
        // SAFETY: the node was made with one or two sources of one shape, which ggml has computed; buffers are live until all threads
        // return.
        unsafe {
            let node = Node(&*result);
            let [input, up, ..] = node.0.src;
            let (k, rows) = ((*input).ne[0] as usize, node.num_rows());
            let blocks = k / BLOCK;
            let share = |i: usize| rows * blocks * i / num_threads as usize;
            let (mut from, end) = (share(thread as usize), share(thread as usize + 1));
            while from < end {
                let (row, first) = (from / blocks, from % blocks);
                let count = (blocks - first).min(end - from);
                let (x, out) = (node.row(0, row), node.result_row(row).cast());
                let round = |x: *const f32| (call.kernels.round)(x, k, first, first + count, out);
                if up.is_null() {
                    round(x);
                } else {
                    GATED.with_borrow_mut(|gated| {
                        gated.resize(gated.len().max(k), 0.0);
                        let at = first * BLOCK;
                        (call.kernels.gate)(x.add(at), node.row(1, row).add(at), count * BLOCK, gated.as_mut_ptr().add(at));
                        round(gated.as_ptr());
                    });
                }
                from += count;
            }
        }
    });
}

/// The custom operator that multiplies: sources are the packed weight and the rounded activations; the result is f32 `[n, rows]`. ggml
/// calls it from all of its threads.
///
/// # Safety
/// `userdata` points to a live [`LinearCall`] of the weight's shape.
pub(crate) unsafe extern "C" fn multiply(result: *mut sys::ggml_tensor, _thread: c_int, num_threads: c_int, userdata: *mut c_void) {
    // SAFETY: ggml passes back the pointer given when the node was made.
    let call = unsafe { &*userdata.cast::<LinearCall>() };
    let ended = call.hook.run(|| {
        while let Some(strips) = call.next(num_threads as usize) {
            // SAFETY: the node was made with two sources, which ggml has computed; buffers are live until all threads return.
            unsafe { multiply_strips(call, &*result, strips) };
        }
    });
    if !ended {
        // The step fails; but this thread's turns must be taken, or the next run would begin in the middle.
        while call.next(num_threads as usize).is_some() {}
    }
}

/// # Safety
/// As [`multiply`].
unsafe fn multiply_strips(call: &LinearCall, result: &sys::ggml_tensor, strips: Range<usize>) {
    let PackedShape { format, k, n } = call.shape;
    let (num_rows, row_bytes) = (result.ne[1] as usize, activation_bytes(k));
    let rows_at_once = (ROWS_BYTES / row_bytes).next_multiple_of(8);
    for first_row in (0..num_rows).step_by(rows_at_once) {
        for strip in strips.clone() {
            let first = strip * STRIP_ROWS;
            // SAFETY: the node's tensors; every row and strip is inside them.
            unsafe {
                let [weight, activations, ..] = result.src;
                (call.kernels.product)(&PackedProduct {
                    format,
                    activations: (*activations).data.cast::<u8>().add(first_row * row_bytes),
                    strip: (*weight).data.cast::<u8>().add(strip * call.shape.strip_bytes()),
                    c: result.data.cast::<f32>().add(first_row * n + first),
                    ldc: n,
                    rows: rows_at_once.min(num_rows - first_row),
                    columns: STRIP_ROWS.min(n - first),
                    k,
                });
            }
        }
    }
}
