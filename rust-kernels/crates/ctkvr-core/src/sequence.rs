//! The state of one sequence: pages, recent queries, index; how it is built and grown, saved and restored.

pub mod append;
pub mod decode_plan;
pub mod head_plan;
pub mod index_builder;
pub mod lifecycle;
pub mod recent_queries;
pub mod snapshot;
pub mod store;
pub mod stored_head;
