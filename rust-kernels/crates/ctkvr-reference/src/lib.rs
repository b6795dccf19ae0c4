//! An executor of plain scalar loops on one thread: slow, obvious, and what every other executor is tested against. Weights are widened to
//! f32 as they are used, and activations are rounded nowhere; keys and values are in the same pages as everybody's, and a decode step's
//! stages are ctkvr-core's with its scalar kernels.

mod attention;
mod executor;
mod layers;

pub use executor::ReferenceExecutor;
