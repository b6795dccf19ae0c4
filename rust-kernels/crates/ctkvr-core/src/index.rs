//! CTkvr: the centroid index of one KV head, how it is built, probed, grown and written, and the method that uses it.

pub mod centroid_index;
pub mod centroid_segment;
pub mod ctkvr;
pub mod encoding;
pub mod grow;
pub mod options;
pub mod posting_lists;
pub mod probe;
pub mod quantised;
pub mod region_sampler;
pub(crate) mod sections;
pub mod segment_builder;
pub mod segment_plan;
pub mod spread_queries;
pub mod volatility;
