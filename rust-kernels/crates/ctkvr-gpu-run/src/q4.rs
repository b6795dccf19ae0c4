//! Matrices of 4-bit weights (strips as Q4_K packs them) of random codes.

use ctkvr_cuda::launch::linear::Strips;
use ctkvr_cuda::{Device, DeviceBuffer, Plain, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{BLOCK, BlockNumbers, LevelBits, PackedFormat, STRIP_ROWS};
use half::f16;

use crate::Result;

/// What Q4_K_M models mostly are of.
const FORMAT: PackedFormat = PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::Shared };

/// A matrix `[n, k]`. Its strips are alike, each in memory of its own: what is measured does not depend on what they say.
pub struct Q4 {
    bytes: DeviceBuffer<u8>,
    k: usize,
    pub n: usize,
}

impl Q4 {
    pub fn new(device: &Device, [n, k]: [usize; 2], random: &mut Random) -> Result<Self> {
        let strip = strip(k, random);
        let bytes = DeviceBuffer::new(device, n.div_ceil(STRIP_ROWS) * strip.len())?;
        device.compute().copy_in(bytes.span().part(0..strip.len()), &strip)?;
        repeat(device, bytes.span(), strip.len())?;
        Ok(Self { bytes, k, n })
    }

    pub fn strips(&self) -> Strips {
        Strips { bytes: self.bytes.span(), format: FORMAT.into(), k: self.k, n: self.n }
    }

    pub fn num_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Copies the first `len` elements over the others, twice as many each time.
pub fn repeat<T: Plain>(device: &Device, span: Span<T>, len: usize) -> ctkvr_cuda::Result<()> {
    let mut done = len;
    while done < span.len() {
        let next = done.min(span.len() - done);
        device.compute().copy(span.part(done..done + next), span.part(0..next))?;
        done += next;
    }
    Ok(())
}

/// 16 rows of weights around 0, small enough that sums over thousands of them stay near 1.
fn strip(k: usize, random: &mut Random) -> Vec<u8> {
    const OF_BLOCK: u16 = 32;
    let middle = f32::from(OF_BLOCK) * 7.5;
    let step = 1.0 / (f32::from(OF_BLOCK) * 4.6 * (k as f32).sqrt());
    let (scales, mins) = ([f16::from_f32(step).to_bits(); STRIP_ROWS], [f16::from_f32(step * middle / 30.0).to_bits(); STRIP_ROWS]);
    let mut strip = vec![0; FORMAT.strip_bytes(k)];
    for run in strip.chunks_exact_mut(FORMAT.run_bytes()) {
        let (header, blocks) = run.split_at_mut(FORMAT.header_bytes());
        FORMAT.pack_header(&scales, &mins, header);
        for block in blocks.chunks_exact_mut(FORMAT.block_bytes()) {
            let levels: [[u8; BLOCK]; STRIP_ROWS] = std::array::from_fn(|_| std::array::from_fn(|_| random.index(16) as u8));
            FORMAT.pack_block(&levels, &[OF_BLOCK; STRIP_ROWS], &[30; STRIP_ROWS], block);
        }
    }
    strip
}
