//! Keys and values: pages, the store of one KV head, and rows widened for products.

pub mod f16_rows;
pub mod head_kv;
pub mod huge_pages;
pub mod key_panels;
pub mod page_memory;
pub mod panels;
