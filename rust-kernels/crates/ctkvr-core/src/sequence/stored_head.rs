//! What is stored of one (layer, KV head) of a sequence, widened: for study, and for golden data.

use ctkvr_kernels::Rows;

use crate::error::{Error, Result};
use crate::kv::panels::widen_rows;
use crate::sequence::head_plan::Planner;
use crate::sequence::index_builder::IndexBuilder;
use crate::sequence::store::Sequence;

/// All f32, after rotary embedding.
pub struct StoredHead {
    /// `[len, head_dim]`.
    pub keys: Vec<f32>,
    /// `[len, head_dim]`.
    pub values: Vec<f32>,
    /// `[held, group, head_dim]`, the newest last: as many as the selector keeps for centroids.
    pub queries: Vec<f32>,
}

impl IndexBuilder {
    /// What a sequence has stored of a (layer, KV head).
    ///
    /// # Errors
    /// `InvalidOption` for a layer or KV head that there is not.
    pub fn stored_head(&self, sequence: &Sequence, layer: usize, kv_head: usize) -> Result<StoredHead> {
        let shape = self.shape;
        for (option, index, count) in [("layer", layer, shape.num_layers), ("kvHead", kv_head, shape.num_kv_heads)] {
            if index >= count {
                return Err(Error::InvalidOption { option, expected: format!("below {count}"), actual: index.to_string() });
            }
        }
        let head = layer * shape.num_kv_heads + kv_head;
        let kv = sequence.kv_head(head);
        let widened = |rows: Rows| {
            let mut out = vec![0.0; rows.len() * shape.head_dim];
            widen_rows(self.kernels, &rows, 0, rows.len(), &mut out);
            out
        };
        let planner = Planner { shape, kernels: self.kernels, sequence };
        Ok(StoredHead {
            keys: widened(kv.keys(0, sequence.len)),
            values: widened(kv.values(0, sequence.len)),
            queries: planner.widened_queries(head, 0..sequence.recent.len()),
        })
    }
}
