//! How activations are rounded to what weights are multiplied with.

use std::ffi::c_void;
use std::slice::{from_raw_parts, from_raw_parts_mut};

use ctkvr_kernels::{BLOCK, PackedKernels, activation_bytes};
use llama_cpp_sys_2 as sys;

/// How a row of activations is rounded.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    /// To 8 bits, for packed weights.
    Packed(&'static PackedKernels),
    /// To the type that ggml multiplies a type of weights with.
    Ggml { kind: sys::ggml_type, from_float: unsafe extern "C" fn(*const f32, *mut c_void, i64) },
}

impl Encoding {
    /// Whether rows rounded by one serve the other.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Packed(_), Self::Packed(_)) => true,
            (Self::Ggml { kind, .. }, Self::Ggml { kind: other, .. }) => kind == other,
            _ => false,
        }
    }

    /// Bytes of a row of k activations.
    pub fn row_bytes(&self, k: usize) -> usize {
        match self {
            Self::Packed(_) => activation_bytes(k),
            // SAFETY: a type of ggml's; k is a multiple of its block, as the weights' rows are. Rows begin at whole words.
            Self::Ggml { kind, .. } => unsafe { sys::ggml_row_size(*kind, k as i64) }.next_multiple_of(8),
        }
    }

    /// Rounds a row.
    ///
    /// # Safety
    /// `x` holds k values, `out` a rounded row.
    pub unsafe fn round(&self, x: *const f32, k: usize, out: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Packed(kernels) => {
                    kernels.round(from_raw_parts(x, k), 0..k / BLOCK, from_raw_parts_mut(out, activation_bytes(k)));
                }
                Self::Ggml { from_float, .. } => from_float(x, out.cast(), k as i64),
            }
        }
    }
}
