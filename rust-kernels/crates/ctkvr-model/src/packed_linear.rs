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

/// One strip of so many of a thread's share is dealt out to whoever comes first.
const DEALT_SHARE: usize = 4;
/// Ranges that these come in, of each share.
const DEALT_RANGES: usize = 4;
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

/// Who multiplies which strips: each thread first its own, a run of memory; then what is left of all shares is dealt out, so that threads end
/// together.
#[derive(Default)]
pub(crate) struct Turns {
    /// Turns that threads have taken in all runs of a node so far.
    taken: AtomicUsize,
}

impl Turns {
    /// One thread's strips in one run of a node that has `strips`.
    pub fn of(&self, strips: usize, thread: usize, num_threads: usize) -> ThreadStrips<'_> {
        ThreadStrips { turns: self, strips, num_threads, own: Some(own_strips(strips, thread, num_threads)), is_told: false }
    }
}

/// What a thread has of a node's strips before any are dealt out.
pub(crate) fn own_strips(strips: usize, thread: usize, num_threads: usize) -> Range<usize> {
    let share = share_of(strips, thread, num_threads);
    share.start..share.end - share.len() / DEALT_SHARE
}

/// One of equal shares of n things in a row.
fn share_of(n: usize, index: usize, count: usize) -> Range<usize> {
    n * index / count..n * (index + 1) / count
}

/// See [`Turns::of`]. Dropped early, as by a panic, it takes the turns that are left, or the next run would begin in the middle.
pub(crate) struct ThreadStrips<'a> {
    turns: &'a Turns,
    strips: usize,
    num_threads: usize,
    own: Option<Range<usize>>,
    is_told: bool,
}

impl Iterator for ThreadStrips<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.own.is_some() {
            return self.own.take();
        }
        if self.is_told {
            return None;
        }
        // In each run every thread is told once that nothing is left, so that a run takes `ranges + num_threads` turns and the next one starts
        // at a multiple of that.
        let ranges = DEALT_RANGES * self.num_threads;
        let turn = self.turns.taken.fetch_add(1, Ordering::Relaxed) % (ranges + self.num_threads);
        self.is_told = turn >= ranges;
        (!self.is_told).then(|| {
            let (owner, range) = (turn % self.num_threads, turn / self.num_threads);
            let first = own_strips(self.strips, owner, self.num_threads).end;
            let dealt = share_of(share_of(self.strips, owner, self.num_threads).end - first, range, DEALT_RANGES);
            first + dealt.start..first + dealt.end
        })
    }
}

impl Drop for ThreadStrips<'_> {
    fn drop(&mut self) {
        while self.next().is_some() {}
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
            let Range { start: mut from, end } = share_of(rows * blocks, thread as usize, num_threads as usize);
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
pub(crate) unsafe extern "C" fn multiply(result: *mut sys::ggml_tensor, thread: c_int, num_threads: c_int, userdata: *mut c_void) {
    // SAFETY: ggml passes back the pointer given when the node was made.
    let call = unsafe { &*userdata.cast::<LinearCall>() };
    call.hook.run(|| {
        for strips in call.turns.of(call.shape.num_strips(), thread as usize, num_threads as usize) {
            // SAFETY: the node was made with two sources, which ggml has computed; buffers are live until all threads return.
            unsafe { multiply_strips(call, &*result, strips) };
        }
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_each_run_every_strip_is_somebodys_also_after_a_thread_that_stopped() {
        for num_threads in [1, 2, 3, 7] {
            for strips in [0, 1, 5, 36, 100] {
                let turns = Turns::default();
                for run in 0..3 {
                    let mut done = vec![0; strips];
                    let mut threads: Vec<_> = (0..num_threads).map(|thread| turns.of(strips, thread, num_threads)).collect();
                    if run == 1 {
                        // As a thread that panics: what it had taken stays undone, and the next run is whole again.
                        drop(threads.pop());
                    }
                    // Not one after another: what is left of all shares is dealt out in turn.
                    while !threads.is_empty() {
                        threads.retain_mut(|thread| {
                            let range = thread.next();
                            range.clone().into_iter().flatten().for_each(|strip| done[strip] += 1);
                            range.is_some()
                        });
                    }
                    if run != 1 {
                        assert!(done.iter().all(|&times| times == 1), "{strips} strips, {num_threads} threads: {done:?}");
                    }
                }
            }
        }
    }
}
