//! Rotary embedding, and what it does to neighbouring queries.

pub mod embedding;
pub mod key_overlap;
pub mod query_cosine;
pub mod scaling;
