//! Linear layers of a piece of a prompt, at the shapes of both evaluation models, on tiles.

use ctkvr_kernels::{
    BLOCK, BlockNumbers, Kernels, LevelBits, PackedFormat, STRIP_ROWS, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch,
    TileStart, TileWeights, activation_tiles,
};

use crate::job::{Case, Job, Work};
use crate::kv_store::Random;

/// Rows of a piece of a prompt.
const ROWS: usize = 512;

const Q4_1: PackedFormat = PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::ScaleAndMin };
const Q5_0: PackedFormat = PackedFormat { bits: LevelBits::Five, numbers: BlockNumbers::Scale { min: -16.0 } };
const Q8_0: PackedFormat = PackedFormat { bits: LevelBits::Eight, numbers: BlockNumbers::Scale { min: -128.0 } };
const Q4_K: PackedFormat = PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::Shared };

/// Name, format, k and n: SmolLM2-135M's layers, then Qwen2.5-Coder-0.5B's.
const SHAPES: [(&str, PackedFormat, usize, usize); 9] = [
    ("Q4_1", Q4_1, 576, 192),
    ("Q4_1", Q4_1, 576, 576),
    ("Q4_1", Q4_1, 576, 1536),
    ("Q4_1", Q4_1, 1536, 576),
    ("Q8_0", Q8_0, 896, 128),
    ("Q5_0", Q5_0, 896, 896),
    ("Q5_0", Q5_0, 896, 4864),
    ("Q4_K", Q4_K, 4864, 896),
    ("Q8_0", Q8_0, 4864, 896),
];

pub(crate) fn cases() -> Vec<Case> {
    let shapes = SHAPES.iter().map(|&(name, format, k, n)| Case {
        kernel: format!("tile_linear, {ROWS} rows, {k} to {n}, {name}"),
        rows: None,
        data: "cache",
        dtype: "bf16",
        on_tiles: true,
        make: Box::new(move || Box::new(Linear::new(format, k, n))),
    });
    let narrow = Case {
        kernel: "tile_narrow".into(),
        rows: None,
        data: "cache",
        dtype: "bf16",
        on_tiles: true,
        make: Box::new(|| Box::new(Narrow::new())),
    };
    shapes.chain([narrow]).collect()
}

/// A linear layer; its weights are widened in every pass.
struct Linear {
    format: PackedFormat,
    k: usize,
    n: usize,
    values: Vec<f32>,
    /// `values` as tiles, once a pass has run.
    activations: Vec<Tile>,
    strips: Vec<u8>,
    /// f32 `[ROWS, n]`; tiles, since results start at a cache line as ggml's and ours do.
    c: Vec<Tile>,
    scratch: TileScratch,
}

impl Linear {
    fn new(format: PackedFormat, k: usize, n: usize) -> Self {
        let (mut random, mut strips) = (Random(9), vec![0; n / STRIP_ROWS * format.strip_bytes(k)]);
        let levels = match format.bits {
            LevelBits::Four => 16,
            LevelBits::Five => 32,
            LevelBits::Eight => 256,
        };
        // f16 from 2^(exponent - 15) on, up to twice that.
        fn numbers(random: &mut Random, exponent: u16) -> [u16; STRIP_ROWS] {
            std::array::from_fn(|_| exponent << 10 | (random.next() % 0x400) as u16)
        }
        for run in strips.chunks_exact_mut(format.run_bytes()) {
            let (header, blocks) = run.split_at_mut(format.header_bytes());
            format.pack_header(&numbers(&mut random, 4), &numbers(&mut random, 7), header);
            for block in blocks.chunks_exact_mut(format.block_bytes()) {
                let levels = std::array::from_fn(|_| std::array::from_fn(|_| (random.next() % levels) as u8));
                // Weights lie about 0, as a model's do: what they are decides how much power a product takes, and so its speed.
                let (scales, mins) = if format.numbers == BlockNumbers::Shared {
                    ([32; STRIP_ROWS], [32; STRIP_ROWS])
                } else {
                    let scales = numbers(&mut random, 9);
                    (scales, scales.map(|scale| 0x8000 | (scale + 0xc00)))
                };
                format.pack_block(&levels, &scales, &mins, block);
            }
        }
        let values = Random(10).values(ROWS * k);
        let (activations, c) =
            (vec![Tile::ZERO; activation_tiles(ROWS, k)], vec![Tile::ZERO; ROWS * n * size_of::<f32>() / size_of::<Tile>()]);
        Self { format, k, n, values, activations, strips, c, scratch: TileScratch::default() }
    }

    fn multiply(&mut self, tiles: &TileLinear) {
        if !self.values.is_empty() {
            narrow(tiles, &self.values, self.k, &mut self.activations);
            self.values = Vec::new();
        }
        let product = TileProduct {
            weights: TileWeights::Packed { format: self.format, strips: self.strips.as_ptr() },
            start: TileStart::Zero,
            activations: self.activations.as_ptr(),
            c: self.c.as_mut_ptr().cast(),
            ldc: self.n,
            rows: ROWS,
            n: self.n,
            k: self.k,
        };
        // SAFETY: the matrices have these sizes.
        unsafe { (tiles.multiply_strips)(&product, 0..self.n / STRIP_ROWS, &mut self.scratch) };
    }
}

impl Job for Linear {
    fn work(&self) -> Work {
        Work {
            bytes: self.strips.len() + size_of_val(&self.activations[..]) + size_of_val(&self.c[..]),
            flops: 2 * ROWS * self.k * self.n,
        }
    }

    fn run(&mut self, kernels: &Kernels) {
        if let Some(tiles) = kernels.tile_linear {
            self.multiply(tiles);
        }
    }
}

/// The rounding of activations that comes before it.
struct Narrow {
    values: Vec<f32>,
    activations: Vec<Tile>,
}

impl Narrow {
    const K: usize = 1536;

    fn new() -> Self {
        Self { values: Random(11).values(ROWS * Self::K), activations: vec![Tile::ZERO; activation_tiles(ROWS, Self::K)] }
    }
}

impl Job for Narrow {
    fn work(&self) -> Work {
        Work { bytes: size_of_val(&self.values[..]) + size_of_val(&self.activations[..]), flops: 0 }
    }

    fn run(&mut self, kernels: &Kernels) {
        if let Some(tiles) = kernels.tile_linear {
            narrow(tiles, &self.values, Self::K, &mut self.activations);
        }
    }
}

/// Rows of k values as tiles.
fn narrow(tiles: &TileLinear, values: &[f32], k: usize, out: &mut [Tile]) {
    for (row, x) in values.chunks_exact(k).enumerate() {
        let out = &mut out[row / TILE_ROWS * (k / BLOCK)..];
        // SAFETY: k values, and the tiles of as many.
        unsafe { (tiles.narrow_row)(x.as_ptr(), 0, k / BLOCK, row % TILE_ROWS, out.as_mut_ptr()) };
    }
}
