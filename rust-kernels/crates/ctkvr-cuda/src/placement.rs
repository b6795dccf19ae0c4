//! Which layers keep their keys and values on the device, and which in host memory.

use std::ops::Range;

use ctkvr_core::AttentionShape;

/// Layers by where their keys and values are: the first ones on the device, the others in pinned memory of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    num_layers: usize,
    num_kv_heads: usize,
    device_layers: usize,
}

impl Placement {
    /// The last `hybrid_layers` (at most all) in host memory.
    pub fn new(shape: AttentionShape, hybrid_layers: usize) -> Self {
        let AttentionShape { num_layers, num_kv_heads, .. } = shape;
        Self { num_layers, num_kv_heads, device_layers: num_layers.saturating_sub(hybrid_layers) }
    }

    pub fn is_hybrid(self, layer: usize) -> bool {
        layer >= self.device_layers
    }

    pub fn num_kv_heads(self) -> usize {
        self.num_kv_heads
    }

    /// A layer in host memory, counted among those.
    pub fn of_hybrid(self, layer: usize) -> usize {
        layer - self.device_layers
    }

    pub fn has_hybrid_layers(self) -> bool {
        self.device_layers < self.num_layers
    }

    /// Heads, `layer * num_kv_heads + kv_head`, of the layers on the device: the first ones of a page.
    pub fn device_heads(self) -> usize {
        self.device_layers * self.num_kv_heads
    }

    /// Heads of the layers in host memory: the last ones of a page.
    pub fn host_heads(self) -> Range<usize> {
        self.device_heads()..self.num_layers * self.num_kv_heads
    }

    /// Where a head, of a layer in host memory, stands among those.
    pub fn of_host(self, head: usize) -> usize {
        head - self.device_heads()
    }
}
