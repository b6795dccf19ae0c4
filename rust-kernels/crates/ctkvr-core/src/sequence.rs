//! The state of one sequence: pages, recent queries, index; how it is built and grown.

pub mod index_builder;
pub mod recent_queries;
pub mod store;
