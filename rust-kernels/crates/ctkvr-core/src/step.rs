//! What a step is about, whoever runs it: sizes, sequences, rows, and the figures it reports.

use crate::kv::pool::PageShape;

/// Sizes of a model's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    pub num_layers: usize,
    pub num_q_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    /// Layers that see their last positions only; `None`: every layer sees everything.
    pub local: Option<LocalLayers>,
}

/// Layers whose rows see a sliding window of positions. They need no index: none is built, searched, grown or counted for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalLayers {
    /// Positions that a row sees, its own included; at least 1.
    pub window: usize,
    /// Of so many layers in a row the last one sees everything; 0: none does.
    pub period: usize,
}

impl AttentionShape {
    /// Positions that a row of this layer sees, its own included; `None`: all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.local.filter(|local| local.period == 0 || !(layer + 1).is_multiple_of(local.period)).map(|local| local.window)
    }

    /// Layers that see everything: those that an index may serve.
    pub fn num_indexed_layers(&self) -> usize {
        self.num_layers.checked_div(self.period()).unwrap_or(0)
    }

    /// Of so many layers in a row the last one is indexed; 0: none is.
    fn period(&self) -> usize {
        self.local.map_or(1, |local| local.period)
    }

    /// Which of the indexed layers this layer is; `None` for one that is not.
    pub fn indexed_layer(&self, layer: usize) -> Option<usize> {
        self.window(layer).is_none().then(|| layer / self.period())
    }

    /// KV heads of the indexed layers.
    pub fn num_indexed_heads(&self) -> usize {
        self.num_indexed_layers() * self.num_kv_heads
    }

    /// Which of the indexed heads a head is (`layer * num_kv_heads + kv_head`); `None` for one of another layer.
    pub fn indexed_head(&self, head: usize) -> Option<usize> {
        let layer = self.indexed_layer(head / self.num_kv_heads)?;
        Some(layer * self.num_kv_heads + head % self.num_kv_heads)
    }

    /// The head, `layer * num_kv_heads + kv_head`, that the i-th indexed head is.
    pub fn head_of_indexed(&self, i: usize) -> usize {
        ((i / self.num_kv_heads + 1) * self.period() - 1) * self.num_kv_heads + i % self.num_kv_heads
    }

    /// Query heads per KV head.
    pub fn group_size(&self) -> usize {
        self.num_q_heads / self.num_kv_heads
    }

    /// What a page of the KV store holds.
    pub fn page_shape(&self) -> PageShape {
        PageShape { num_heads: self.num_layers * self.num_kv_heads, head_dim: self.head_dim }
    }

    /// Bytes of f16 keys and values of one token over all layers.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.num_layers * self.num_kv_heads * self.head_dim * 2 * 2
    }
}

/// Names a sequence within one engine; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// What a row of a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Exact attention, any number of rows.
    Prefill,
    /// One row; the sequence's selector applies.
    Decode,
}

/// What a build, or a part of one, made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BuildReport {
    pub build_ms: f64,
    /// Heads that are not built yet: until there are none, the index is as it was.
    pub heads_left: usize,
    pub index_bytes: usize,
    pub indexed_tokens: usize,
}

/// Bytes held for one sequence. Shared pages count in full; `PoolUsage` counts them once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceMemory {
    pub kv_bytes: usize,
    pub index_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexed_heads_are_those_of_layers_that_see_everything() {
        let shape = |num_layers, local| AttentionShape { num_layers, num_q_heads: 4, num_kv_heads: 2, head_dim: 64, local };
        for (num_layers, local) in [(5, None), (26, Some(6)), (12, Some(6)), (4, Some(1)), (3, Some(0)), (7, Some(2)), (3, Some(4))]
        {
            let shape = shape(num_layers, local.map(|period| LocalLayers { window: 9, period }));
            let heads: Vec<usize> = (0..2 * num_layers).filter(|head| shape.window(head / 2).is_none()).collect();
            assert_eq!(shape.num_indexed_heads(), heads.len(), "{num_layers} layers, {local:?}");
            for (i, head) in heads.iter().enumerate() {
                assert_eq!((shape.head_of_indexed(i), shape.indexed_head(*head)), (*head, Some(i)));
            }
            assert!((0..2 * num_layers).all(|head| heads.contains(&head) == shape.indexed_head(head).is_some()));
        }
        assert_eq!(shape(26, Some(LocalLayers { window: 512, period: 6 })).num_indexed_layers(), 4);
    }
}
