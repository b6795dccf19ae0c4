//! Linear layers: activations are rounded to what a layer's weights are multiplied with, a row at a time, and meet its weights by strips of
//! 16 columns. A row's results are the same bits whatever other rows there are: each is a sum of its own.

use std::ffi::c_void;
use std::ops::Range;

use ctkvr_core::{BLOCK, PackedKernels, PackedProduct, STRIP_ROWS, activation_bytes};
use llama_cpp_sys_2 as sys;

use crate::backends::cpu_device;
use crate::error::{Error, Result};
use crate::packed_weight::PackedShape;
use crate::weights::Weights;

/// How a row of activations is rounded.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    /// To 8 bits, for packed weights.
    Packed(&'static PackedKernels),
    /// To the type that ggml multiplies a type of weights with.
    Ggml { kind: sys::ggml_type, from_float: unsafe extern "C" fn(*const f32, *mut c_void, i64) },
}

impl Encoding {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Packed(_), Self::Packed(_)) => true,
            (Self::Ggml { kind, .. }, Self::Ggml { kind: other, .. }) => kind == other,
            _ => false,
        }
    }

    /// Bytes of a row of k activations.
    pub fn row_bytes(&self, k: usize) -> usize {
        match self {
            Self::Packed(_) => activation_bytes(k),
            // SAFETY: a type of ggml's; k is a multiple of its block, as the weights' rows are. Rows begin at whole words.
            Self::Ggml { kind, .. } => unsafe { sys::ggml_row_size(*kind, k as i64) }.next_multiple_of(8),
        }
    }

    /// Rounds a row.
    ///
    /// # Safety
    /// `x` holds k values, `out` a rounded row.
    pub unsafe fn round(&self, x: *const f32, k: usize, out: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Packed(kernels) => (kernels.round)(x, k, 0, k / BLOCK, out),
                Self::Ggml { from_float, .. } => from_float(x, out.cast(), k as i64),
            }
        }
    }
}

/// What multiplies.
#[derive(Clone, Copy)]
enum Product {
    Packed(&'static PackedKernels, PackedShape),
    /// Row by row, as ggml does.
    Dots { dot: VecDot, row_bytes: usize },
}

type VecDot = unsafe extern "C" fn(i32, *mut f32, usize, *const c_void, usize, *const c_void, usize, i32);

/// One matrix of weights `[n, k]` and its bias. Refers to weights that live longer.
pub(crate) struct Linear {
    pub k: usize,
    pub n: usize,
    weights: *const u8,
    product: Product,
    encoding: Encoding,
    /// f32 `[n]`, or null.
    bias: *const f32,
}

// SAFETY: weights are only read.
unsafe impl Send for Linear {}
// SAFETY: as above.
unsafe impl Sync for Linear {}

/// Where results go.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// f32 `[rows, n]`.
    pub c: *mut f32,
    /// Results are added to what is there.
    pub is_residual: bool,
}

impl Linear {
    /// The layer of these names; `weights` must outlive it.
    pub fn new(weights: &Weights, name: &str, bias: &str) -> Result<Self> {
        let internal = |what: String| Error::Internal { what };
        let matrix = weights.matrix(name).ok_or_else(|| internal(format!("the matrix {name} was not placed")))?;
        let bias = weights.vector(bias).map_or(std::ptr::null(), <[f32]>::as_ptr);
        let data = matrix.tensor.data.cast_const().cast();
        if let Some((kernels, shape)) = matrix.packed {
            let (product, encoding) = (Product::Packed(kernels, shape), Encoding::Packed(kernels));
            return Ok(Self { k: shape.k, n: shape.n, weights: data, product, encoding, bias });
        }
        let cpu = cpu_device()?;
        let traits = cpu.type_traits(matrix.tensor.type_);
        let from_float = cpu.type_traits(traits.vec_dot_type).from_float;
        let (Some(dot), Some(from_float)) = (traits.vec_dot, from_float) else {
            return Err(internal(format!("ggml has no products for weights of type {} of {name}", matrix.tensor.type_)));
        };
        Ok(Self {
            k: matrix.tensor.ne[0] as usize,
            n: matrix.tensor.ne[1] as usize,
            weights: data,
            product: Product::Dots { dot, row_bytes: matrix.tensor.nb[1] },
            encoding: Encoding::Ggml { kind: traits.vec_dot_type, from_float },
            bias,
        })
    }

    pub fn num_strips(&self) -> usize {
        self.n.div_ceil(STRIP_ROWS)
    }

    fn strip_bytes(&self) -> usize {
        match self.product {
            Product::Packed(_, shape) => shape.strip_bytes(),
            Product::Dots { row_bytes, .. } => STRIP_ROWS * row_bytes,
        }
    }

    /// Some rows times a strip of weights.
    ///
    /// # Safety
    /// `activations` are all rows, rounded by this layer's encoding; `target` holds all rows; nobody else has these rows' columns of the strip;
    /// `sums` holds 16 values for each of the rows.
    unsafe fn multiply(&self, activations: *const u8, rows: Range<usize>, strip: usize, target: Target, sums: *mut f32) {
        let (first, row_bytes, num_rows) = (strip * STRIP_ROWS, self.encoding.row_bytes(self.k), rows.len());
        let columns = STRIP_ROWS.min(self.n - first);
        // SAFETY: the caller's; the strip is the weight's.
        unsafe {
            let activations = activations.add(rows.start * row_bytes);
            let out = target.c.add(rows.start * self.n + first);
            let (c, ldc) = if target.is_residual { (sums, STRIP_ROWS) } else { (out, self.n) };
            let weights = self.weights.add(strip * self.strip_bytes());
            match self.product {
                Product::Packed(kernels, PackedShape { format, k, .. }) => {
                    (kernels.product)(&PackedProduct { format, activations, strip: weights, c, ldc, rows: num_rows, columns, k });
                }
                Product::Dots { dot, row_bytes: weight_bytes } => {
                    for column in 0..columns {
                        let weight = weights.add(column * weight_bytes).cast();
                        for row in 0..num_rows {
                            let activation = activations.add(row * row_bytes).cast();
                            dot(self.k as i32, c.add(row * ldc + column), 0, weight, 0, activation, 0, 1);
                        }
                    }
                }
            }
            if !self.bias.is_null() {
                (0..num_rows).for_each(|row| add(c.add(row * ldc), self.bias.add(first), columns));
            }
            if target.is_residual {
                (0..num_rows).for_each(|row| add(out.add(row * self.n), c.add(row * ldc), columns));
            }
        }
    }
}

/// y += x, n values.
///
/// # Safety
/// Both hold n values; they are not the same memory.
unsafe fn add(y: *mut f32, x: *const f32, n: usize) {
    // SAFETY: the caller's.
    let (y, x) = unsafe { (std::slice::from_raw_parts_mut(y, n), std::slice::from_raw_parts(x, n)) };
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

/// Bytes of activations that meet one strip after another: they stay in a core's own cache.
const ROWS_BYTES: usize = 256 << 10;
/// Products that a thread takes at once at most: some tens of microseconds.
const PRODUCTS_AT_ONCE: usize = 4 << 20;
/// Bytes of weights that it does.
const BYTES_AT_ONCE: usize = 128 << 10;
/// Bytes of the next layers' weights that a thread asks for before they can be multiplied: what memory answers with while it waits.
const BYTES_AHEAD: usize = 8 << 10;

/// Layers of the same activations.
pub(crate) struct Joined {
    pub layers: Vec<Linear>,
    /// Different ones of the layers.
    pub encodings: Vec<Encoding>,
    /// Which of them each layer takes.
    encoding_of: Vec<usize>,
    pub k: usize,
    num_strips: usize,
}

impl Joined {
    /// Of at least one layer.
    pub fn new(layers: Vec<Linear>) -> Self {
        let mut encodings: Vec<Encoding> = Vec::new();
        let mut encoding_of = Vec::new();
        for layer in &layers {
            let place = encodings.iter().position(|encoding| encoding.is(&layer.encoding));
            encoding_of.push(place.unwrap_or(encodings.len()));
            if place.is_none() {
                encodings.push(layer.encoding);
            }
        }
        let (k, num_strips) = (layers[0].k, layers.iter().map(Linear::num_strips).sum());
        Self { layers, encodings, encoding_of, k, num_strips }
    }

    /// Rows that meet a strip at once.
    pub fn rows_at_once(&self) -> usize {
        (ROWS_BYTES / activation_bytes(self.k)).next_multiple_of(8)
    }

    /// Units of a product over so many rows, and how many a thread takes at once: strips, those of all layers in turn, for one block of rows
    /// after another.
    pub fn units(&self, num_rows: usize) -> (usize, usize) {
        let products = num_rows.min(self.rows_at_once()) * STRIP_ROWS * self.k;
        let most = (PRODUCTS_AT_ONCE / products.max(1)).min(BYTES_AT_ONCE / self.layers[0].strip_bytes().max(1)).max(1);
        (num_rows.div_ceil(self.rows_at_once()) * self.num_strips, most)
    }

    /// Does some of those units.
    ///
    /// # Safety
    /// `activations`, one for each encoding, hold all rows, rounded; `targets`, one for each layer, hold `num_rows` rows; nobody else has these
    /// units; `sums` holds 16 values for each of [`Joined::rows_at_once`].
    pub unsafe fn multiply(
        &self,
        activations: &[*const u8],
        num_rows: usize,
        units: Range<usize>,
        targets: &[Target],
        sums: *mut f32,
    ) {
        let at_once = self.rows_at_once();
        for unit in units {
            let first_row = unit / self.num_strips * at_once;
            let rows = first_row..num_rows.min(first_row + at_once);
            let (layer, strip) = self.strip(unit % self.num_strips);
            let activations = activations[self.encoding_of[layer]];
            // SAFETY: the caller's.
            unsafe { self.layers[layer].multiply(activations, rows, strip, targets[layer], sums) };
        }
    }

    /// Which layer's strip is the i-th of all.
    fn strip(&self, mut i: usize) -> (usize, usize) {
        let mut layer = 0;
        while i >= self.layers[layer].num_strips() {
            i -= self.layers[layer].num_strips();
            layer += 1;
        }
        (layer, i)
    }

    /// The first of a thread's own weights of a product over few rows.
    pub fn first_of(&self, thread: usize, num_threads: usize) -> (*const u8, usize) {
        let (layer, strip) = self.strip((self.num_strips * thread / num_threads).min(self.num_strips - 1));
        let layer = &self.layers[layer];
        let bytes = BYTES_AHEAD.min((layer.num_strips() - strip) * layer.strip_bytes());
        // SAFETY: the strip is the weight's.
        (unsafe { layer.weights.add(strip * layer.strip_bytes()) }, bytes)
    }
}
