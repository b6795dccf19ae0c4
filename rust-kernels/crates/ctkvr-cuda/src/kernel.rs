//! Kernels as Rust knows them: [`kernel!`] declares name and parameters once, and gives a typed launch. What a type cannot say is checked
//! elsewhere: the stand-in compares sizes with the C++ signature, scripts/kernels with the compiled code.

use std::ffi::c_void;

use crate::declaration::{Declaration, Grid};
use crate::device::Device;
use crate::driver;
use crate::error::{Error, Result};
use crate::stream::Stream;

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
/// A `Span<T>` is a pointer there, numbers are themselves, structs ([`crate::Plain`], `repr(C)`) go by value.
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
