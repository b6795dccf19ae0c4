//! What is known of kernels before they are loaded, and what they are launched with.

use crate::span::{Plain, Span};

/// What is known of a kernel before it is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    pub name: &'static str,
    /// Bytes of each parameter.
    pub sizes: &'static [usize],
    pub needs: Needs,
}

/// What a kernel needs of the device, and what its machine code must have.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Most bytes of dynamic shared memory that a launch asks for. Above 48 KiB the driver must be told.
    pub dynamic_shared: usize,
    /// At least so many 16-byte loads of global memory (LDG.E.128).
    pub loads_16: usize,
    /// At least so many products of tensor cores (IMMA, HMMA).
    pub products: usize,
}

impl Needs {
    pub const NOTHING: Self = Self { dynamic_shared: 0, loads_16: 0, products: 0 };
}

/// The kernels of one `kernels/<file>.cu`.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub file: &'static str,
    pub kernels: &'static [Declaration],
}

/// Blocks, threads of each, and bytes of dynamic shared memory of each.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    pub blocks: [u32; 3],
    pub threads: [u32; 3],
    pub shared: u32,
}

impl Grid {
    pub fn new(blocks: usize, threads: usize) -> Self {
        Self { blocks: [narrow(blocks), 1, 1], threads: [narrow(threads), 1, 1], shared: 0 }
    }

    /// Blocks in three directions.
    pub fn of(blocks: [usize; 3], threads: usize) -> Self {
        Self { blocks: blocks.map(narrow), threads: [narrow(threads), 1, 1], shared: 0 }
    }

    /// With `bytes` of dynamic shared memory.
    pub fn with_shared(self, bytes: usize) -> Self {
        Self { shared: narrow(bytes), ..self }
    }
}

/// A size that no device has is refused by the driver as this one is.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What a kernel can be given.
pub trait Argument {
    /// As the kernel sees it.
    type Raw: Copy;
    fn raw(self) -> Self::Raw;
}

impl<T: Plain> Argument for T {
    type Raw = Self;
    fn raw(self) -> Self {
        self
    }
}

/// A pointer to its first element.
impl<T: Plain> Argument for Span<T> {
    type Raw = u64;
    fn raw(self) -> u64 {
        self.address()
    }
}
