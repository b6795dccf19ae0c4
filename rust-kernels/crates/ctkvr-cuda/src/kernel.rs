//! Kernels as Rust knows them: [`kernel!`] declares name and parameters once, and gives a typed launch. What a type cannot say is checked
//! elsewhere: the stand-in compares sizes with the C++ signature, scripts/kernels with the compiled code.

use std::ffi::c_void;

use crate::error::{Error, Result};
use crate::memory::{Plain, Span};
use crate::stream::Stream;
use crate::{device::Device, driver};

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

/// Launches a kernel.
///
/// # Safety
/// `parameters` point to values of the sizes that the kernel was declared with, and the kernel may do what it does with them.
#[doc(hidden)]
pub unsafe fn launch_raw(
    device: &Device,
    stream: &Stream,
    kernel: &'static Declaration,
    grid: Grid,
    parameters: &mut [*mut c_void],
) -> Result<()> {
    let function = device.function(kernel)?;
    let context = stream.context();
    context.bind()?;
    let ([gx, gy, gz], [bx, by, bz]) = (grid.blocks, grid.threads);
    // SAFETY: the function is loaded, the rest is the caller's promise. The driver copies the parameters before it returns.
    unsafe { cudarc::driver::result::launch_kernel(function, (gx, gy, gz), (bx, by, bz), grid.shared, stream.raw(), parameters) }
        .map_err(|e| {
            let code = e.0 as u32;
            if driver::is_sticky(code) {
                return context.failed("cuLaunchKernel", e);
            }
            Error::LaunchFailed { kernel: kernel.name.into(), code, name: driver::name_of(code) }
        })
}

/// Declares kernels, each as a type of its name with `DECLARATION` and an unsafe `launch(device, stream, grid, parameters…)`.
///
/// A `Span<T>` is a pointer there, numbers are themselves, structs ([`Plain`], `repr(C)`) go by value.
///
/// ```
/// use ctkvr_cuda::{Span, kernel};
/// kernel! {
///     /// out[i] = value for i < count. `out`: at least `count` elements.
///     pub fn fill_u32(out: Span<u32>, count: i32, value: u32);
///     /// One that reads 16 bytes at a time, multiplies on tensor cores and takes more than 48 KiB of shared memory.
///     pub fn product(weights: Span<u8>, out: Span<f32>) needs { loads_16: 2, products: 1, dynamic_shared: 65536 };
/// }
/// assert_eq!(fill_u32::DECLARATION.sizes, [8, 4, 4]);
/// ```
#[macro_export]
macro_rules! kernel {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident($($parameter:ident: $type:ty),* $(,)?) $(needs { $($need:ident: $value:expr),* $(,)? })?;)*) => {$(
        $(#[$doc])*
        #[allow(non_camel_case_types, reason = "the name of the kernel")]
        $vis struct $name;

        impl $name {
            pub const DECLARATION: $crate::Declaration = $crate::Declaration {
                name: stringify!($name),
                sizes: &[$(size_of::<<$type as $crate::Argument>::Raw>()),*],
                #[allow(clippy::needless_update, reason = "for kernels that say all")]
                needs: $crate::Needs { $($($need: $value,)*)? ..$crate::Needs::NOTHING },
            };

            /// Launches it on a stream.
            ///
            /// # Safety
            /// Every span is as long as the kernel reads or writes it with these numbers, lives until it has run, and nobody else
            /// writes there meanwhile.
            ///
            /// # Errors
            /// `LaunchFailed`, `DeviceLost`.
            #[allow(clippy::too_many_arguments, dead_code, reason = "as many as the kernel has")]
            pub unsafe fn launch(
                device: &$crate::Device, stream: &$crate::Stream, grid: $crate::Grid, $($parameter: $type),*
            ) -> $crate::Result<()> {
                static DECLARATION: $crate::Declaration = $name::DECLARATION;
                $(let mut $parameter = $crate::Argument::raw($parameter);)*
                let mut parameters = [$((&raw mut $parameter).cast::<std::ffi::c_void>()),*];
                // SAFETY: the types are those of the declaration; the rest is the caller's promise.
                unsafe { $crate::launch_raw(device, stream, &DECLARATION, grid, &mut parameters) }
            }
        }
    )*};
}
