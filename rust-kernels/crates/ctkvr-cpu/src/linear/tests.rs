//! Linear layers on every table of kernels of this machine.

use ctkvr_kernels::{BLOCK, Kernels, STRIP_ROWS, Tile, TileWeights};
use ctkvr_model::{PackedShape, TensorInfo, cpu_device};
use llama_cpp_sys_2 as sys;

use crate::linear::encoding::Encoding;
use crate::linear::joined::{Joined, LinearScratch, Rows};
use crate::linear::layer::{Linear, Product, Target};

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
        let info = TensorInfo { name: String::new(), kind, shape: [K as i64, n as i64, 1, 1], offset: 0, size_bytes: bytes.len() };
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
            let of_row = tiles[i / ctkvr_kernels::TILE_ROWS * (K / BLOCK)..].as_mut_ptr();
            // SAFETY: the tiles of the row.
            unsafe { kernels.narrow_row(x, i % ctkvr_kernels::TILE_ROWS, of_row) };
        }
    }
    let mut outs: Vec<Vec<f32>> = joined.layers.iter().map(|layer| vec![residual.unwrap_or(f32::NAN); x.len() * layer.n]).collect();
    let targets: Vec<Target> = outs.iter_mut().map(|out| Target { c: out.as_mut_ptr(), is_residual: residual.is_some() }).collect();
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
            let alone = |row: usize, is_decode: bool| multiplied(&joined, &x[row..=row], usize::from(is_decode), 1, None).remove(0);
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
            // Weights as they are read, from the file's bytes: the scalar table packs none.
            let plain = Memory::layer(&mut memory, Kernels::available()[0], kind, 40, &mut Random(5));
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
