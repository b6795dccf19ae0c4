//! Numeric kernels, one table of functions per instruction set, chosen at run time; rows of KV pages as kernels read them.
//! Everything has a scalar reference. No allocation policy, no index, no model.

mod aligned;
mod allowed;
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod amx;
mod bf16;
mod bf16_attention;
mod bf16_pack;
mod elementwise;
mod error;
mod generic;
mod kv_format;
mod packed;
mod rows;
mod self_test;
mod simd;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod tile_linear;

pub use aligned::{Aligned, Number};
pub use bf16::{Bf16Kernels, Bf16Product, PANEL_COLUMNS};
pub use bf16_attention::{BF16_BLOCK, BF16_ROWS, BF16_SCORES, Bf16Block};
pub use bf16_pack::bf16_depth;
pub use error::{Error, Result};
pub use kv_format::{KvFormat, KvSide, PageLayout, Q8_BLOCK};
pub use packed::{BLOCK, BlockNumbers, LevelBits, PackedFormat, PackedKernels, PackedProduct, STRIP_ROWS, activation_bytes};
pub use rows::{PAGE_SIZE, Rows};
pub use tile_linear::{
    ROW_BLOCK, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights, ToF32, activation_tiles,
};

/// Longest head vector that the kernels' stack blocks hold.
pub const MAX_HEAD_DIM: usize = 256;

/// C `[m, n]` = A `[m, k]` B `[k, n]` (plus C when `accumulate`), f32 row-major with row strides in values.
pub struct Gemm {
    pub a: *const f32,
    pub lda: usize,
    pub b: *const f32,
    pub ldb: usize,
    pub c: *mut f32,
    pub ldc: usize,
    pub m: usize,
    /// A multiple of 16.
    pub n: usize,
    pub k: usize,
    pub accumulate: bool,
}

/// What [`Kernels::missed_sums`] adds up, f32 by the 256 and those in f64.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MissedSums {
    /// Squares of all weights.
    pub all_squares: f64,
    /// Squares of those that are not marked, and themselves.
    pub squares: f64,
    pub sum: f64,
}

/// The kernels of one instruction set. Every function is unsafe for the same reason: pointers must be live for the sizes its
/// comment gives, and `head_dim` must be a multiple of `lanes`; [`Kernels::for_head_dim`] and [`Kernels::named`] see to the CPU.
pub struct Kernels {
    /// `scalar`, `avx2`, `avx512`, `avx512vnni`, `avx512bf16`, `amx` or `neon`.
    pub name: &'static str,
    /// f32 values in one vector.
    pub lanes: usize,
    /// Raw scores: `out[h * stride + i]` = query head h `.` row i. `q` f32 `[group, head_dim]`, already times 1/sqrt(head_dim).
    pub score_rows: unsafe fn(q: *const f32, group: usize, rows: &Rows, out: *mut f32, stride: usize),
    /// `acc[h]` += sum over i of `weights[h * stride + i]` times row i. `acc` f32 `[group, head_dim]`.
    pub add_weighted_rows: unsafe fn(weights: *const f32, stride: usize, group: usize, rows: &Rows, acc: *mut f32),
    /// Largest of n values; -infinity for none.
    pub max: unsafe fn(x: *const f32, n: usize) -> f32,
    /// x = e^(x - offset) in place, offset >= every x; returns the sum.
    pub exp_sub: unsafe fn(x: *mut f32, n: usize, offset: f32) -> f32,
    /// Sums over some of n weights, those whose `marks[i]` is 0 (others are 255), and over all: see [`MissedSums`].
    pub missed_sums: unsafe fn(weights: *const f32, marks: *const u8, n: usize) -> MissedSums,
    /// acc += scale * x, n values.
    pub add_scaled: unsafe fn(x: *const f32, n: usize, scale: f32, acc: *mut f32),
    /// x *= factor, n values.
    pub scale: unsafe fn(x: *mut f32, n: usize, factor: f32),
    /// `out[i]` = q `.` codes row i, unscaled. `q` f32 `[d]`, `codes` i8 `[n, d]`.
    pub score_codes: unsafe fn(q: *const f32, codes: *const i8, n: usize, d: usize, out: *mut f32),
    /// Writes `start` + i for every i whose `marks[i]` is 255 (others are 0), ascending, and returns how many. `marks` u8 `[n]`, n a
    /// multiple of 64; `out` has room for them and 64 more.
    pub marked: unsafe fn(marks: *const u8, n: usize, start: u32, out: *mut u32) -> usize,
    /// How many of n values are at least `threshold`.
    pub count_ge: unsafe fn(x: *const f32, n: usize, threshold: f32) -> usize,
    /// Writes the indexes of the values that are at least `threshold`, ascending, and returns how many; `out` has room for them and 64 more.
    pub select_ge: unsafe fn(x: *const f32, n: usize, threshold: f32, out: *mut u32) -> usize,
    /// Asks for the cache lines of `bytes` bytes.
    pub prefetch: unsafe fn(p: *const u8, bytes: usize),
    /// f16 to f32, n values, n a multiple of `lanes`.
    pub widen: unsafe fn(x: *const u16, n: usize, out: *mut f32),
    /// `rows` as f32 `[n, head_dim]`.
    pub widen_rows: unsafe fn(rows: &Rows, out: *mut f32),
    /// f32 to 8-bit codes and a scale for each 32 values ([`KvFormat::Q8`]), n values, n a multiple of 32. A value that is not finite makes
    /// its scale NaN.
    pub quantise: unsafe fn(x: *const f32, n: usize, codes: *mut i8, scales: *mut f32),
    /// f32 to f16 (nearest even), n values, n a multiple of `lanes`.
    pub narrow: unsafe fn(x: *const f32, n: usize, out: *mut u16),
    /// Root mean square norm: `out[i]` = x i / sqrt(mean of x^2 + epsilon) * weight i, n values; `out` may be `x`.
    pub rms_norm: unsafe fn(x: *const f32, weight: *const f32, n: usize, epsilon: f32, out: *mut f32),
    /// `out[i]` = silu(gate i) * up i, n values; silu(x) = x / (1 + e^-x).
    pub gate: unsafe fn(gate: *const f32, up: *const f32, n: usize, out: *mut f32),
    /// Turns a head of 2 * half values in place: (x i, x i + half) by the angle whose cosine and sine are the i-th.
    pub rotate_halves: unsafe fn(x: *mut f32, cos: *const f32, sin: *const f32, half: usize),
    /// The same for (x 2i, x 2i + 1).
    pub rotate_adjacent: unsafe fn(x: *mut f32, cos: *const f32, sin: *const f32, half: usize),
    /// Matrix product.
    pub gemm: unsafe fn(m: &Gemm),
    /// Products in bf16, where this CPU has them: of long prompts only, whose sums over many keys bear the rounding.
    pub bf16: Option<&'static Bf16Kernels>,
    /// Products of quantised weights with activations of 8 bits, where this CPU has an instruction for them.
    pub packed: Option<&'static PackedKernels>,
    /// Linear layers of many rows in bf16 on tiles, where this CPU has them and this process may use them.
    pub tile_linear: Option<&'static TileLinear>,
}

/// Makes the table of one instruction set: each generic kernel inlined into a function that has its target features.
macro_rules! kernel_table {
    ($table:ident, $module:ident, $simd:ident, $name:literal, $vecs:literal, $packed:expr $(, $features:literal)?) => {
        mod $module {
            use super::{Gemm, MissedSums, elementwise, generic, rows::Rows, simd::$simd};

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn score_rows(q: *const f32, group: usize, rows: &Rows, out: *mut f32, stride: usize) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::score_rows::<$simd>(q, group, rows, out, stride) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn add_weighted_rows(weights: *const f32, stride: usize, group: usize, rows: &Rows, acc: *mut f32) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::add_weighted_rows::<$simd>(weights, stride, group, rows, acc) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn max(x: *const f32, n: usize) -> f32 {
                // SAFETY: the contract is the caller's.
                unsafe { generic::max::<$simd>(x, n) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn exp_sub(x: *mut f32, n: usize, offset: f32) -> f32 {
                // SAFETY: the contract is the caller's.
                unsafe { generic::exp_sub::<$simd>(x, n, offset) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn missed_sums(weights: *const f32, marks: *const u8, n: usize) -> MissedSums {
                // SAFETY: the contract is the caller's.
                unsafe { generic::missed_sums::<$simd>(weights, marks, n) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn add_scaled(x: *const f32, n: usize, scale: f32, acc: *mut f32) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::add_scaled::<$simd>(x, n, scale, acc) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn scale(x: *mut f32, n: usize, factor: f32) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::scale::<$simd>(x, n, factor) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn score_codes(
                q: *const f32,
                codes: *const i8,
                n: usize,
                d: usize,
                out: *mut f32,
            ) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::score_codes::<$simd>(q, codes, n, d, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn count_ge(x: *const f32, n: usize, threshold: f32) -> usize {
                // SAFETY: the contract is the caller's.
                unsafe { generic::count_ge::<$simd>(x, n, threshold) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn select_ge(x: *const f32, n: usize, threshold: f32, out: *mut u32) -> usize {
                // SAFETY: the contract is the caller's.
                unsafe { generic::select_ge::<$simd>(x, n, threshold, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn marked(marks: *const u8, n: usize, start: u32, out: *mut u32) -> usize {
                // SAFETY: the contract is the caller's.
                unsafe { generic::marked::<$simd>(marks, n, start, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn prefetch(p: *const u8, bytes: usize) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::prefetch::<$simd>(p, bytes) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn widen(x: *const u16, n: usize, out: *mut f32) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::widen::<$simd>(x, n, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn widen_rows(rows: &Rows, out: *mut f32) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::widen_rows::<$simd>(rows, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn quantise(x: *const f32, n: usize, codes: *mut i8, scales: *mut f32) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::quantise::<$simd>(x, n, codes, scales) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn narrow(x: *const f32, n: usize, out: *mut u16) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::narrow::<$simd>(x, n, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn rms_norm(x: *const f32, weight: *const f32, n: usize, epsilon: f32, out: *mut f32) {
                // SAFETY: the contract is the caller's.
                unsafe { elementwise::rms_norm(x, weight, n, epsilon, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn gate(gate: *const f32, up: *const f32, n: usize, out: *mut f32) {
                // SAFETY: the contract is the caller's.
                unsafe { elementwise::gate::<$simd>(gate, up, n, out) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn rotate_halves(x: *mut f32, cos: *const f32, sin: *const f32, half: usize) {
                // SAFETY: the contract is the caller's.
                unsafe { elementwise::rotate_halves(x, cos, sin, half) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn rotate_adjacent(x: *mut f32, cos: *const f32, sin: *const f32, half: usize) {
                // SAFETY: the contract is the caller's.
                unsafe { elementwise::rotate_adjacent(x, cos, sin, half) }
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn gemm(m: &Gemm) {
                // SAFETY: the contract is the caller's.
                unsafe { generic::gemm::<$simd, $vecs>(m) }
            }
        }
        static $table: Kernels = Kernels {
            name: $name,
            lanes: <simd::$simd as simd::Simd>::LANES,
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
static AVX512_VNNI: Kernels = Kernels { name: "avx512vnni", packed: Some(&packed::AVX512), ..AVX512 };
#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Kernels = Kernels { name: "avx512bf16", bf16: Some(&bf16::AVX512), ..AVX512_VNNI };
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
static AMX: Kernels = Kernels { name: "amx", bf16: Some(&bf16::AMX), tile_linear: Some(&tile_linear::AMX), ..AVX512_BF16 };
#[cfg(target_arch = "aarch64")]
kernel_table!(NEON, neon, Neon, "neon", 4, None, "neon");

impl std::fmt::Debug for Kernels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Which of these features of the CPU are missing.
#[cfg(target_arch = "x86_64")]
macro_rules! missing_features {
    ($($feature:tt),+) => {{
        let all = [$(($feature, is_x86_feature_detected!($feature))),+];
        all.into_iter().filter(|(_, is_there)| !is_there).map(|(feature, _)| feature).collect::<Vec<&'static str>>()
    }};
}

impl Kernels {
    /// Every table of this architecture, the plainest first, and what this machine lacks for it.
    pub fn known() -> Vec<(&'static Kernels, Vec<&'static str>)> {
        let mut all: Vec<(&'static Kernels, Vec<&'static str>)> = vec![(&SCALAR, Vec::new())];
        #[cfg(target_arch = "x86_64")]
        {
            all.push((&AVX2, missing_features!("avx2", "fma", "f16c", "bmi1", "popcnt")));
            simd::choose_prefetch();
            all.push((&AVX512, missing_features!("avx512f", "avx512bw", "avx512dq", "avx512vl")));
            all.push((&AVX512_VNNI, missing_features!("avx512vnni")));
            all.push((&AVX512_BF16, missing_features!("avx512bf16")));
            #[cfg(target_os = "linux")]
            all.push((&AMX, amx::missing()));
            // Each needs what those below it need.
            for i in 1..all.len() {
                let below = all[i - 1].1.clone();
                all[i].1.splice(0..0, below);
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push((&NEON, Vec::new()));
        all
    }

    /// Every table this CPU can run, the plainest first, whether it may be used or not.
    pub fn detected() -> Vec<&'static Kernels> {
        Self::known().into_iter().filter(|(_, missing)| missing.is_empty()).map(|(table, _)| table).collect()
    }

    /// The fastest table for heads of `head_dim` values.
    pub fn for_head_dim(head_dim: usize) -> Result<&'static Kernels> {
        check_head_dim(head_dim)?;
        Self::fastest()?;
        Ok(Self::available().into_iter().rfind(|k| head_dim.is_multiple_of(k.lanes)).unwrap_or(&SCALAR))
    }

    /// The table of this name, or the fastest for an empty name.
    pub fn named(name: &str, head_dim: usize) -> Result<&'static Kernels> {
        if name.is_empty() {
            return Self::for_head_dim(head_dim);
        }
        check_head_dim(head_dim)?;
        Self::fastest()?;
        let all = Self::available();
        all.iter().copied().find(|k| k.name == name && head_dim.is_multiple_of(k.lanes)).ok_or_else(|| Error {
            option: "isa",
            expected: format!(
                "one of {} for head_dim {head_dim}",
                all.iter().filter(|k| head_dim.is_multiple_of(k.lanes)).map(|k| k.name).collect::<Vec<_>>().join(", ")
            ),
            actual: name.into(),
        })
    }
}

fn check_head_dim(head_dim: usize) -> Result<()> {
    // The matrix product's columns come in vectors of up to 16.
    if head_dim == 0 || head_dim > MAX_HEAD_DIM || !head_dim.is_multiple_of(16) {
        return Err(Error {
            option: "headDim",
            expected: format!("a multiple of 16 up to {MAX_HEAD_DIM}"),
            actual: head_dim.to_string(),
        });
    }
    Ok(())
}
