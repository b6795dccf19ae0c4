//! Linear layers: activations are rounded to what a layer's weights are multiplied with, a row at a time, and meet its weights by strips of
//! 16 columns. Rows of prompts are multiplied in bf16 on tiles where this CPU has them, however few they are; all others as rows of decodes
//! are. A row's results are the same bits whatever other rows there are: each is a sum of its own.

use std::ffi::c_void;
use std::ops::Range;

use ctkvr_kernels::{
    BLOCK, Kernels, PackedKernels, PackedProduct, STRIP_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights,
    activation_bytes,
};
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
    Dots {
        dot: VecDot,
        row_bytes: usize,
    },
}

type VecDot = unsafe extern "C" fn(i32, *mut f32, usize, *const c_void, usize, *const c_void, usize, i32);

/// One matrix of weights `[n, k]` and its bias. Refers to weights that live longer.
pub(crate) struct Linear {
    pub k: usize,
    pub n: usize,
    weights: *const u8,
    product: Product,
    encoding: Encoding,
    /// For rows of prompts, where this CPU and these weights can.
    tiles: Option<(&'static TileLinear, TileWeights)>,
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
    pub fn new(weights: &Weights, kernels: &Kernels, name: &str, bias: &str) -> Result<Self> {
        let internal = |what: String| Error::Internal { what };
        let matrix = weights.matrix(name).ok_or_else(|| internal(format!("the matrix {name} was not placed")))?;
        let bias = weights.vector(bias).map_or(std::ptr::null(), <[f32]>::as_ptr);
        let data = matrix.tensor.data.cast_const().cast();
        if let Some((packed, shape)) = matrix.packed {
            let (product, encoding) = (Product::Packed(packed, shape), Encoding::Packed(packed));
            let tiles = kernels.tile_linear.map(|tiles| (tiles, TileWeights::Packed { format: shape.format, strips: data }));
            return Ok(Self { k: shape.k, n: shape.n, weights: data, product, encoding, tiles, bias });
        }
        let cpu = cpu_device()?;
        let traits = cpu.type_traits(matrix.tensor.type_);
        let from_float = cpu.type_traits(traits.vec_dot_type).from_float;
        let (Some(dot), Some(from_float)) = (traits.vec_dot, from_float) else {
            return Err(internal(format!("ggml has no products for weights of type {} of {name}", matrix.tensor.type_)));
        };
        let (k, n, row_bytes) = (matrix.tensor.ne[0] as usize, matrix.tensor.ne[1] as usize, matrix.tensor.nb[1]);
        // SAFETY: an entry of a static table; the type was checked by ggml's reader. Weights of f32 have none: they keep their precision.
        let to_f32 = unsafe { (*sys::ggml_get_type_traits(matrix.tensor.type_)).to_float }.filter(|_| k.is_multiple_of(BLOCK));
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
    unsafe fn multiply_on_tiles(
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
            (kernels.multiply_strips)(&product, strips, scratch);
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

/// Bytes of activations that meet one strip after another: they stay in a core's own cache.
const ROWS_BYTES: usize = 256 << 10;
/// Products that a thread takes at once at most: some tens of microseconds.
const PRODUCTS_AT_ONCE: usize = 4 << 20;
/// Bytes of weights that it does.
const BYTES_AT_ONCE: usize = 128 << 10;
/// Bytes of the next layers' weights that a thread asks for before they can be multiplied: what memory answers with while it waits.
const BYTES_AHEAD: usize = 8 << 10;

/// Strips that are multiplied on tiles together, and how many of these a thread takes at once.
const STRIPS_OF_TILES: usize = 2;
const TILES_AT_ONCE: usize = 8;

/// The rows of a product, those of decodes first, and where they are.
pub(crate) struct Rows<'a> {
    pub num_decodes: usize,
    pub num_prompts: usize,
    /// Rounded rows, for each encoding: of decodes, or all where prompts are not multiplied on tiles.
    pub rounded: &'a [*const u8],
    /// Those of prompts, where they are.
    pub tiles: *const Tile,
    /// One for each layer.
    pub targets: &'a [Target],
}

/// One thread's memory.
#[derive(Default)]
pub(crate) struct LinearScratch {
    /// 16 values for each row that meets a strip at once.
    pub sums: Vec<f32>,
    pub tiles: TileScratch,
}

/// Layers of the same activations.
pub(crate) struct Joined {
    pub layers: Vec<Linear>,
    /// Different ones of the layers.
    pub encodings: Vec<Encoding>,
    /// Which of them each layer takes.
    encoding_of: Vec<usize>,
    pub k: usize,
    num_strips: usize,
    /// For rows of prompts, where all layers have them.
    pub tiles: Option<&'static TileLinear>,
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
        let tiles = layers[0].tiles.map(|(kernels, _)| kernels).filter(|_| layers.iter().all(|layer| layer.tiles.is_some()));
        Self { layers, encodings, encoding_of, k, num_strips, tiles }
    }

    /// All rows as decodes are.
    pub fn without_tiles(self) -> Self {
        Self { tiles: None, ..self }
    }

    /// Rows that meet a strip at once.
    pub fn rows_at_once(&self) -> usize {
        (ROWS_BYTES / activation_bytes(self.k)).next_multiple_of(8)
    }

    /// Units of a product, and how many a thread takes at once. With prompts on tiles: pairs of strips, for all rows; otherwise strips, those of
    /// all layers in turn, for one block of rows after another.
    pub fn units(&self, num_decodes: usize, num_prompts: usize) -> (usize, usize) {
        if num_prompts > 0 && self.tiles.is_some() {
            return (self.layers.iter().map(|layer| layer.num_strips().div_ceil(STRIPS_OF_TILES)).sum(), TILES_AT_ONCE);
        }
        let num_rows = num_decodes + num_prompts;
        let products = num_rows.min(self.rows_at_once()) * STRIP_ROWS * self.k;
        let most = (PRODUCTS_AT_ONCE / products.max(1)).min(BYTES_AT_ONCE / self.layers[0].strip_bytes().max(1)).max(1);
        (num_rows.div_ceil(self.rows_at_once()) * self.num_strips, most)
    }

    /// Does some of those units.
    ///
    /// # Safety
    /// `rows` are all there, rounded; nobody else has these units.
    pub unsafe fn multiply(&self, rows: &Rows, units: Range<usize>, scratch: &mut LinearScratch) {
        if rows.num_prompts > 0 && self.tiles.is_some() {
            // SAFETY: the caller's.
            return unsafe { self.multiply_on_tiles(rows, units, scratch) };
        }
        let num_rows = rows.num_decodes + rows.num_prompts;
        for unit in units {
            let first_row = unit / self.num_strips * self.rows_at_once();
            let (layer, strip) = self.strip(unit % self.num_strips);
            // SAFETY: the caller's.
            unsafe { self.multiply_strip(rows, first_row..num_rows, layer, strip, &mut scratch.sums) };
        }
    }

    /// One strip times as many of these rows as meet it at once. Returns how many.
    unsafe fn multiply_strip(&self, rows: &Rows, of: Range<usize>, layer: usize, strip: usize, sums: &mut [f32]) -> usize {
        let block = of.start..of.end.min(of.start + self.rows_at_once());
        let num_rows = block.len();
        let (activations, target) = (rows.rounded[self.encoding_of[layer]], rows.targets[layer]);
        // SAFETY: the caller's.
        unsafe { self.layers[layer].multiply(activations, block, strip, target, sums.as_mut_ptr()) };
        num_rows
    }

    /// # Safety
    /// As [`Joined::multiply`].
    unsafe fn multiply_on_tiles(&self, rows: &Rows, units: Range<usize>, scratch: &mut LinearScratch) {
        let mut first_unit = 0;
        for (i, layer) in self.layers.iter().enumerate() {
            let own = units.start.max(first_unit)..units.end.min(first_unit + layer.num_strips().div_ceil(STRIPS_OF_TILES));
            if !own.is_empty() {
                let [first, end] = [own.start, own.end].map(|unit| (unit - first_unit) * STRIPS_OF_TILES);
                let strips = first..end.min(layer.num_strips());
                // SAFETY: the caller's; rows of prompts are behind those of decodes.
                unsafe {
                    let target = Target { c: rows.targets[i].c.add(rows.num_decodes * layer.n), ..rows.targets[i] };
                    layer.multiply_on_tiles(rows.tiles, rows.num_prompts, strips.clone(), target, &mut scratch.tiles);
                    for strip in strips {
                        let mut done = 0;
                        while done < rows.num_decodes {
                            done += self.multiply_strip(rows, done..rows.num_decodes, i, strip, &mut scratch.sums);
                        }
                    }
                }
            }
            first_unit += layer.num_strips().div_ceil(STRIPS_OF_TILES);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorInfo;

    const K: usize = 256;
    const ROWS: usize = 21;

    struct Random(u32);

    impl Random {
        fn byte(&mut self) -> u8 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 24) as u8
        }
        fn values(&mut self, n: usize) -> Vec<f32> {
            (0..n).map(|_| f32::from(self.byte() as i8) / 32.0).collect()
        }
    }

    /// What layers refer to.
    #[derive(Default)]
    struct Memory {
        weights: Vec<Vec<u8>>,
        biases: Vec<Vec<f32>>,
    }

    impl Memory {
        /// A layer of random weights of some type with n outputs: packed, or as ggml has them.
        fn layer(&mut self, kernels: &Kernels, kind: sys::ggml_type, n: usize, random: &mut Random) -> Linear {
            let mut bytes = Vec::new();
            let values = random.values(n * K);
            // SAFETY: ggml's own rounding of rows of k values; the buffer holds them.
            let row_bytes = unsafe {
                let row_bytes = sys::ggml_row_size(kind, K as i64);
                bytes.resize(n * row_bytes, 0);
                let whole = (values.as_ptr(), bytes.as_mut_ptr().cast());
                sys::ggml_quantize_chunk(kind, whole.0, whole.1, 0, n as i64, K as i64, std::ptr::null());
                row_bytes
            };
            self.biases.push(random.values(n));
            let bias = self.biases[self.biases.len() - 1].as_ptr();
            let info =
                TensorInfo { name: String::new(), kind, shape: [K as i64, n as i64, 1, 1], offset: 0, size_bytes: bytes.len() };
            if let Some((packed, shape)) = kernels.packed.zip(PackedShape::of(&info)) {
                let mut strips = vec![0; shape.bytes().expect("a small matrix")];
                shape.pack(kind, &bytes, &mut strips);
                self.weights.push(strips);
                let data = self.weights[self.weights.len() - 1].as_ptr();
                let tiles = kernels.tile_linear.map(|tiles| (tiles, TileWeights::Packed { format: shape.format, strips: data }));
                let (product, encoding) = (Product::Packed(packed, shape), Encoding::Packed(packed));
                return Linear { k: K, n, weights: data, product, encoding, tiles, bias };
            }
            self.weights.push(bytes);
            let data = self.weights[self.weights.len() - 1].as_ptr();
            let cpu = cpu_device().expect("a device");
            let traits = cpu.type_traits(kind);
            let from_float = cpu.type_traits(traits.vec_dot_type).from_float.expect("rounding");
            let (dot, encoding) = (traits.vec_dot.expect("products"), Encoding::Ggml { kind: traits.vec_dot_type, from_float });
            Linear { k: K, n, weights: data, product: Product::Dots { dot, row_bytes }, encoding, tiles: None, bias }
        }
    }

    /// Results of some rows, `num_decodes` of them of decodes, by units in pieces of `at_once`.
    fn multiplied(joined: &Joined, x: &[Vec<f32>], num_decodes: usize, at_once: usize, residual: Option<f32>) -> Vec<Vec<f32>> {
        let num_prompts = x.len() - num_decodes;
        let mut rounded: Vec<Vec<u64>> = Vec::new();
        for encoding in &joined.encodings {
            let row_bytes = encoding.row_bytes(K);
            let mut rows = vec![0u64; x.len() * row_bytes / 8];
            for (i, x) in x.iter().enumerate() {
                // SAFETY: the buffer holds all rows.
                unsafe { encoding.round(x.as_ptr(), K, rows.as_mut_ptr().cast::<u8>().add(i * row_bytes)) };
            }
            rounded.push(rows);
        }
        let mut tiles = vec![Tile::ZERO; ctkvr_kernels::activation_tiles(num_prompts, K)];
        if let Some(kernels) = joined.tiles {
            for (i, x) in x[num_decodes..].iter().enumerate() {
                let of_row = &mut tiles[i / ctkvr_kernels::TILE_ROWS * (K / BLOCK)];
                // SAFETY: the tiles of the row.
                unsafe { (kernels.narrow_row)(x.as_ptr(), 0, K / BLOCK, i % ctkvr_kernels::TILE_ROWS, of_row) };
            }
        }
        let mut outs: Vec<Vec<f32>> =
            joined.layers.iter().map(|layer| vec![residual.unwrap_or(f32::NAN); x.len() * layer.n]).collect();
        let targets: Vec<Target> =
            outs.iter_mut().map(|out| Target { c: out.as_mut_ptr(), is_residual: residual.is_some() }).collect();
        let pointers: Vec<*const u8> = rounded.iter().map(|rows| rows.as_ptr().cast()).collect();
        let rows = Rows { num_decodes, num_prompts, rounded: &pointers, tiles: tiles.as_ptr(), targets: &targets };
        let mut scratch = LinearScratch { sums: vec![0.0; STRIP_ROWS * joined.rows_at_once()], ..LinearScratch::default() };
        let (count, _) = joined.units(num_decodes, num_prompts);
        // The last units first: their order is no matter.
        for first in (0..count).step_by(at_once).rev() {
            // SAFETY: all rows are there.
            unsafe { joined.multiply(&rows, first..count.min(first + at_once), &mut scratch) };
        }
        (0..x.len())
            .map(|row| outs.iter().zip(&joined.layers).flat_map(|(out, l)| out[row * l.n..][..l.n].to_vec()).collect())
            .collect()
    }

    #[test]
    fn a_rows_bits_depend_neither_on_other_rows_nor_on_who_has_which_units() {
        for kernels in Kernels::available() {
            let (mut memory, mut random) = (Memory::default(), Random(7));
            let mut layer = |kind, n| memory.layer(kernels, kind, n, &mut random);
            let cases = [
                vec![layer(sys::GGML_TYPE_Q4_K, 70), layer(sys::GGML_TYPE_Q8_0, 23), layer(sys::GGML_TYPE_Q6_K, 33)],
                vec![layer(sys::GGML_TYPE_Q4_1, 40), layer(sys::GGML_TYPE_Q5_0, 16)],
                vec![layer(sys::GGML_TYPE_F16, 19)],
            ];
            for joined in cases.map(Joined::new) {
                let x: Vec<Vec<f32>> = (0..ROWS).map(|_| random.values(K)).collect();
                let alone =
                    |row: usize, is_decode: bool| multiplied(&joined, &x[row..=row], usize::from(is_decode), 1, None).remove(0);
                for (num_decodes, at_once) in [(0, 1), (ROWS, 3), (1, 100), (9, 2), (ROWS - 1, 5)] {
                    let together = multiplied(&joined, &x, num_decodes, at_once, None);
                    for (row, together) in together.iter().enumerate() {
                        assert_eq!(
                            *together,
                            alone(row, row < num_decodes),
                            "{}, row {row} behind {num_decodes} decodes",
                            kernels.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn products_are_those_of_the_widened_weights() {
        for kernels in Kernels::available() {
            for kind in [sys::GGML_TYPE_Q4_1, sys::GGML_TYPE_Q8_0, sys::GGML_TYPE_Q6_K, sys::GGML_TYPE_F16] {
                let (mut memory, mut random) = (Memory::default(), Random(9));
                // Weights as they are read, from the file's bytes: those that are not packed.
                let plain = Memory::layer(
                    &mut memory,
                    &Kernels { packed: None, tile_linear: None, ..*Kernels::available()[0] },
                    kind,
                    40,
                    &mut Random(5),
                );
                let mut wide = vec![0f32; 40 * K];
                for (row, wide) in wide.chunks_exact_mut(K).enumerate() {
                    // SAFETY: rows of the type.
                    unsafe {
                        let to_float = (*sys::ggml_get_type_traits(kind)).to_float.expect("widening");
                        let Product::Dots { row_bytes, .. } = plain.product else { panic!("not packed") };
                        to_float(plain.weights.add(row * row_bytes).cast(), wide.as_mut_ptr(), K as i64);
                    }
                }
                let joined = Joined::new(vec![memory.layer(kernels, kind, 40, &mut Random(5))]);
                let x: Vec<Vec<f32>> = (0..3).map(|_| random.values(K)).collect();
                for (residual, num_decodes) in [(None, 3), (Some(2.0), 3), (None, 0), (Some(-1.0), 1)] {
                    let out = multiplied(&joined, &x, num_decodes, 2, residual);
                    for (x, out) in x.iter().zip(out) {
                        for ((w, bias), out) in wide.chunks_exact(K).zip(&memory.biases[1]).zip(out) {
                            let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                            let exact = exact + f64::from(*bias) + f64::from(residual.unwrap_or(0.0));
                            // Activations are rounded by up to 1/254 of the largest of their block, or of 256 values; weights by 2^-9.
                            let magnitude: f64 = w.iter().map(|w| f64::from(w.abs())).sum::<f64>() * 4.0;
                            assert!(
                                (f64::from(out) - exact).abs() <= magnitude / 127.0,
                                "{}, type {kind}: {out}, {exact}",
                                kernels.name
                            );
                        }
                    }
                }
            }
        }
    }
}
