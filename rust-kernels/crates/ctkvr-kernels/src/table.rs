//! The tables: the kernels of one instruction set each, every one compiled from the same source.

use crate::bf16::{self, Bf16Kernels};
use crate::gemm::RawGemm;
use crate::packed::{self, PackedKernels};
use crate::rows::Rows;
use crate::simd::{self, Simd};
use crate::softmax::MissedSums;
use crate::tile_linear::{self, TileLinear};

/// The kernels of one instruction set, which this CPU has: [`Kernels::for_head_dim`], [`Kernels::named`] and [`Kernels::available`] hand out
/// no others. Its methods take slices and check that they fit; each stands in the file of its concept.
///
/// A field is the raw form of the method of its name: what that checks is the caller's to keep, and `n` is how many values the pointers
/// before it are live for.
pub struct Kernels {
    /// `scalar`, `avx2`, `avx512`, `avx512vnni`, `avx512bf16`, `amx` or `neon`.
    pub name: &'static str,
    /// f32 values in one vector: a power of two up to 16.
    pub lanes: usize,
    pub(crate) score_rows: unsafe fn(q: *const f32, group: usize, rows: &Rows, out: *mut f32, stride: usize),
    pub(crate) add_weighted_rows: unsafe fn(weights: *const f32, stride: usize, group: usize, rows: &Rows, acc: *mut f32),
    pub(crate) max: unsafe fn(x: *const f32, n: usize) -> f32,
    pub(crate) exp_sub: unsafe fn(x: *mut f32, n: usize, offset: f32) -> f32,
    pub(crate) missed_sums: unsafe fn(weights: *const f32, marks: *const u8, n: usize) -> MissedSums,
    pub(crate) add_scaled: unsafe fn(x: *const f32, n: usize, scale: f32, acc: *mut f32),
    pub(crate) scale: unsafe fn(x: *mut f32, n: usize, factor: f32),
    /// `codes` i8 `[n, d]`, `out` f32 `[n]`.
    pub(crate) score_codes: unsafe fn(q: *const f32, codes: *const i8, n: usize, d: usize, out: *mut f32),
    /// Returns how many positions; `out` has room for them and 64 more.
    pub(crate) marked: unsafe fn(marks: *const u8, n: usize, start: u32, out: *mut u32) -> usize,
    pub(crate) count_ge: unsafe fn(x: *const f32, n: usize, threshold: f32) -> usize,
    /// Writes `start` + index; as `marked`.
    pub(crate) select_ge: unsafe fn(x: *const f32, n: usize, threshold: f32, start: u32, out: *mut u32) -> usize,
    pub(crate) prefetch: unsafe fn(p: *const u8, bytes: usize),
    pub(crate) widen: unsafe fn(x: *const u16, n: usize, out: *mut f32),
    pub(crate) widen_rows: unsafe fn(rows: &Rows, out: *mut f32),
    pub(crate) quantise: unsafe fn(x: *const f32, n: usize, codes: *mut i8, scales: *mut f32),
    pub(crate) narrow: unsafe fn(x: *const f32, n: usize, out: *mut u16),
    /// `out` may be `x`.
    pub(crate) rms_norm: unsafe fn(x: *const f32, weight: *const f32, n: usize, epsilon: f32, out: *mut f32),
    pub(crate) gate: unsafe fn(gate: *const f32, up: *const f32, n: usize, out: *mut f32),
    /// `x` f32 `[2 * half]`.
    pub(crate) rotate_halves: unsafe fn(x: *mut f32, cos: *const f32, sin: *const f32, half: usize),
    pub(crate) rotate_adjacent: unsafe fn(x: *mut f32, cos: *const f32, sin: *const f32, half: usize),
    pub(crate) gemm: unsafe fn(m: &RawGemm),
    /// Products in bf16, where this CPU has them: of long prompts only, whose sums over many keys bear the rounding.
    pub bf16: Option<&'static Bf16Kernels>,
    /// Products of quantised weights with activations of 8 bits, where this CPU has an instruction for them.
    pub packed: Option<&'static PackedKernels>,
    /// Linear layers of many rows in bf16 on tiles, where this CPU has them and this process may use them.
    pub tile_linear: Option<&'static TileLinear>,
}

impl Kernels {
    /// Whether so many values are whole vectors.
    #[inline(always)]
    pub(crate) fn is_whole(&self, n: usize) -> bool {
        n & (self.lanes - 1) == 0
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// One generic kernel, inlined into a function that has the target features.
macro_rules! kernel {
    (($($features:literal)?) fn $name:ident($($arg:ident: $type:ty),*) $(-> $returned:ty)? = $generic:expr) => {
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn $name($($arg: $type),*) $(-> $returned)? {
            // SAFETY: the contract is the caller's.
            unsafe { $generic($($arg),*) }
        }
    };
}

/// Makes the table of one instruction set.
macro_rules! kernel_table {
    ($table:ident, $module:ident, $simd:ident, $name:literal, $vecs:literal, $packed:expr $(, $features:literal)?) => {
        mod $module {
            use super::{MissedSums, RawGemm, Rows};
            use crate::simd::$simd;
            use crate::{elementwise, formats, gemm, prefetch, score_rows, selection, softmax, weighted_rows};

            kernel!(($($features)?) fn score_rows(q: *const f32, group: usize, rows: &Rows, out: *mut f32, stride: usize)
                = score_rows::score_rows::<$simd>);
            kernel!(($($features)?) fn add_weighted_rows(w: *const f32, stride: usize, group: usize, rows: &Rows, acc: *mut f32)
                = weighted_rows::add_weighted_rows::<$simd>);
            kernel!(($($features)?) fn max(x: *const f32, n: usize) -> f32 = softmax::max::<$simd>);
            kernel!(($($features)?) fn exp_sub(x: *mut f32, n: usize, offset: f32) -> f32 = softmax::exp_sub::<$simd>);
            kernel!(($($features)?) fn missed_sums(w: *const f32, marks: *const u8, n: usize) -> MissedSums
                = softmax::missed_sums::<$simd>);
            kernel!(($($features)?) fn add_scaled(x: *const f32, n: usize, scale: f32, acc: *mut f32)
                = softmax::add_scaled::<$simd>);
            kernel!(($($features)?) fn scale(x: *mut f32, n: usize, factor: f32) = softmax::scale::<$simd>);
            kernel!(($($features)?) fn score_codes(q: *const f32, codes: *const i8, n: usize, d: usize, out: *mut f32)
                = score_rows::score_codes::<$simd>);
            kernel!(($($features)?) fn marked(marks: *const u8, n: usize, start: u32, out: *mut u32) -> usize
                = selection::marked::<$simd>);
            kernel!(($($features)?) fn count_ge(x: *const f32, n: usize, threshold: f32) -> usize = selection::count_ge::<$simd>);
            kernel!(($($features)?) fn select_ge(x: *const f32, n: usize, threshold: f32, start: u32, out: *mut u32) -> usize
                = selection::select_ge::<$simd>);
            kernel!(($($features)?) fn prefetch(p: *const u8, bytes: usize) = prefetch::prefetch::<$simd>);
            kernel!(($($features)?) fn widen(x: *const u16, n: usize, out: *mut f32) = formats::widen::<$simd>);
            kernel!(($($features)?) fn widen_rows(rows: &Rows, out: *mut f32) = formats::widen_rows::<$simd>);
            kernel!(($($features)?) fn quantise(x: *const f32, n: usize, codes: *mut i8, scales: *mut f32)
                = formats::quantise::<$simd>);
            kernel!(($($features)?) fn narrow(x: *const f32, n: usize, out: *mut u16) = formats::narrow::<$simd>);
            kernel!(($($features)?) fn rms_norm(x: *const f32, weight: *const f32, n: usize, epsilon: f32, out: *mut f32)
                = elementwise::rms_norm);
            kernel!(($($features)?) fn gate(gate: *const f32, up: *const f32, n: usize, out: *mut f32) = elementwise::gate::<$simd>);
            kernel!(($($features)?) fn rotate_halves(x: *mut f32, cos: *const f32, sin: *const f32, half: usize)
                = elementwise::rotate_halves);
            kernel!(($($features)?) fn rotate_adjacent(x: *mut f32, cos: *const f32, sin: *const f32, half: usize)
                = elementwise::rotate_adjacent);
            kernel!(($($features)?) fn gemm(m: &RawGemm) = gemm::gemm::<$simd, $vecs>);
        }
        pub(crate) static $table: Kernels = Kernels {
            name: $name,
            lanes: <simd::$simd as Simd>::LANES,
            score_rows: $module::score_rows,
            add_weighted_rows: $module::add_weighted_rows,
            max: $module::max,
            exp_sub: $module::exp_sub,
            missed_sums: $module::missed_sums,
            add_scaled: $module::add_scaled,
            scale: $module::scale,
            score_codes: $module::score_codes,
            marked: $module::marked,
            count_ge: $module::count_ge,
            select_ge: $module::select_ge,
            prefetch: $module::prefetch,
            widen: $module::widen,
            widen_rows: $module::widen_rows,
            quantise: $module::quantise,
            narrow: $module::narrow,
            rms_norm: $module::rms_norm,
            gate: $module::gate,
            rotate_halves: $module::rotate_halves,
            rotate_adjacent: $module::rotate_adjacent,
            gemm: $module::gemm,
            bf16: None,
            packed: $packed,
            tile_linear: None,
        };
    };
}

kernel_table!(SCALAR, scalar, Scalar, "scalar", 4, None);
#[cfg(target_arch = "x86_64")]
kernel_table!(AVX2, avx2, Avx2, "avx2", 2, Some(&packed::AVX2), "avx2,fma,f16c,bmi1,popcnt");
#[cfg(target_arch = "x86_64")]
kernel_table!(
    AVX512,
    avx512,
    Avx512,
    "avx512",
    4,
    Some(&packed::AVX2),
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi1,popcnt"
);
#[cfg(target_arch = "x86_64")]
pub(crate) static AVX512_VNNI: Kernels = Kernels { name: "avx512vnni", packed: Some(&packed::AVX512), ..AVX512 };
#[cfg(target_arch = "x86_64")]
pub(crate) static AVX512_BF16: Kernels = Kernels { name: "avx512bf16", bf16: Some(&bf16::AVX512), ..AVX512_VNNI };
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) static AMX: Kernels =
    Kernels { name: "amx", bf16: Some(&bf16::AMX), tile_linear: Some(&tile_linear::AMX), ..AVX512_BF16 };
#[cfg(target_arch = "aarch64")]
kernel_table!(NEON, neon, Neon, "neon", 4, None, "neon");
