//! Which tables there are, which of them this CPU can run, and which one serves heads of a size.

use crate::error::{Error, Result};
#[cfg(target_arch = "aarch64")]
use crate::table::NEON;
use crate::table::{Kernels, SCALAR};

/// Longest head vector that the kernels' stack blocks hold.
pub const MAX_HEAD_DIM: usize = 256;

/// Which of these features of the CPU are missing.
#[cfg(target_arch = "x86_64")]
macro_rules! missing_features {
    ($($feature:tt),+) => {{
        let all = [$(($feature, is_x86_feature_detected!($feature))),+];
        all.into_iter().filter(|(_, is_there)| !is_there).map(|(feature, _)| feature).collect::<Vec<&'static str>>()
    }};
}

/// Every table of this architecture, the plainest first, and what this machine lacks for it. Miri runs the scalar one alone.
fn tables() -> Vec<(&'static Kernels, Vec<&'static str>)> {
    #[allow(unused_mut, reason = "some architectures have the scalar one alone")]
    let mut all: Vec<(&'static Kernels, Vec<&'static str>)> = vec![(&SCALAR, Vec::new())];
    if cfg!(miri) {
        return all;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use crate::table::{AVX2, AVX512, AVX512_BF16, AVX512_VNNI};
        all.push((&AVX2, missing_features!("avx2", "fma", "f16c", "bmi1", "popcnt")));
        crate::simd::choose_prefetch();
        all.push((&AVX512, missing_features!("avx512f", "avx512bw", "avx512dq", "avx512vl")));
        all.push((&AVX512_VNNI, missing_features!("avx512vnni")));
        all.push((&AVX512_BF16, missing_features!("avx512bf16")));
        #[cfg(target_os = "linux")]
        all.push((&crate::table::AMX, crate::amx::missing()));
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

impl Kernels {
    /// The name of every table of this architecture, the plainest first, and what this machine lacks for it.
    pub fn known() -> Vec<(&'static str, Vec<&'static str>)> {
        tables().into_iter().map(|(table, missing)| (table.name, missing)).collect()
    }

    /// Every table this CPU can run, the plainest first, whether it may be used or not.
    pub fn detected() -> Vec<&'static Kernels> {
        tables().into_iter().filter(|(_, missing)| missing.is_empty()).map(|(table, _)| table).collect()
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
