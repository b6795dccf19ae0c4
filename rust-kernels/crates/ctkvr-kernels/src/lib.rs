//! Numeric kernels, one table of functions per instruction set, chosen at run time; rows of KV pages as kernels read them.
//! Everything has a scalar reference. No allocation policy, no index, no model.
//!
//! [`Kernels`] is what others use: its methods take slices and [`Rows`], check once a call that they fit, and panic where they do not,
//! which is a bug of the caller. What stays unsafe is what a type cannot say: pages and matrices that several threads share
//! ([`Rows::run`], [`Kernels::score_rows_into_columns`], [`PackedKernels::product`], [`TileLinear`]).

mod aligned;
mod allowed;
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod amx;
mod bf16;
mod bf16_attention;
mod bf16_pack;
mod dispatch;
mod elementwise;
mod error;
mod formats;
mod gemm;
mod kv_format;
mod packed;
mod prefetch;
mod rows;
mod score_rows;
mod selection;
mod self_test;
mod simd;
mod sizes;
mod softmax;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod tile_linear;
mod weighted_rows;

pub use aligned::{Aligned, Number};
pub use bf16::{Bf16Kernels, Bf16Product, PANEL_COLUMNS};
pub use bf16_attention::{BF16_BLOCK, BF16_ROWS, BF16_SCORES, Bf16Block};
pub use bf16_pack::bf16_depth;
pub use dispatch::MAX_HEAD_DIM;
pub use error::{Error, Result};
pub use gemm::Gemm;
pub use kv_format::{KvFormat, KvSide, PageLayout, Q8_BLOCK};
pub use packed::{BLOCK, BlockNumbers, LevelBits, PackedFormat, PackedKernels, PackedProduct, STRIP_ROWS, activation_bytes};
pub use rows::{PAGE_SIZE, Rows};
pub use softmax::MissedSums;
pub use table::Kernels;
pub use tile_linear::{
    ROW_BLOCK, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights, ToF32, activation_tiles,
};

#[cfg(test)]
use table::SCALAR;
