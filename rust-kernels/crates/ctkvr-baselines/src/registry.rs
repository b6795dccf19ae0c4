//! Methods by name.

use std::sync::Arc;

use ctkvr_core::retriever::Retriever;

use crate::{ExactTopK, Full, KeyClusters, MagicPig, MagicPigOptions, Quest, SnapKv, Streaming};

/// The methods of this crate, as [`named`] knows them.
pub const NAMES: [&str; 7] = ["full", "exactTopK", "streaming", "snapkv", "quest", "magicpig", "keyClusters"];

/// Settings of all of them; each takes its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BaselineOptions {
    /// Positions that SnapKV keeps: those of its sequence's steps, [`ctkvr_core::StepOptions::max_selected`].
    pub max_selected: usize,
    pub hash_bits: usize,
    pub hash_tables: usize,
    /// Whether the layers that a method's authors leave dense are.
    pub dense_layers: bool,
}

/// The method of a name; `None` when this crate has none.
pub fn named(name: &str, options: &BaselineOptions) -> Option<Arc<dyn Retriever>> {
    let BaselineOptions { max_selected, hash_bits, hash_tables, dense_layers } = *options;
    Some(match name {
        "full" => Arc::new(Full),
        "exactTopK" => Arc::new(ExactTopK),
        "streaming" => Arc::new(Streaming),
        "snapkv" => Arc::new(SnapKv { max_selected }),
        "quest" => Arc::new(Quest { dense_layers }),
        "magicpig" => Arc::new(MagicPig { options: MagicPigOptions { hash_bits, hash_tables, dense_layers } }),
        "keyClusters" => Arc::new(KeyClusters),
        _ => return None,
    })
}
