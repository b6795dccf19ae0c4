//! The ground that kernels stand on, and the stand-in that they are tested with.

mod failures;
mod fill;
mod foundation;
mod shim;
