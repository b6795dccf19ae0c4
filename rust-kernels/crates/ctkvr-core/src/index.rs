//! The centroid index of one KV head: building, probing, growing, and its image as bytes.

pub mod block_builder;
pub mod centroid_block;
pub mod centroid_index;
pub mod image;
pub mod k_means;
pub mod posting_lists;
pub mod quantised;
pub mod spread_queries;
pub mod volatility;
