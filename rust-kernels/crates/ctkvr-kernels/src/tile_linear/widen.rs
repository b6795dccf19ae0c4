//! Numbers to bf16 in the order of tiles.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod avx512 {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is intrinsics on pointers that the caller vouches for")]

    use super::super::{BLOCK, PackedFormat, STRIP_ROWS, Tile};
    use crate::bf16::avx512::transpose;
    use crate::packed::avx512::{scale_and_min, unpack};
    use crate::packed::{LevelBits, SHARING};
    use std::arch::x86_64::*;

    /// Pairs of weights of a block: rows of a tile.
    const PAIRS: usize = BLOCK / 2;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(in super::super) unsafe fn narrow_row(x: *const f32, from: usize, to: usize, row: usize, tiles: *mut Tile) {
        for block in from..to {
            unsafe {
                let x = x.add(block * BLOCK);
                let narrow = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x.add(16)), _mm512_loadu_ps(x));
                let out = tiles.add(block).cast::<__m512i>().add(row);
                _mm512_storeu_si512(out, std::mem::transmute::<__m512bh, __m512i>(narrow));
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    pub(in super::super) unsafe fn widen_strip(format: PackedFormat, strip: *const u8, from: usize, to: usize, tiles: *mut Tile) {
        unsafe {
            match (format.bits, format.blocks_per_run()) {
                (LevelBits::Four, 1) => widen::<4, 1>(format, strip, from, to, tiles),
                (LevelBits::Four, _) => widen::<4, SHARING>(format, strip, from, to, tiles),
                (LevelBits::Five, 1) => widen::<5, 1>(format, strip, from, to, tiles),
                (LevelBits::Five, _) => widen::<5, SHARING>(format, strip, from, to, tiles),
                (LevelBits::Eight, 1) => widen::<8, 1>(format, strip, from, to, tiles),
                (LevelBits::Eight, _) => widen::<8, SHARING>(format, strip, from, to, tiles),
            }
        }
    }

    /// A level in the upper bits of a mantissa, below an exponent that makes it 256 + level, is a number without conversion; the 256 is taken
    /// back with the min. What that costs is a rounding of (min - 256 scales) to f32: at most 2^-16 of scale and min, and nothing where
    /// the min is so many scales.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn widen<const BITS: usize, const RUN: usize>(
        format: PackedFormat,
        strip: *const u8,
        from: usize,
        to: usize,
        tiles: *mut Tile,
    ) {
        const OFFSET: f32 = 256.0;
        let (field, offset) = (_mm512_set1_epi32(0xff << 15), _mm512_set1_epi32(OFFSET.to_bits() as i32));
        // field & x | offset
        let number = |x: __m512i| _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xea>(field, x, offset));
        let (header_bytes, block_bytes) = (format.header_bytes(), format.block_bytes());
        unsafe {
            let order = order();
            for b in from..to {
                let run = strip.add(b / RUN * (header_bytes + RUN * block_bytes));
                let block = run.add(header_bytes + b % RUN * block_bytes);
                let (scale, min) = scale_and_min(format, run, block);
                let min = _mm512_fnmadd_ps(_mm512_set1_ps(OFFSET), scale, min);
                let out = tiles.add(b - from).cast::<__m512i>();
                for (g, levels) in unpack::<BITS>(block).into_iter().enumerate() {
                    let weight = |x| _mm512_fmadd_ps(number(x), scale, min);
                    let pair = |first, second| {
                        let narrow = _mm512_cvtne2ps_pbh(weight(second), weight(first));
                        _mm512_permutexvar_epi16(order, std::mem::transmute::<__m512bh, __m512i>(narrow))
                    };
                    let (first, second) = (_mm512_slli_epi32::<15>(levels), _mm512_slli_epi32::<7>(levels));
                    _mm512_storeu_si512(out.add(2 * g), pair(first, second));
                    let (third, fourth) = (_mm512_srli_epi32::<1>(levels), _mm512_srli_epi32::<9>(levels));
                    _mm512_storeu_si512(out.add(2 * g + 1), pair(third, fourth));
                }
            }
        }
    }

    /// From 16 values and 16 others to pairs of one and its other.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn order() -> __m512i {
        let mut order = [0u16; 32];
        for (i, x) in order.iter_mut().enumerate() {
            *x = (i / 2 + i % 2 * 16) as u16;
        }
        // SAFETY: 64 bytes.
        unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(in super::super) unsafe fn widen_rows(rows: *const f32, ld: usize, blocks: usize, tiles: *mut Tile) {
        for b in 0..blocks {
            unsafe {
                let mut tile = [_mm512_setzero_si512(); PAIRS];
                for (r, x) in tile.iter_mut().enumerate() {
                    let row = rows.add(r * ld + b * BLOCK);
                    let narrow = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(row.add(16)), _mm512_loadu_ps(row));
                    *x = std::mem::transmute::<__m512bh, __m512i>(narrow);
                }
                let out = tiles.add(b).cast::<__m512i>();
                for (pair, x) in transpose(tile).into_iter().enumerate() {
                    _mm512_storeu_si512(out.add(pair), x);
                }
            }
        }
    }

    const _: () = assert!(PAIRS == STRIP_ROWS, "a tile of weights is as wide as it is high");
}

/// One value at a time: the plain form the other one is tested against.
pub(super) mod scalar {
    use super::super::{BLOCK, PackedFormat, STRIP_ROWS, Tile};
    use half::bf16;

    pub(in super::super) unsafe fn narrow_row(x: *const f32, from: usize, to: usize, row: usize, tiles: *mut Tile) {
        for i in from * BLOCK..to * BLOCK {
            // SAFETY: the caller's values and tiles.
            unsafe { (&mut *tiles.add(i / BLOCK)).0[row * BLOCK + i % BLOCK] = bf16::from_f32(*x.add(i)).to_bits() };
        }
    }

    /// Where weight c of a block of row r lies in a tile.
    pub(in super::super) fn place(r: usize, c: usize) -> usize {
        (c / 2 * STRIP_ROWS + r) * 2 + c % 2
    }

    pub(in super::super) unsafe fn widen_strip(format: PackedFormat, strip: *const u8, from: usize, to: usize, tiles: *mut Tile) {
        let runs = to.div_ceil(format.blocks_per_run());
        // SAFETY: the caller's strip, at least as long as the runs of its blocks, and tiles.
        let (strip, tiles) = unsafe {
            let strip = std::slice::from_raw_parts(strip, runs * format.run_bytes());
            (strip, std::slice::from_raw_parts_mut(tiles, to - from))
        };
        for (b, tile) in (from..to).zip(tiles) {
            for r in 0..STRIP_ROWS {
                let (block, scale, min) = format.block(strip, b, r);
                for c in 0..BLOCK {
                    let weight = scale * f32::from(format.level(block, r, c)) + min;
                    tile.0[place(r, c)] = bf16::from_f32(weight).to_bits();
                }
            }
        }
    }

    pub(in super::super) unsafe fn widen_rows(rows: *const f32, ld: usize, blocks: usize, tiles: *mut Tile) {
        for (r, i) in (0..STRIP_ROWS).flat_map(|r| (0..blocks * BLOCK).map(move |i| (r, i))) {
            // SAFETY: the caller's rows and tiles.
            unsafe {
                let tile = &mut *tiles.add(i / BLOCK);
                tile.0[place(r, i % BLOCK)] = bf16::from_f32(*rows.add(r * ld + i)).to_bits();
            }
        }
    }
}
