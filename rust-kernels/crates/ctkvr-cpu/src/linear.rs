//! Linear layers: activations are rounded to what a layer's weights are multiplied with, a row at a time, and meet its weights by strips of
//! 16 columns. Rows of prompts are multiplied in bf16 on tiles where this CPU has them, however few they are; all others as rows of decodes
//! are. A row's results are the same bits whatever other rows there are: each is a sum of its own.

mod encoding;
mod joined;
mod layer;
#[cfg(test)]
mod tests;

pub(crate) use joined::{Joined, LinearScratch, Rows};
pub(crate) use layer::{Linear, Target};
