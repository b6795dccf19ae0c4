//! What the tests of linear layers and of what stands between them share: seeded numbers, rows of activations, packed weights, outputs.
use ctkvr_cuda::{Device, DeviceBuffer, StripFormat, q6k_strips};
use ctkvr_kernels::testing::{FORMATS, Random};
use ctkvr_kernels::{BLOCK, BlockNumbers, LevelBits, PackedFormat, STRIP_ROWS, activation_bytes};
use ctkvr_model::Q6kBlock;
use half::f16;

/// f32's unit of rounding.
pub const U: f64 = f32::EPSILON as f64 / 2.0;
/// What new device memory holds.
pub const POISON: u32 = 0xeeee_eeee;
/// Values behind an output that must stay as they are.
pub const GUARD: usize = 40;

/// All formats that have kernels.
pub fn formats() -> impl Iterator<Item = StripFormat> {
    FORMATS.into_iter().map(StripFormat::from).chain([StripFormat::Q6K])
}

/// A matrix `[n, k]` of drawn weights: its strips, and what each weight is: `scale * level + min`, numbers of each block of a row. Levels of Q6_K
/// count for `scales[i / 16] * (level - 32)`, a whole number as well.
pub struct Weights {
    pub format: StripFormat,
    pub k: usize,
    pub n: usize,
    pub strips: Vec<u8>,
    /// `[n, k]`
    levels: Vec<i32>,
    /// `[n, k / BLOCK]`
    scales: Vec<f64>,
    mins: Vec<f64>,
}

impl Weights {
    /// Small integers, or any numbers. Rows beyond n of the last strip are drawn as well: they must not be seen.
    pub fn new(format: StripFormat, k: usize, n: usize, integers: bool, random: &mut Random) -> Self {
        let (num_strips, blocks) = (n.div_ceil(STRIP_ROWS), k / BLOCK);
        let all_rows = num_strips * STRIP_ROWS;
        let strips = vec![0; num_strips * format.strip_bytes(k)];
        let numbers = vec![0.0; all_rows * blocks];
        let mut weights = Self { format, k, n, strips, levels: vec![0; all_rows * k], scales: numbers.clone(), mins: numbers };
        let mut strips = std::mem::take(&mut weights.strips);
        for (i, run) in strips.chunks_exact_mut(format.strip_bytes(format.run_len())).enumerate() {
            let runs = k / format.run_len();
            let at = (i / runs * STRIP_ROWS, i % runs * format.run_len() / BLOCK);
            match format {
                StripFormat::Packed(format) => weights.draw_packed(format, at, run, integers, random),
                StripFormat::Q6K => weights.draw_q6k(at, run, integers, random),
            }
        }
        Self { strips, ..weights }
    }

    /// The run of a strip that begins at a row and block.
    fn draw_packed(
        &mut self,
        format: PackedFormat,
        (row, first): (usize, usize),
        run: &mut [u8],
        integers: bool,
        random: &mut Random,
    ) {
        let (k, blocks) = (self.k, self.k / BLOCK);
        let mut halves =
            |most: f32| -> [f16; STRIP_ROWS] { std::array::from_fn(|_| f16::from_f32(number(most, integers, random))) };
        let (scale, min) = (halves(0.1), halves(3.0));
        let bits = |halves: [f16; STRIP_ROWS]| halves.map(f16::to_bits);
        let (header, of_run) = run.split_at_mut(format.header_bytes());
        format.pack_header(&bits(scale), &bits(min), header);
        for (b, out) in of_run.chunks_exact_mut(format.block_bytes()).enumerate() {
            let block: [[u8; BLOCK]; STRIP_ROWS] =
                std::array::from_fn(|_| std::array::from_fn(|_| random.index(count(format.bits)) as u8));
            let mut small = || -> [u16; STRIP_ROWS] { std::array::from_fn(|_| random.index(if integers { 4 } else { 64 }) as u16) };
            let (own_scales, own_mins) = match format.numbers {
                BlockNumbers::Shared => (small(), small()),
                _ => (bits(scale), bits(min)),
            };
            format.pack_block(&block, &own_scales, &own_mins, out);
            for r in 0..STRIP_ROWS {
                let levels = &mut self.levels[(row + r) * k + (first + b) * BLOCK..][..BLOCK];
                levels.iter_mut().zip(block[r]).for_each(|(to, level)| *to = level.into());
                let (scale, min) = (scale[r].to_f64(), min[r].to_f64());
                let at = (row + r) * blocks + first + b;
                (self.scales[at], self.mins[at]) = match format.numbers {
                    BlockNumbers::Scale { min } => (scale, f64::from(min) * scale),
                    BlockNumbers::ScaleAndMin => (scale, min),
                    BlockNumbers::Shared => (f64::from(own_scales[r]) * scale, -f64::from(own_mins[r]) * min),
                };
            }
        }
    }

    fn draw_q6k(&mut self, (row, first): (usize, usize), run: &mut [u8], integers: bool, random: &mut Random) {
        let (k, blocks) = (self.k, self.k / BLOCK);
        let rows: [Q6kBlock; STRIP_ROWS] = std::array::from_fn(|_| Q6kBlock {
            levels: std::array::from_fn(|_| random.index(64) as u8),
            scales: std::array::from_fn(|_| if integers { random.integer(3) as i8 } else { random.index(256) as u8 as i8 }),
            scale: f16::from_f32(number(0.01, integers, random)).to_bits(),
        });
        q6k_strips::pack_run(&rows, run);
        for (r, of_row) in rows.iter().enumerate() {
            let weight = |(i, level): (usize, &u8)| i32::from(of_row.scales[i / 16]) * (i32::from(*level) - 32);
            let levels = &mut self.levels[(row + r) * k + first * BLOCK..][..Q6kBlock::LEN];
            levels.iter_mut().zip(of_row.levels.iter().enumerate()).for_each(|(to, level)| *to = weight(level));
            self.scales[(row + r) * blocks + first..][..Q6kBlock::LEN / BLOCK].fill(f16::from_bits(of_row.scale).to_f64());
        }
    }

    /// Row r times a row of activations: the sum, and the sum of the magnitudes of what the kernels add: of each block scale times levels, and
    /// the min's part; both at once where the min follows from the scale.
    pub fn product(&self, r: usize, row: &Activations) -> (f64, f64) {
        let blocks = self.k / BLOCK;
        (0..blocks).fold((0.0, 0.0), |(sum, all), b| {
            let levels = &self.levels[r * self.k + b * BLOCK..][..BLOCK];
            let codes = &row.codes[b * BLOCK..][..BLOCK];
            let integer: i32 = levels.iter().zip(codes).map(|(l, c)| l * i32::from(*c)).sum();
            let codes: i32 = codes.iter().map(|c| i32::from(*c)).sum();
            let (scale, min) = (self.scales[r * blocks + b], self.mins[r * blocks + b]);
            let (a, m) = (scale * row.scales[b] * f64::from(integer), min * row.scales[b] * f64::from(codes));
            let magnitude = if self.format.has_mins() { a.abs() + m.abs() } else { (a + m).abs() };
            (sum + a + m, all + magnitude)
        })
    }
}

/// An f16's number: a whole one of -2 to 2, or any up to `most`.
fn number(most: f32, integers: bool, random: &mut Random) -> f32 {
    if integers { random.integer(2) as f32 } else { random.values(1, most)[0] }
}

fn count(bits: LevelBits) -> usize {
    match bits {
        LevelBits::Four => 16,
        LevelBits::Five => 32,
        LevelBits::Eight => 256,
    }
}

/// A row of rounded activations.
pub struct Activations {
    pub codes: Vec<i8>,
    /// As numbers; f32 in the bytes.
    pub scales: Vec<f64>,
    pub bytes: Vec<u8>,
}

impl Activations {
    /// Codes of all sizes, scales of 1 (`integers`) or any.
    pub fn new(k: usize, integers: bool, random: &mut Random) -> Self {
        let codes: Vec<i8> = (0..k).map(|_| random.integer(127) as i8).collect();
        let scales: Vec<f32> = (0..k / BLOCK).map(|_| if integers { 1.0 } else { random.values(1, 0.05)[0].abs() }).collect();
        let sum = |(b, scale): (usize, &f32)| scale * codes[b * BLOCK..][..BLOCK].iter().map(|c| i32::from(*c)).sum::<i32>() as f32;
        let sums: Vec<f32> = scales.iter().enumerate().map(sum).collect();
        let mut bytes: Vec<u8> = codes.iter().map(|c| *c as u8).collect();
        bytes.extend(scales.iter().chain(&sums).flat_map(|x| x.to_le_bytes()));
        Self { codes, scales: scales.into_iter().map(f64::from).collect(), bytes }
    }
}

/// A row rounded as `ctkvr_kernels::PackedKernels::round` says it: in plain loops.
pub fn rounded(x: &[f32]) -> Vec<u8> {
    let (k, blocks) = (x.len(), x.len() / BLOCK);
    let mut out = vec![0; activation_bytes(k)];
    for (b, values) in x.chunks_exact(BLOCK).enumerate() {
        let most = if values.iter().any(|x| x.is_nan()) { f32::NAN } else { values.iter().fold(0f32, |most, x| most.max(x.abs())) };
        let inverse = if most == 0.0 { 0.0 } else { 127.0 / most };
        let codes: Vec<i8> = values.iter().map(|x| (x * inverse).round_ties_even() as i8).collect();
        let sum: i32 = codes.iter().map(|c| i32::from(*c)).sum();
        let scale = most / 127.0;
        out[b * BLOCK..][..BLOCK].iter_mut().zip(codes).for_each(|(to, code)| *to = code as u8);
        out[k + 4 * b..][..4].copy_from_slice(&scale.to_le_bytes());
        out[k + 4 * (blocks + b)..][..4].copy_from_slice(&(scale * sum as f32).to_le_bytes());
    }
    out
}

/// An output f32 `[rows, width]`, rows `stride` apart, poisoned, with a guard behind it.
pub struct Out {
    pub buffer: DeviceBuffer<f32>,
    rows: usize,
    width: usize,
    stride: usize,
}

impl Out {
    pub fn new(device: &Device, rows: usize, width: usize, stride: usize) -> Self {
        let buffer = DeviceBuffer::new(device, (rows - 1) * stride + width + GUARD).unwrap();
        Self { buffer, rows, width, stride }
    }

    /// Its rows; checks that nothing else was written.
    pub fn rows(&self, device: &Device, what: &str) -> Vec<Vec<f32>> {
        let mut values = self.buffer.to_vec(device).unwrap();
        let rows = (0..self.rows).map(|i| {
            let row = &mut values[i * self.stride..][..self.width];
            let copy = row.to_vec();
            row.fill(f32::from_bits(POISON));
            copy
        });
        let rows = rows.collect();
        assert!(values.iter().all(|x| x.to_bits() == POISON), "{what}: wrote beside its outputs");
        rows
    }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
