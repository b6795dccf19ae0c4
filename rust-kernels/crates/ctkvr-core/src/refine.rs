//! Choosing the best of scored candidates.

pub mod ranked;
pub mod top_k;
