//! Matrices of a layer that take the same rows: as few products as can be.

use crate::launch::outputs::Outputs;
use crate::matrix::{DeviceMatrix, HostMatrix};
use crate::{Device, Result, Span};

/// Matrices `[n_i, k]`, whose outputs lie side by side in rows of n_0 + n_1 + .. values, whether they are joined or not: what reads them has the
/// same strides either way, and the bits are the same.
pub struct Joined {
    matrices: Vec<DeviceMatrix>,
    n: usize,
}

impl Joined {
    /// Joins neighbours of one type, from the first on. In files of K-quants the value's type is often another than that of query and key:
    /// these two are one product then, and the value's is another.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, all: &[HostMatrix]) -> Result<Self> {
        let (mut matrices, mut rest) = (Vec::new(), all);
        while !rest.is_empty() {
            let (matrix, count) = Self::first(device, rest)?;
            matrices.push(matrix);
            rest = &rest[count..];
        }
        let n = matrices.iter().map(|matrix| matrix.n).sum();
        Ok(Self { matrices, n })
    }

    /// As many of the first ones as can be joined, and how many these are.
    fn first(device: &Device, all: &[HostMatrix]) -> Result<(DeviceMatrix, usize)> {
        for count in (2..=all.len()).rev() {
            if let Some(joined) = DeviceMatrix::joined(device, &all[..count])? {
                return Ok((joined, count));
            }
        }
        Ok((DeviceMatrix::new(device, &all[0])?, 1))
    }

    /// One for each product.
    pub fn matrices(&self) -> &[DeviceMatrix] {
        &self.matrices
    }

    /// Multiplies `rows` rows, which [`crate::matrix::Activations::outputs`] made room for, to f32 `[rows, n_0 + n_1 + ..]`.
    ///
    /// # Errors
    /// As launches.
    pub fn multiply(&self, device: &Device, activations: &Outputs, out: Span<f32>, rows: usize) -> Result<()> {
        let mut first = 0;
        for matrix in &self.matrices {
            matrix.multiply(device, activations, out.part(first..out.len()), (rows, self.n))?;
            first += matrix.n;
        }
        Ok(())
    }
}
