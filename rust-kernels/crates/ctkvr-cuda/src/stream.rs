//! Streams, events and graphs. Work of one stream runs in order; streams run side by side unless one waits for an event of the other.

use std::sync::Arc;

use cudarc::driver::{result, sys};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::span::{Plain, Span};

/// A queue of work on a device.
pub struct Stream {
    context: Arc<Context>,
    raw: sys::CUstream,
}

// SAFETY: the driver's streams may be used from any thread; the handle is only a number to us.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self> {
        let raw = context.call("cuStreamCreate", || result::stream::create(result::stream::StreamKind::NonBlocking))?;
        Ok(Self { context: context.clone(), raw })
    }

    pub(crate) fn raw(&self) -> sys::CUstream {
        self.raw
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Copies `from` to the device in this stream's order. `from` may change when this returns.
    ///
    /// # Errors
    /// `Length` when they differ in length; those of the driver.
    pub fn copy_in<T: Plain>(&self, to: Span<T>, from: &[T]) -> Result<()> {
        to.check("a copy to the device", from.len())?;
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: the lengths are the same; the driver has read memory that is not pinned when it returns.
        self.context.call("cuMemcpyHtoDAsync", || unsafe { result::memcpy_htod_async(to.address(), from, self.raw) })
    }

    /// Copies `from` to the host after what this stream was given before. Waits for it.
    ///
    /// # Errors
    /// As [`Self::copy_in`].
    pub fn copy_out<T: Plain>(&self, to: &mut [T], from: Span<T>) -> Result<()> {
        from.check("a copy from the device", to.len())?;
        if !to.is_empty() {
            // SAFETY: the lengths are the same, and the copy has ended when this returns.
            self.context.call("cuMemcpyDtoHAsync", || unsafe { result::memcpy_dtoh_async(to, from.address(), self.raw) })?;
        }
        self.wait()
    }

    /// Copies on the device. The two do not overlap.
    ///
    /// # Errors
    /// As [`Self::copy_in`].
    pub fn copy<T: Plain>(&self, to: Span<T>, from: Span<T>) -> Result<()> {
        to.check("a copy on the device", from.len())?;
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: the lengths are the same.
        self.context.call("cuMemcpyDtoDAsync", || unsafe {
            result::memcpy_dtod_async(to.address(), from.address(), from.bytes(), self.raw)
        })
    }

    /// Every byte becomes `value`.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn fill<T: Plain>(&self, to: Span<T>, value: u8) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: as many bytes as the span has.
        self.context.call("cuMemsetD8Async", || unsafe { result::memset_d8_async(to.address(), value, to.bytes(), self.raw) })
    }

    /// Blocks until all that this stream was given is done.
    ///
    /// # Errors
    /// `DeviceLost` when something of it trapped.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the stream is ours.
        self.context.call("cuStreamSynchronize", || unsafe { result::stream::synchronize(self.raw) })
    }

    /// What this stream is given from now on begins after what the event marks.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn wait_for(&self, event: &Event) -> Result<()> {
        // SAFETY: both are alive.
        self.context.call("cuStreamWaitEvent", || unsafe {
            result::stream::wait_event(self.raw, event.raw, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)
        })
    }

    /// Marks what this stream was given so far.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn record(&self, event: &Event) -> Result<()> {
        // SAFETY: both are alive.
        self.context.call("cuEventRecord", || unsafe { result::event::record(event.raw, self.raw) })
    }

    /// What `work` gives this stream (and streams that wait for an event of its) becomes a graph, and is not run. Work that fails ends
    /// the capture.
    ///
    /// # Errors
    /// What `work` says; those of the driver.
    pub fn capture<E: From<Error>>(&self, work: impl FnOnce() -> std::result::Result<(), E>) -> std::result::Result<Graph, E> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours.
        self.context.call("cuStreamBeginCapture", || unsafe { result::stream::begin_capture(self.raw, mode) })?;
        let done = work();
        // SAFETY: as above. The capture ends whatever happened, or the stream could not be used again.
        let captured = self.context.call("cuStreamEndCapture", || unsafe { result::stream::end_capture(self.raw) });
        let graph = Captured { context: &self.context, raw: captured.as_ref().copied().unwrap_or(std::ptr::null_mut()) };
        done?;
        captured?;
        // SAFETY: the graph is the one that was captured.
        let raw = self
            .context
            .call("cuGraphInstantiate", || unsafe { result::graph::instantiate(graph.raw, sys::CUgraphInstantiate_flags(0)) })?;
        Ok(Graph { context: self.context.clone(), raw })
    }

    /// # Errors
    /// Those of the driver.
    pub fn launch_graph(&self, graph: &Graph) -> Result<()> {
        // SAFETY: both are alive.
        self.context.call("cuGraphLaunch", || unsafe { result::graph::launch(graph.raw, self.raw) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once.
        self.context.release(|| unsafe { result::stream::destroy(self.raw) });
    }
}

/// A mark in a stream.
pub struct Event {
    context: Arc<Context>,
    raw: sys::CUevent,
}

// SAFETY: as Stream.
unsafe impl Send for Event {}
// SAFETY: as Stream.
unsafe impl Sync for Event {}

impl Event {
    pub(crate) fn new(context: &Arc<Context>, flags: sys::CUevent_flags) -> Result<Self> {
        let raw = context.call("cuEventCreate", || result::event::create(flags))?;
        Ok(Self { context: context.clone(), raw })
    }

    /// Blocks until what it marks is done.
    ///
    /// # Errors
    /// `DeviceLost`.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event is ours.
        self.context.call("cuEventSynchronize", || unsafe { result::event::synchronize(self.raw) })
    }

    /// Whether what it marks is done.
    ///
    /// # Errors
    /// `DeviceLost`.
    pub fn is_done(&self) -> Result<bool> {
        self.context.bind()?;
        // SAFETY: the event is ours.
        match unsafe { result::event::query(self.raw) } {
            Ok(()) => Ok(true),
            Err(e) if e.0 as u32 == 600 => Ok(false),
            Err(e) => Err(self.context.failed("cuEventQuery", e)),
        }
    }

    /// Milliseconds from `earlier` to this. Both were made by [`crate::Device::timed_event`], recorded and waited for.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn ms_since(&self, earlier: &Event) -> Result<f32> {
        // SAFETY: both are alive.
        self.context.call("cuEventElapsedTime", || unsafe { result::event::elapsed(earlier.raw, self.raw) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once.
        self.context.release(|| unsafe { result::event::destroy(self.raw) });
    }
}

/// Work that is launched as one. What its launches were given (addresses, numbers) stays as it was when it was captured.
pub struct Graph {
    context: Arc<Context>,
    raw: sys::CUgraphExec,
}

// SAFETY: a graph is launched through &self, which the driver orders by stream; it is changed nowhere.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made in `capture`, destroyed once.
        self.context.release(|| unsafe { result::graph::exec_destroy(self.raw) });
    }
}

/// A captured graph until it is instantiated.
struct Captured<'a> {
    context: &'a Context,
    raw: sys::CUgraph,
}

impl Drop for Captured<'_> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made by the end of a capture, destroyed once; an instance is a copy.
            self.context.release(|| unsafe { result::graph::destroy(self.raw) });
        }
    }
}
