//! Keys and values: the pool of pages, the pages of one sequence, the view of one KV head, and rows widened for products.

pub mod block_table;
pub mod f16_rows;
pub mod head_kv;
pub mod held_pages;
pub mod host_pool;
pub mod huge_pages;
pub mod key_panels;
pub mod page_memory;
pub mod panels;
pub mod pool;
pub mod q8_pages;
