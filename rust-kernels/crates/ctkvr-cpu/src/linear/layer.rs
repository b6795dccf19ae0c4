//! One matrix of weights and its bias, multiplied by strips of 16 columns.

use std::ffi::c_void;
use std::ops::Range;

use ctkvr_kernels::{
    BLOCK, Kernels, PackedKernels, PackedProduct, STRIP_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights,
};
use ctkvr_model::{Error, PackedShape, Result, cpu_device};
use llama_cpp_sys_2 as sys;

use crate::linear::encoding::Encoding;
use crate::weights::{Tensor, Weights};

/// What multiplies.
#[derive(Clone, Copy)]
pub(super) enum Product {
    Packed(&'static PackedKernels, PackedShape),
    /// Row by row, as ggml does.
    Dots {
        dot: VecDot,
        row_bytes: usize,
    },
}

pub(super) type VecDot = unsafe extern "C" fn(i32, *mut f32, usize, *const c_void, usize, *const c_void, usize, i32);

/// One matrix of weights `[n, k]` and its bias. Refers to weights that live longer.
pub(crate) struct Linear {
    pub k: usize,
    pub n: usize,
    pub(super) weights: *const u8,
    pub(super) product: Product,
    pub(super) encoding: Encoding,
    /// For rows of prompts, where this CPU and these weights can.
    pub(super) tiles: Option<(&'static TileLinear, TileWeights)>,
    /// f32 `[n]`, or null.
    pub(super) bias: *const f32,
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
    pub fn new(weights: &Weights, kernels: &Kernels, name: &str, bias: &str) -> Result<Self> {
        let internal = |what: String| Error::Internal { what };
        let matrix = weights.matrix(name).ok_or_else(|| internal(format!("the matrix {name} was not placed")))?;
        let bias = weights.vector(bias).map_or(std::ptr::null(), <[f32]>::as_ptr);
        let Tensor { data, kind, shape: [k, n], .. } = *matrix.tensor;
        if let Some((packed, shape)) = matrix.packed {
            let (product, encoding) = (Product::Packed(packed, shape), Encoding::Packed(packed));
            let tiles = kernels.tile_linear.map(|tiles| (tiles, TileWeights::Packed { format: shape.format, strips: data }));
            return Ok(Self { k: shape.k, n: shape.n, weights: data, product, encoding, tiles, bias });
        }
        let cpu = cpu_device()?;
        let traits = cpu.type_traits(kind);
        let from_float = cpu.type_traits(traits.vec_dot_type).from_float;
        let (Some(dot), Some(from_float)) = (traits.vec_dot, from_float) else {
            return Err(internal(format!("ggml has no products for weights of type {kind} of {name}")));
        };
        let row_bytes = matrix.tensor.row_bytes();
        // SAFETY: an entry of a static table; the type was checked by ggml's reader. Weights of f32 have none: they keep their precision.
        let to_f32 = unsafe { (*sys::ggml_get_type_traits(kind)).to_float }.filter(|_| k.is_multiple_of(BLOCK));
        Ok(Self {
            k,
            n,
            weights: data,
            product: Product::Dots { dot, row_bytes },
            encoding: Encoding::Ggml { kind: traits.vec_dot_type, from_float },
            tiles: kernels.tile_linear.zip(to_f32.map(|to_f32| TileWeights::Rows { rows: data, row_bytes, to_f32 })),
            bias,
        })
    }

    pub fn num_strips(&self) -> usize {
        self.n.div_ceil(STRIP_ROWS)
    }

    pub fn strip_bytes(&self) -> usize {
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
    pub unsafe fn multiply(&self, activations: *const u8, rows: Range<usize>, strip: usize, target: Target, sums: *mut f32) {
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
                    kernels.product(&PackedProduct { format, activations, strip: weights, c, ldc, rows: num_rows, columns, k });
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
            for row in 0..num_rows {
                self.add_bias(c.add(row * ldc), first..first + columns);
                if target.is_residual {
                    add(out.add(row * self.n), c.add(row * ldc), columns);
                }
            }
        }
    }

    /// Adds the bias to columns of a row; `c` begins at the first of them.
    ///
    /// # Safety
    /// The row holds them.
    unsafe fn add_bias(&self, c: *mut f32, columns: Range<usize>) {
        if !self.bias.is_null() {
            // SAFETY: the caller's; a bias holds n values.
            unsafe { add(c, self.bias.add(columns.start), columns.len()) };
        }
    }

    /// Some rows of prompts times some strips, on tiles.
    ///
    /// # Safety
    /// `activations` are those rows as tiles; `target` begins with them; nobody else has the strips.
    pub unsafe fn multiply_on_tiles(
        &self,
        activations: *const Tile,
        num_rows: usize,
        strips: Range<usize>,
        target: Target,
        scratch: &mut TileScratch,
    ) {
        let Some((kernels, weights)) = self.tiles else { unreachable!("only layers with tiles are multiplied on tiles") };
        let (n, k, c) = (self.n, self.k, target.c);
        let start = match target.is_residual {
            true => TileStart::C,
            false if self.bias.is_null() => TileStart::Zero,
            false => TileStart::Bias(self.bias),
        };
        let columns = strips.start * STRIP_ROWS..n.min(strips.end * STRIP_ROWS);
        // SAFETY: the caller's.
        unsafe {
            let product = TileProduct { weights, start, activations, c, ldc: n, rows: num_rows, n, k };
            kernels.multiply_strips(&product, strips, scratch);
            if target.is_residual {
                (0..num_rows).for_each(|row| self.add_bias(c.add(row * n + columns.start), columns.clone()));
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
