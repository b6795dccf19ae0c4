//! Weights where they run fastest: packed for our own products where this CPU has them, or copied as they are, in huge pages. Used in place
//! from the mapped file when several processes are to share them.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use ctkvr_kernels::PackedKernels;
use llama_cpp_sys_2 as sys;

use crate::backends::{CpuDevice, cpu_device};
use crate::error::{Error, Result};
use crate::ggml_context::GgmlContext;
use crate::gguf::{Gguf, TensorInfo};
use crate::logs;
use crate::model::LoadOptions;
use crate::packed_weight::PackedShape;
use crate::spec::ModelSpec;
use crate::tensors::{TensorUse, expected_tensors};

/// Pages are brought in by pieces of this size, so that progress moves and a cancel is seen.
const POPULATE_BYTES: usize = 16 << 20;

/// A model's weights and what keeps them alive.
#[derive(Debug)]
pub(crate) struct Weights {
    tensors: HashMap<String, TensorPointer>,
    /// Those of the tensors, by name, that are packed: bytes to ggml.
    packed: HashMap<String, PackedShape>,
    packed_kernels: Option<&'static PackedKernels>,
    copied_bytes: u64,
    // Buffers go before the contexts that describe their tensors.
    _buffers: Vec<Buffer>,
    _contexts: Vec<GgmlContext>,
}

#[derive(Debug, Clone, Copy)]
struct TensorPointer(*mut sys::ggml_tensor);
// SAFETY: weights are only read once loaded.
unsafe impl Send for TensorPointer {}
// SAFETY: as above.
unsafe impl Sync for TensorPointer {}

#[derive(Debug)]
struct Buffer(sys::ggml_backend_buffer_t);
// SAFETY: freed once, by whichever thread drops the model.
unsafe impl Send for Buffer {}
// SAFETY: never touched through a shared reference.
unsafe impl Sync for Buffer {}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; its memory is not used after the weights are dropped.
        unsafe { sys::ggml_backend_buffer_free(self.0) };
    }
}

/// One tensor to place: its data in the file and the name the step finds it by.
struct Placement<'a> {
    info: &'a TensorInfo,
    key: String,
    /// Its pages are read in every step (false: only single rows are).
    populate: bool,
    /// Where it is copied to; `None` = used in place.
    copy: Option<Copy>,
}

#[derive(Clone, Copy)]
struct Copy {
    buffer_type: sys::ggml_backend_buffer_type_t,
    packed: Option<PackedShape>,
}

/// A matrix that multiplies activations.
pub(crate) struct Matrix<'a> {
    pub tensor: &'a sys::ggml_tensor,
    /// When it is packed: for these kernels, and its shape.
    pub packed: Option<(&'static PackedKernels, PackedShape)>,
}

/// The key of the output matrix: the file's, or a second copy of the embedding in another layout.
pub(crate) const OUTPUT_KEY: &str = "output.weight";

impl Weights {
    /// Places every tensor of the model. `progress` receives 0..1; `cancel` stops between tensors.
    pub fn load(
        gguf: &Gguf,
        spec: &ModelSpec,
        options: &LoadOptions,
        progress: &mut dyn FnMut(f32),
        cancel: &AtomicBool,
    ) -> Result<Self> {
        let cpu = cpu_device()?;
        let mut placements = plan(gguf, spec, options);
        let total: usize = placements.iter().filter(|p| p.populate || p.copy.is_some()).map(|p| p.info.size_bytes).sum();
        let mut progress = Progress { done: 0, total: total.max(1), report: progress, cancel };
        let mut weights = Self {
            tensors: HashMap::new(),
            packed: HashMap::new(),
            packed_kernels: options.packed,
            copied_bytes: 0,
            _buffers: Vec::new(),
            _contexts: Vec::new(),
        };
        let mut buffer_types: Vec<_> = placements.iter().filter_map(|p| p.copy).map(|copy| copy.buffer_type).collect();
        buffer_types.sort_unstable();
        buffer_types.dedup();
        for buffer_type in buffer_types {
            let (here, elsewhere) =
                placements.into_iter().partition(|p| p.copy.is_some_and(|copy| copy.buffer_type == buffer_type));
            placements = elsewhere;
            if let Some(left) = weights.copy(gguf, buffer_type, here, &mut progress)? {
                placements.extend(left);
            }
        }
        weights.map_in_place(gguf, cpu, &placements, &mut progress)?;
        if !weights.tensors.contains_key(OUTPUT_KEY) {
            return Err(Error::Internal { what: "no output matrix was placed".into() });
        }
        (progress.report)(1.0);
        Ok(weights)
    }

    /// A tensor by its name in the file.
    pub fn get(&self, name: &str) -> Option<&sys::ggml_tensor> {
        // SAFETY: placed tensors live as long as this.
        self.tensors.get(name).map(|tensor| unsafe { &*tensor.0 })
    }

    /// Values of a vector of f32; `None` when the model has none of that name.
    pub fn vector(&self, name: &str) -> Option<&[f32]> {
        let tensor = self.get(name)?;
        // SAFETY: a vector's type was checked; its data is live.
        Some(unsafe { std::slice::from_raw_parts(tensor.data.cast(), tensor.ne[0] as usize) })
    }

    /// A matrix by its name in the file; `output.weight` turns the last hidden state into logits, whatever the file calls it.
    pub fn matrix(&self, name: &str) -> Option<Matrix<'_>> {
        Some(Matrix { tensor: self.get(name)?, packed: self.packed_kernels.zip(self.packed.get(name).copied()) })
    }

    /// What asks for packed weights before they are multiplied.
    pub fn prefetch(&self) -> Option<unsafe fn(*const u8, usize)> {
        self.packed_kernels.map(|kernels| kernels.prefetch)
    }

    /// Bytes of weights kept outside the file's mapping.
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// Copies tensors into one buffer. When the buffer cannot be had they come back, to be used in place.
    fn copy<'a>(
        &mut self,
        gguf: &Gguf,
        buffer_type: sys::ggml_backend_buffer_type_t,
        mut here: Vec<Placement<'a>>,
        progress: &mut Progress,
    ) -> Result<Option<Vec<Placement<'a>>>> {
        let context = GgmlContext::new(here.len())?;
        let tensors = here.iter().map(|placement| placement.describe_copy(&context)).collect::<Result<Vec<_>>>()?;
        // SAFETY: the context holds exactly these tensors, none allocated yet.
        let (buffer, _) = logs::capture(|| unsafe { sys::ggml_backend_alloc_ctx_tensors_from_buft(context.raw(), buffer_type) });
        if buffer.is_null() {
            for placement in &mut here {
                placement.copy = None;
            }
            return Ok(Some(here));
        }
        let buffer = Buffer(buffer);
        // SAFETY: the buffer is live, and its memory has not been written yet.
        unsafe {
            sys::ggml_backend_buffer_set_usage(buffer.0, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            let start = sys::ggml_backend_buffer_get_base(buffer.0);
            ctkvr_core::prefer_huge_pages(start.cast(), sys::ggml_backend_buffer_get_size(buffer.0));
        }
        let mut bytes = Vec::new();
        for (placement, tensor) in here.iter().zip(tensors) {
            progress.check_cancel()?;
            bytes.resize(placement.info.size_bytes, 0);
            gguf.file()
                .read_exact_at(&mut bytes, placement.info.offset as u64)
                .map_err(|error| Error::FileUnreadable { path: gguf.path().into(), reason: error.to_string() })?;
            match placement.copy.and_then(|copy| copy.packed) {
                // SAFETY: a tensor in ggml's own buffer type, which is plain memory that nobody else uses yet.
                Some(shape) => unsafe {
                    let packed = std::slice::from_raw_parts_mut((*tensor).data.cast::<u8>(), sys::ggml_nbytes(tensor));
                    shape.pack(placement.info.kind, &bytes, packed);
                    self.packed.insert(placement.key.clone(), shape);
                },
                // SAFETY: the tensor is allocated in the buffer and `bytes` holds exactly its bytes in the file's layout.
                None => unsafe { sys::ggml_backend_tensor_set(tensor, bytes.as_ptr().cast::<c_void>(), 0, bytes.len()) },
            }
            // SAFETY: a live tensor.
            self.copied_bytes += unsafe { sys::ggml_nbytes(tensor) } as u64;
            self.tensors.insert(placement.key.clone(), TensorPointer(tensor));
            progress.advance(bytes.len());
        }
        self._buffers.push(buffer);
        self._contexts.push(context);
        Ok(None)
    }

    fn map_in_place(&mut self, gguf: &Gguf, cpu: &CpuDevice, placements: &[Placement], progress: &mut Progress) -> Result<()> {
        let context = GgmlContext::new(placements.len())?;
        let file = gguf.file();
        let largest = placements.iter().map(|p| p.info.size_bytes).max().unwrap_or(0);
        // SAFETY: the mapping outlives the buffer: the model drops its weights before its file.
        let buffer = unsafe { sys::ggml_backend_dev_buffer_from_host_ptr(cpu.device, file.start().cast(), file.len(), largest) };
        if buffer.is_null() {
            return Err(Error::Internal { what: "ggml could not use the mapped file".into() });
        }
        let buffer = Buffer(buffer);
        // SAFETY: the buffer is live.
        unsafe { sys::ggml_backend_buffer_set_usage(buffer.0, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS) };
        for placement in placements {
            let tensor = describe(&context, placement.info);
            // SAFETY: the tensor's bytes lie inside the mapping (checked when the file was opened).
            let status = unsafe {
                let address = file.start().add(placement.info.offset);
                sys::ggml_backend_tensor_alloc(buffer.0, tensor, address.cast())
            };
            if status != sys::GGML_STATUS_SUCCESS {
                return Err(Error::Internal { what: format!("ggml could not place the tensor {}", placement.info.name) });
            }
            self.tensors.insert(placement.key.clone(), TensorPointer(tensor));
            if placement.populate {
                let mut from = 0;
                while from < placement.info.size_bytes {
                    progress.check_cancel()?;
                    let piece = POPULATE_BYTES.min(placement.info.size_bytes - from);
                    file.populate(placement.info.offset + from, piece);
                    progress.advance(piece);
                    from += piece;
                }
            }
        }
        self._buffers.push(buffer);
        self._contexts.push(context);
        Ok(())
    }
}

impl Placement<'_> {
    /// The tensor of its copy: packed weights are bytes to ggml.
    fn describe_copy(&self, context: &GgmlContext) -> Result<*mut sys::ggml_tensor> {
        let Some(shape) = self.copy.and_then(|copy| copy.packed) else { return Ok(describe(context, self.info)) };
        let bytes = shape.bytes().and_then(|bytes| i64::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| Error::Internal { what: format!("the tensor {} is too large", self.info.name) })?;
        // SAFETY: the context has room.
        Ok(unsafe { sys::ggml_new_tensor_1d(context.raw(), sys::GGML_TYPE_I8, bytes) })
    }
}

struct Progress<'a> {
    done: usize,
    total: usize,
    report: &'a mut dyn FnMut(f32),
    cancel: &'a AtomicBool,
}

impl Progress<'_> {
    fn advance(&mut self, bytes: usize) {
        self.done += bytes;
        (self.report)((self.done as f32 / self.total as f32).min(1.0));
    }

    fn check_cancel(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

fn plan<'a>(gguf: &'a Gguf, spec: &ModelSpec, options: &LoadOptions) -> Vec<Placement<'a>> {
    // SAFETY: ggml's own buffer type, which always exists.
    let buffer_type = unsafe { sys::ggml_backend_cpu_buffer_type() };
    let copy = |info: &TensorInfo| {
        let packed = options.packed.and_then(|_| PackedShape::of(info));
        (!options.map_weights).then_some(Copy { buffer_type, packed })
    };
    let mut placements = Vec::new();
    for expected in expected_tensors(spec) {
        let Some(info) = gguf.tensor(&expected.name) else { continue };
        let copy = if expected.purpose == TensorUse::Product { copy(info) } else { None };
        let populate = expected.purpose != TensorUse::Rows;
        placements.push(Placement { info, key: expected.name, populate, copy });
    }
    if gguf.tensor(OUTPUT_KEY).is_none()
        && let Some(info) = gguf.tensor("token_embd.weight")
    {
        let copy = copy(info);
        placements.push(Placement { info, key: OUTPUT_KEY.into(), populate: true, copy });
    }
    placements
}

fn describe(context: &GgmlContext, info: &TensorInfo) -> *mut sys::ggml_tensor {
    let num_dims = if info.shape[1] == 1 { 1 } else { 2 };
    // SAFETY: the context has room; shape and type were checked. Names shorter than ggml's limit were enforced by its reader.
    unsafe {
        let tensor = sys::ggml_new_tensor(context.raw(), info.kind, num_dims, info.shape.as_ptr());
        for (to, from) in (*tensor).name.iter_mut().zip(info.name.bytes().take(63)) {
            *to = from as std::ffi::c_char;
        }
        tensor
    }
}
