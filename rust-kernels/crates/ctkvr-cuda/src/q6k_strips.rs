//! Strips of ggml's Q6_K, which the CPU's kernels have none for. A strip has 16 rows, one run for each 256 of their weights; as many bytes as
//! the file has, 6.5625 bits a weight:
//!
//! | of a run | bytes |
//! |---|---|
//! | scale f16 of each row | 32 |
//! | 8 blocks of 32 weights | 416 each |
//!
//! | of a block | bytes |
//! |---|---|
//! | low 4 bits, as `ctkvr_kernels::PackedFormat` has those of 4 bits: byte `64 p + 4 r + c` has level `8 p + c` of row r low, level `8 p + 4 + c` high | 256 |
//! | high 2 bits: byte `16 g + 4 t + c` has those of levels `8 t + c` of rows 2 g and 2 g + 1, then of levels `8 t + 4 + c`, from its low end on | 128 |
//! | scales i8, one for each half of a row's block: `[16, 2]` | 32 |
//!
//! A lane of a tensor core's product so reads its 16 levels in two loads (`kernels/strips.cuh`).

use ctkvr_kernels::{BLOCK, STRIP_ROWS};
use ctkvr_model::{Q6kBlock, num_usable_threads};

const HEADER_BYTES: usize = 2 * STRIP_ROWS;
const LOW_BYTES: usize = STRIP_ROWS * BLOCK / 2;
const HIGH_BYTES: usize = STRIP_ROWS * BLOCK / 4;
const BLOCK_BYTES: usize = LOW_BYTES + HIGH_BYTES + 2 * STRIP_ROWS;
/// Blocks of a run.
pub(crate) const RUN_BLOCKS: usize = Q6kBlock::LEN / BLOCK;
/// Bytes of a run of a strip.
pub const RUN_BYTES: usize = HEADER_BYTES + RUN_BLOCKS * BLOCK_BYTES;
const _: () =
    assert!(RUN_BYTES == STRIP_ROWS * Q6kBlock::BYTES && HEADER_BYTES.is_multiple_of(16) && BLOCK_BYTES.is_multiple_of(16));
/// Levels of a row that lie together.
const GROUP: usize = 4;

/// Packs a matrix on all threads this process may use: rows of Q6_K of k weights, u8 `[n, k / 256 * 210]`, into `out`, u8
/// `[ceil(n / 16), k / 256 * RUN_BYTES]`. Rows beyond n of the last strip become 0.
pub(crate) fn pack(k: usize, rows: &[u8], out: &mut [u8]) {
    let row_bytes = k / Q6kBlock::LEN * Q6kBlock::BYTES;
    let strip_bytes = k / Q6kBlock::LEN * RUN_BYTES;
    let strips_each = (out.len() / strip_bytes).div_ceil(num_usable_threads()).max(1);
    std::thread::scope(|scope| {
        let parts = rows.chunks(strips_each * STRIP_ROWS * row_bytes).zip(out.chunks_mut(strips_each * strip_bytes));
        for (rows, out) in parts {
            scope.spawn(move || {
                let strips = rows.chunks(STRIP_ROWS * row_bytes).zip(out.chunks_exact_mut(strip_bytes));
                strips.for_each(|(rows, strip)| pack_strip(row_bytes, rows, strip));
            });
        }
    });
}

fn pack_strip(row_bytes: usize, rows: &[u8], strip: &mut [u8]) {
    for (i, run) in strip.chunks_exact_mut(RUN_BYTES).enumerate() {
        let mut blocks = [Q6kBlock::ZERO; STRIP_ROWS];
        for (block, row) in blocks.iter_mut().zip(rows.chunks_exact(row_bytes)) {
            let (of_row, _) = row.as_chunks();
            *block = Q6kBlock::read(&of_row[i]);
        }
        pack_run(&blocks, run);
    }
}

/// Packs 256 weights of each row of a strip. `out` holds [`RUN_BYTES`].
pub fn pack_run(rows: &[Q6kBlock; STRIP_ROWS], out: &mut [u8]) {
    let (header, blocks) = out.split_at_mut(HEADER_BYTES);
    header.chunks_exact_mut(2).zip(rows).for_each(|(to, row)| to.copy_from_slice(&row.scale.to_le_bytes()));
    for (b, block) in blocks.chunks_exact_mut(BLOCK_BYTES).enumerate() {
        let (low, rest) = block.split_at_mut(LOW_BYTES);
        let (high, scales) = rest.split_at_mut(HIGH_BYTES);
        high.fill(0);
        for (r, row) in rows.iter().enumerate() {
            let (groups, _) = row.levels[b * BLOCK..][..BLOCK].as_chunks::<GROUP>();
            for (t, pair) in groups.chunks_exact(2).enumerate() {
                let [first, second] = [pair[0], pair[1]].map(u32::from_le_bytes);
                let lows = first & 0x0f0f_0f0f | (second & 0x0f0f_0f0f) << 4;
                let highs = first >> 4 & 0x0303_0303 | second & 0x3030_3030;
                low[t * LOW_BYTES / 4 + r * GROUP..][..GROUP].copy_from_slice(&lows.to_le_bytes());
                let of_pair = &mut high[r / 2 * 16 + t * GROUP..][..GROUP];
                of_pair.iter_mut().zip((highs << (2 * (r % 2))).to_le_bytes()).for_each(|(to, bits)| *to |= bits);
            }
            scales[2 * r..][..2].copy_from_slice(&[2 * b, 2 * b + 1].map(|half| row.scales[half] as u8));
        }
    }
}
