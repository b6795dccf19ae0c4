//! Weights where they run fastest: packed for our own products where this CPU has them, or copied as they are, in huge pages. Used in place
//! from the mapped file when several processes are to share them.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use ctkvr_kernels::PackedKernels;
use ctkvr_model::{Error, Model, PackedShape, Result, TensorInfo, TensorUse, Weight};
use llama_cpp_sys_2 as sys;

/// Pages are brought in by pieces of this size, so that progress moves and a cancel is seen.
const POPULATE_BYTES: usize = 16 << 20;
/// Where a copied tensor may begin: a cache line.
const ALIGNMENT: usize = 64;

/// A model's weights. Those that are used in place refer to the model's file, which must live longer.
pub(crate) struct Weights {
    tensors: HashMap<String, Tensor>,
    packed_kernels: Option<&'static PackedKernels>,
    copied_bytes: u64,
    /// What the copies are in.
    _copies: Option<Copies>,
}

/// One tensor where it is read from.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub data: *const u8,
    pub kind: sys::ggml_type,
    /// Lengths, fastest dimension first.
    pub shape: [usize; 2],
    /// When it is packed, its shape: other bytes than the file's.
    packed: Option<PackedShape>,
}

// SAFETY: weights are only read once placed.
unsafe impl Send for Tensor {}
// SAFETY: as above.
unsafe impl Sync for Tensor {}

impl Tensor {
    fn new(info: &TensorInfo, data: *const u8, packed: Option<PackedShape>) -> Self {
        let shape = [info.shape[0], info.shape[1]].map(|len| len as usize);
        Self { data, kind: info.kind, shape, packed }
    }

    /// Bytes of a row, of one that is not packed.
    pub fn row_bytes(&self) -> usize {
        // SAFETY: a type that ggml's reader let through; rows are whole blocks.
        unsafe { sys::ggml_row_size(self.kind, self.shape[0] as i64) }
    }
}

/// A matrix that multiplies activations.
pub(crate) struct Matrix<'a> {
    pub tensor: &'a Tensor,
    /// When it is packed: for these kernels, and its shape.
    pub packed: Option<(&'static PackedKernels, PackedShape)>,
}

/// How weights are placed.
#[derive(Clone, Copy)]
pub(crate) struct Placing {
    pub map_weights: bool,
    pub packed: Option<&'static PackedKernels>,
}

/// What a load tells and is told.
pub struct Loading<'a> {
    /// Receives 0..1.
    pub progress: &'a mut dyn FnMut(f32),
    /// Stops between tensors.
    pub cancel: &'a AtomicBool,
}

/// Memory of all tensors that are copied.
struct Copies {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory, freed once by whoever drops it.
unsafe impl Send for Copies {}
// SAFETY: never touched through a shared reference.
unsafe impl Sync for Copies {}

impl Copies {
    /// Zeros, in huge pages as far as there are; `None` when there is no such memory.
    fn new(bytes: usize) -> Option<Self> {
        // Aligned by hand: memory of the system's own alignment is zero without being written.
        let layout = Layout::from_size_align(bytes.checked_add(ALIGNMENT)?, align_of::<usize>()).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        // SAFETY: the memory is ours and has not been written yet.
        unsafe { ctkvr_core::prefer_huge_pages(start.as_ptr().cast(), layout.size()) };
        Some(Self { start, layout })
    }

    /// Where the first tensor begins.
    fn start(&self) -> *mut u8 {
        let start = self.start.as_ptr();
        // SAFETY: there is room for the alignment.
        unsafe { start.add(start.align_offset(ALIGNMENT)) }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // SAFETY: what `new` allocated, not used any more.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl Weights {
    /// Places every tensor of the model, which must live longer.
    ///
    /// # Errors
    /// `Cancelled`, `FileUnreadable`, `Internal`.
    pub fn place(model: &Model, placing: Placing, loading: Loading) -> Result<Self> {
        let all = model.weights();
        let (mut to_copy, mut in_place): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|weight| weight.purpose == TensorUse::Product && !placing.map_weights);
        let is_read = |weight: &&Weight| weight.purpose != TensorUse::Rows;
        let total: usize = to_copy.iter().chain(&in_place).filter(is_read).map(|weight| weight.info.size_bytes).sum();
        let mut progress = Progress { done: 0, total: total.max(1), loading };
        let mut weights = Self { tensors: HashMap::new(), packed_kernels: placing.packed, copied_bytes: 0, _copies: None };
        if !to_copy.is_empty() && !weights.copy(model, &to_copy, &mut progress)? {
            in_place.append(&mut to_copy);
        }
        weights.use_in_place(model, &in_place, &mut progress)?;
        (progress.loading.progress)(1.0);
        Ok(weights)
    }

    /// A tensor by its name in the model's description.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Values of a vector of f32; `None` when the model has none of that name.
    pub fn vector(&self, name: &str) -> Option<&[f32]> {
        let tensor = self.get(name)?;
        // SAFETY: a vector's type was checked; its data is live, and aligned as the file's tensors are.
        Some(unsafe { std::slice::from_raw_parts(tensor.data.cast(), tensor.shape[0]) })
    }

    /// A matrix by its name in the model's description.
    pub fn matrix(&self, name: &str) -> Option<Matrix<'_>> {
        let tensor = self.get(name)?;
        Some(Matrix { tensor, packed: self.packed_kernels.zip(tensor.packed) })
    }

    /// What asks for packed weights before they are multiplied.
    pub fn prefetch(&self) -> Option<unsafe fn(*const u8, usize)> {
        self.packed_kernels.map(PackedKernels::prefetch_function)
    }

    /// Bytes of weights kept outside the file's mapping.
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// Copies tensors; whether there was memory for it.
    fn copy(&mut self, model: &Model, all: &[Weight], progress: &mut Progress) -> Result<bool> {
        let shape_of = |info: &TensorInfo| self.packed_kernels.and_then(|_| PackedShape::of(info));
        let mut places = Vec::with_capacity(all.len());
        let mut end = 0usize;
        for weight in all {
            let packed = shape_of(&weight.info);
            let bytes = packed.map_or(Some(weight.info.size_bytes), |shape| shape.bytes());
            let too_large = || Error::Internal { what: format!("the tensor {} is too large", weight.info.name) };
            let bytes = bytes.ok_or_else(too_large)?;
            places.push((packed, end..end.checked_add(bytes).ok_or_else(too_large)?));
            end = end.checked_add(bytes.next_multiple_of(ALIGNMENT)).ok_or_else(too_large)?;
        }
        let Some(copies) = Copies::new(end) else { return Ok(false) };
        let mut bytes = Vec::new();
        for (weight, (packed, place)) in all.iter().zip(places) {
            progress.check_cancel()?;
            let info: &TensorInfo = &weight.info;
            // SAFETY: the place is inside the memory, which is zeros so far, and nobody else's.
            let target = unsafe { std::slice::from_raw_parts_mut(copies.start().add(place.start), place.len()) };
            let read = |into: &mut [u8]| {
                let read = model.file().read_exact_at(into, info.offset as u64);
                read.map_err(|error| Error::FileUnreadable { path: model.info().path.clone(), reason: error.to_string() })
            };
            match packed {
                Some(shape) => {
                    bytes.resize(info.size_bytes, 0);
                    read(&mut bytes)?;
                    shape.pack(info.kind, &bytes, target);
                }
                None => read(target)?,
            }
            self.copied_bytes += place.len() as u64;
            self.tensors.insert(weight.name.clone(), Tensor::new(info, target.as_ptr(), packed));
            progress.advance(info.size_bytes);
        }
        self._copies = Some(copies);
        Ok(true)
    }

    /// Refers to tensors in the mapped file, and brings those in that every step reads.
    fn use_in_place(&mut self, model: &Model, all: &[Weight], progress: &mut Progress) -> Result<()> {
        let file = model.file();
        for Weight { name, purpose, info } in all {
            // Inside the mapping: checked when the file was opened.
            let data = file.bytes()[info.offset..][..info.size_bytes].as_ptr();
            self.tensors.insert(name.clone(), Tensor::new(info, data, None));
            let mut from = if *purpose == TensorUse::Rows { info.size_bytes } else { 0 };
            while from < info.size_bytes {
                progress.check_cancel()?;
                let piece = POPULATE_BYTES.min(info.size_bytes - from);
                file.populate(info.offset + from, piece);
                progress.advance(piece);
                from += piece;
            }
        }
        Ok(())
    }
}

struct Progress<'a> {
    done: usize,
    total: usize,
    loading: Loading<'a>,
}

impl Progress<'_> {
    fn advance(&mut self, bytes: usize) {
        self.done += bytes;
        (self.loading.progress)((self.done as f32 / self.total as f32).min(1.0));
    }

    fn check_cancel(&self) -> Result<()> {
        if self.loading.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}
