//! The bf16 product on AMX tiles: 32 rows by 32 columns of C at a time, each a square of four tiles, from two tiles of A and two of a panel,
//! whose layout is theirs. Panels that are not whole, or deeper than a head, are left to the vector product.
//!
//! The order of work is written over [`Tiles`], so that it is tested on any machine, with tiles in plain Rust; the instructions themselves
//! are tested where the CPU has them.

use super::bf16_attention::Products;
use super::{Bf16Product, MAX_HEAD_DIM, PANEL_COLUMNS};

/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Bytes of a row of a tile: 16 values f32, or 16 pairs bf16.
pub(super) const ROW_BYTES: usize = 64;
/// Values of A's rows that one tile holds.
pub(super) const DEPTH: usize = ROW_BYTES / size_of::<u16>();

/// Eight tiles of [`ROWS`] rows. Pointers must be live for the rows they give; strides are in bytes.
pub(super) trait Tiles {
    /// All zero.
    fn new() -> Self;
    fn zero<const TILE: usize>(&mut self);
    unsafe fn load<const TILE: usize>(&mut self, from: *const u8, stride: usize);
    /// The same of what is not read again soon: the first-level cache keeps other things.
    unsafe fn load_once<const TILE: usize>(&mut self, from: *const u8, stride: usize);
    unsafe fn store<const TILE: usize>(&mut self, to: *mut u8, stride: usize);
    /// Asks for a cache line that will be loaded: into the second-level cache.
    fn ask(&mut self, line: *const u8);
    /// C `[16, 16]` f32 += A `[16, 32]` times B, bf16 `[16, 16, 2]`: the pairs of A's row meet the pairs of B's column.
    fn multiply<const C: usize, const A: usize, const B: usize>(&mut self);
}

/// Products of whole tiles: rows are read and written up to the next multiple of [`ROWS`].
pub(super) struct InTiles<T>(T);

impl<T: Tiles> Products for InTiles<T> {
    const ROWS: usize = 2 * ROWS;
    #[inline(always)]
    fn new() -> Self {
        Self(T::new())
    }
    #[inline(always)]
    unsafe fn multiply(&mut self, p: &Bf16Product) {
        // SAFETY: the caller's matrices, whose rows end with a tile.
        unsafe { if p.m > ROWS { square::<T, true>(&mut self.0, p, 0) } else { square::<T, false>(&mut self.0, p, 0) } }
    }
}

/// As [`super::Bf16Kernels::product`]; `otherwise` takes what does not come in tiles. Rows that do not fill one are multiplied beside rows of
/// zeros: a row's sums are the same whatever rows come with it.
#[inline(always)]
unsafe fn product_on<T: Tiles>(p: &Bf16Product, otherwise: unsafe fn(&Bf16Product)) {
    let fills_tiles = p.k.is_multiple_of(DEPTH) && p.columns == PANEL_COLUMNS && p.k <= MAX_HEAD_DIM;
    // SAFETY: the caller's matrices; both parts keep to their rows.
    unsafe {
        if !fills_tiles {
            return otherwise(p);
        }
        let mut tiles = T::new();
        let whole = p.m - p.m % ROWS;
        for i in (0..whole).step_by(2 * ROWS) {
            if i + ROWS < whole { square::<T, true>(&mut tiles, p, i) } else { square::<T, false>(&mut tiles, p, i) }
        }
        if whole < p.m {
            let rest = Bf16Product { a: p.a.add(whole * p.lda), c: p.c.add(whole * p.ldc), m: p.m - whole, ..*p };
            padded::<T>(&mut tiles, &rest);
        }
    }
}

/// Fewer rows than a tile has.
#[inline(always)]
unsafe fn padded<T: Tiles>(tiles: &mut T, p: &Bf16Product) {
    let (mut a, mut c) = ([0u16; ROWS * MAX_HEAD_DIM], [0f32; ROWS * PANEL_COLUMNS]);
    // SAFETY: the caller's matrices; k is at most MAX_HEAD_DIM and columns are PANEL_COLUMNS.
    unsafe {
        for i in 0..p.m {
            std::ptr::copy_nonoverlapping(p.a.add(i * p.lda), a.as_mut_ptr().add(i * p.k), p.k);
            if p.accumulate {
                std::ptr::copy_nonoverlapping(p.c.add(i * p.ldc), c.as_mut_ptr().add(i * PANEL_COLUMNS), PANEL_COLUMNS);
            }
        }
        let whole = Bf16Product { a: a.as_ptr(), lda: p.k, c: c.as_mut_ptr(), ldc: PANEL_COLUMNS, m: ROWS, ..*p };
        square::<T, false>(tiles, &whole, 0);
        for i in 0..p.m {
            std::ptr::copy_nonoverlapping(c.as_ptr().add(i * PANEL_COLUMNS), p.c.add(i * p.ldc), PANEL_COLUMNS);
        }
    }
}

/// Rows `i..i + 32` of C, or `i..i + 16`: tiles 0 to 3; A in 4 and 5, the panel in 6 and 7.
#[inline(always)]
unsafe fn square<T: Tiles, const BOTH: bool>(tiles: &mut T, p: &Bf16Product, i: usize) {
    let (a_stride, c_stride) = (p.lda * size_of::<u16>(), p.ldc * size_of::<f32>());
    let panel_stride = PANEL_COLUMNS * 2 * size_of::<u16>();
    // SAFETY: the caller's rows.
    unsafe {
        let c = p.c.add(i * p.ldc).cast::<u8>();
        let (right, below) = (c.add(ROW_BYTES), c.add(ROWS * c_stride));
        if p.accumulate {
            tiles.load::<0>(c, c_stride);
            tiles.load::<1>(right, c_stride);
        } else {
            tiles.zero::<0>();
            tiles.zero::<1>();
        }
        if BOTH && p.accumulate {
            tiles.load::<2>(below, c_stride);
            tiles.load::<3>(below.add(ROW_BYTES), c_stride);
        } else if BOTH {
            tiles.zero::<2>();
            tiles.zero::<3>();
        }
        for t in (0..p.k).step_by(DEPTH) {
            let (a, panel) = (p.a.add(i * p.lda + t).cast::<u8>(), p.panel.add(t * PANEL_COLUMNS).cast::<u8>());
            tiles.load::<4>(a, a_stride);
            tiles.load::<6>(panel, panel_stride);
            tiles.load::<7>(panel.add(ROW_BYTES), panel_stride);
            tiles.multiply::<0, 4, 6>();
            tiles.multiply::<1, 4, 7>();
            if BOTH {
                tiles.load::<5>(a.add(ROWS * a_stride), a_stride);
                tiles.multiply::<2, 5, 6>();
                tiles.multiply::<3, 5, 7>();
            }
        }
        tiles.store::<0>(c, c_stride);
        tiles.store::<1>(right, c_stride);
        if BOTH {
            tiles.store::<2>(below, c_stride);
            tiles.store::<3>(below.add(ROW_BYTES), c_stride);
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use hardware::{Registers, missing, product};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hardware {
    #![allow(clippy::undocumented_unsafe_blocks, reason = "every block is an instruction on what the caller vouches for")]

    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _MM_HINT_T1, _mm_prefetch, _xgetbv};
    use std::sync::OnceLock;

    use super::super::bf16;
    use super::{Bf16Product, ROW_BYTES, ROWS, Tiles, product_on};

    pub(in super::super) unsafe fn product(p: &Bf16Product) {
        unsafe { product_on::<Registers>(p, bf16::AVX512.product) }
    }

    /// The registers of this thread, configured while it lives: what is configured is saved at every switch of threads.
    pub(in super::super) struct Registers;

    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static CONFIG: Config = {
        let (mut row_bytes, mut rows, mut i) = ([0; 16], [0; 16], 0);
        while i < 8 {
            (row_bytes[i], rows[i]) = (ROW_BYTES as u16, ROWS as u8);
            i += 1;
        }
        Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    };

    impl Tiles for Registers {
        #[inline(always)]
        fn new() -> Self {
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, preserves_flags));
            }
            Self
        }
        #[inline(always)]
        fn zero<const TILE: usize>(&mut self) {
            unsafe { asm!("tilezero tmm{}", const TILE, options(nostack, preserves_flags)) }
        }
        #[inline(always)]
        unsafe fn load<const TILE: usize>(&mut self, from: *const u8, stride: usize) {
            unsafe {
                asm!("tileloadd tmm{}, [{} + {}]", const TILE, in(reg) from, in(reg) stride, options(nostack, preserves_flags));
            }
        }
        #[inline(always)]
        unsafe fn load_once<const TILE: usize>(&mut self, from: *const u8, stride: usize) {
            unsafe {
                asm!("tileloaddt1 tmm{}, [{} + {}]", const TILE, in(reg) from, in(reg) stride, options(nostack, preserves_flags));
            }
        }
        #[inline(always)]
        unsafe fn store<const TILE: usize>(&mut self, to: *mut u8, stride: usize) {
            unsafe {
                asm!("tilestored [{} + {}], tmm{}", in(reg) to, in(reg) stride, const TILE, options(nostack, preserves_flags));
            }
        }
        #[inline(always)]
        fn ask(&mut self, line: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        }
        #[inline(always)]
        fn multiply<const C: usize, const A: usize, const B: usize>(&mut self) {
            unsafe { asm!("tdpbf16ps tmm{}, tmm{}, tmm{}", const C, const A, const B, options(nostack, preserves_flags)) }
        }
    }

    impl Drop for Registers {
        #[inline(always)]
        fn drop(&mut self) {
            unsafe { asm!("tilerelease", options(nostack, preserves_flags)) }
        }
    }

    /// What stands in the way of tiles here. Asks the system the first time, where the CPU has the instructions.
    pub(in super::super) fn missing() -> Vec<&'static str> {
        static MISSING: OnceLock<Option<&str>> = OnceLock::new();
        let look = || {
            if !has_instructions() {
                Some("amx-tile and amx-bf16")
            } else if !is_permitted() {
                Some("the system's permission to use tiles")
            } else {
                None
            }
        };
        MISSING.get_or_init(look).iter().copied().collect()
    }

    fn has_instructions() -> bool {
        const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
        const OSXSAVE: u32 = 1 << 27;
        /// Tile configuration and tile data.
        const STATE: u64 = 0b11 << 17;
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 || __cpuid_count(7, 0).edx & BF16_AND_TILE != BF16_AND_TILE {
            return false;
        }
        // SAFETY: OSXSAVE says that the instruction is there.
        unsafe { enabled_state() & STATE == STATE }
    }

    #[target_feature(enable = "xsave")]
    unsafe fn enabled_state() -> u64 {
        unsafe { _xgetbv(0) }
    }

    /// Tile data is large: Linux keeps it for processes that ask (Documentation/arch/x86/xstate.rst).
    fn is_permitted() -> bool {
        const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
        const XFEATURE_XTILEDATA: usize = 18;
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }
}

#[cfg(test)]
pub(super) mod software {
    use super::{Bf16Product, DEPTH, ROW_BYTES, ROWS, Tiles, product_on};
    use crate::bf16;
    use half::bf16 as Bf16;

    /// Tiles by their definition (Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS, TILELOADD, TILESTORED).
    pub(in super::super) struct Plain {
        tiles: [[[u8; ROW_BYTES]; ROWS]; 8],
    }

    pub(in super::super) unsafe fn product(p: &Bf16Product) {
        // SAFETY: the contract is the caller's.
        unsafe { product_on::<Plain>(p, bf16::SCALAR.product) }
    }

    impl Plain {
        fn bf16(&self, tile: usize, row: usize, i: usize) -> f32 {
            let bytes = &self.tiles[tile][row][2 * i..2 * i + 2];
            Bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
        }
    }

    impl Tiles for Plain {
        fn new() -> Self {
            Self { tiles: [[[0; ROW_BYTES]; ROWS]; 8] }
        }
        fn zero<const TILE: usize>(&mut self) {
            self.tiles[TILE] = [[0; ROW_BYTES]; ROWS];
        }
        unsafe fn load<const TILE: usize>(&mut self, from: *const u8, stride: usize) {
            for (i, row) in self.tiles[TILE].iter_mut().enumerate() {
                // SAFETY: the caller's rows.
                unsafe { std::ptr::copy_nonoverlapping(from.add(i * stride), row.as_mut_ptr(), ROW_BYTES) };
            }
        }
        unsafe fn load_once<const TILE: usize>(&mut self, from: *const u8, stride: usize) {
            // SAFETY: the contract is the caller's.
            unsafe { self.load::<TILE>(from, stride) };
        }
        unsafe fn store<const TILE: usize>(&mut self, to: *mut u8, stride: usize) {
            for (i, row) in self.tiles[TILE].iter().enumerate() {
                // SAFETY: the caller's rows.
                unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to.add(i * stride), ROW_BYTES) };
            }
        }
        fn ask(&mut self, _: *const u8) {}
        fn multiply<const C: usize, const A: usize, const B: usize>(&mut self) {
            for m in 0..ROWS {
                for n in 0..ROW_BYTES / 4 {
                    let at = 4 * n..4 * n + 4;
                    let mut sum = f32::from_le_bytes(self.tiles[C][m][at.clone()].try_into().expect("four bytes"));
                    for t in 0..DEPTH {
                        sum += self.bf16(A, m, t) * self.bf16(B, t / 2, 2 * n + t % 2);
                    }
                    self.tiles[C][m][at].copy_from_slice(&sum.to_le_bytes());
                }
            }
        }
    }
}
