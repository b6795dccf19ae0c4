//! The device's memory of a step: taken for as many rows as the largest step so far had.

use ctkvr_model::ModelSpec;

use crate::launch::argmax;
use crate::launch::attend::partial_len;
use crate::matrix::Activations;
use crate::mirror::Mirror;
use crate::step_inputs::StepInputs;
use crate::step_results::StepResults;
use crate::step_sizes::StepSizes;
use crate::{Device, DeviceBuffer, PinnedBuffer, Result};

/// Buffers; shapes are those of the most that there is room for.
pub(crate) struct StepMemory {
    pub sizes: StepSizes,
    /// [`StepInputs`] and [`StepResults`] of a step.
    pub inputs: Mirror,
    pub results: Mirror,
    /// f32 `[rows, width]`.
    pub block: DeviceBuffer<f32>,
    /// f32 `[rows, q_dim + 2 * kv_dim]`: queries, keys and values as they are multiplied, of each row side by side.
    pub projected: DeviceBuffer<f32>,
    /// f32 `[rows, q_dim]`: queries as they are attended with, and what they get.
    pub queries: DeviceBuffer<f32>,
    pub attended: DeviceBuffer<f32>,
    /// f32 `[rows, 2, hidden]`: gate, then up.
    pub gate_and_up: DeviceBuffer<f32>,
    /// Of hidden's width, of the queries', of the feed-forward's.
    pub normed: Activations,
    pub attended_rounded: Activations,
    pub gated: Activations,
    /// f16 `[layers, rows, q_dim]`: queries that sequences may keep; of a step of decodes alone `[layers, decodes, q_dim]` as they come back.
    pub recent: DeviceBuffer<u16>,
    pub fetched_recent: PinnedBuffer<u16>,
    /// f32 `[layers, slots, group]`, slots = decodes * KV heads: log-sum-exps of what heads attended to.
    pub total_lse: DeviceBuffer<f32>,
    /// What an audit gives and nobody reads.
    pub unused_out: DeviceBuffer<f32>,
    pub unused_shares: DeviceBuffer<f32>,
    /// f32 `[layers, decodes, q_dim]`: queries, for repairs.
    pub decode_queries: DeviceBuffer<f32>,
    pub partials: DeviceBuffer<f32>,
    pub last: Activations,
    pub logits: DeviceBuffer<f32>,
    /// u64 `[outputs, PARTS]`: what is found on the way to the most probable tokens.
    pub best: DeviceBuffer<u64>,
}

impl StepMemory {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, spec: &ModelSpec, sizes: StepSizes) -> Result<Self> {
        let shape = spec.attention_shape();
        let StepSizes { rows, decodes, outputs, splits, .. } = sizes;
        let (layers, d, group) = (shape.num_layers, shape.head_dim, shape.group_size());
        let (width, q, kv) = (spec.embedding_len, shape.num_q_heads * d, shape.num_kv_heads * d);
        let hidden = spec.feed_forward_len;
        let slots = decodes * shape.num_kv_heads;
        Ok(Self {
            sizes,
            inputs: Mirror::new(device, StepInputs::of(0, spec, &sizes).whole.len())?,
            results: Mirror::new(device, StepResults::of(0, spec, &sizes).whole.len())?,
            block: DeviceBuffer::new(device, rows * width)?,
            projected: DeviceBuffer::new(device, rows * (q + 2 * kv))?,
            queries: DeviceBuffer::new(device, rows * q)?,
            attended: DeviceBuffer::new(device, rows * q)?,
            gate_and_up: DeviceBuffer::new(device, rows * 2 * hidden)?,
            normed: Activations::new(device, rows, width)?,
            attended_rounded: Activations::new(device, rows, q)?,
            gated: Activations::new(device, rows, hidden)?,
            recent: DeviceBuffer::new(device, layers * rows * q)?,
            fetched_recent: PinnedBuffer::new(device, layers * decodes * q)?,
            total_lse: DeviceBuffer::new(device, layers * slots * group)?,
            unused_out: DeviceBuffer::new(device, group * d)?,
            unused_shares: DeviceBuffer::new(device, 2 * group)?,
            decode_queries: DeviceBuffer::new(device, layers * decodes * q)?,
            partials: DeviceBuffer::new(device, slots * splits * partial_len(group, d))?,
            last: Activations::new(device, outputs, width)?,
            logits: DeviceBuffer::new(device, outputs * spec.vocab_size)?,
            best: DeviceBuffer::new(device, outputs * argmax::PARTS)?,
        })
    }
}
