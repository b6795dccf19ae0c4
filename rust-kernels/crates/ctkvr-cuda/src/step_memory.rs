//! The device's memory of a step: taken for as many rows as the largest step so far had.

use ctkvr_model::ModelSpec;

use crate::launch::argmax;
use crate::launch::attend::partial_len;
use crate::launch::prefill_attend::RowTile;
use crate::launch::search_state::SlotSearch;
use crate::launch::slot::{RowPlace, SlotLayout};
use crate::matrix::Activations;
use crate::{Device, DeviceBuffer, Result};

/// What memory has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StepSizes {
    pub rows: usize,
    /// Rows of decodes.
    pub decodes: usize,
    /// Rows whose logits are wanted.
    pub outputs: usize,
    /// Splits of attention of any slot.
    pub splits: usize,
    /// Entries of all page tables.
    pub pages: usize,
}

impl StepSizes {
    pub fn hold(&self, other: &Self) -> bool {
        let pairs = [
            (self.rows, other.rows),
            (self.decodes, other.decodes),
            (self.outputs, other.outputs),
            (self.splits, other.splits),
            (self.pages, other.pages),
        ];
        pairs.iter().all(|(room, needed)| room >= needed)
    }

    /// Room for both, and some more of what grows from token to token.
    pub fn joined(&self, other: &Self) -> Self {
        let more = |a: usize, b: usize| if b > a { b.next_power_of_two() } else { a };
        Self {
            rows: self.rows.max(other.rows),
            decodes: self.decodes.max(other.decodes),
            outputs: self.outputs.max(other.outputs),
            splits: more(self.splits, other.splits),
            pages: more(self.pages, other.pages),
        }
    }
}

/// Buffers; shapes are those of the most that there is room for.
pub(crate) struct StepMemory {
    pub sizes: StepSizes,
    /// f32 `[rows, width]`.
    pub hidden: DeviceBuffer<f32>,
    pub block: DeviceBuffer<f32>,
    pub queries: DeviceBuffer<f32>,
    pub keys: DeviceBuffer<f32>,
    pub values: DeviceBuffer<f32>,
    pub attended: DeviceBuffer<f32>,
    /// f32 `[rows, 2, hidden]`: gate, then up.
    pub gate_and_up: DeviceBuffer<f32>,
    /// Of hidden's width, of the queries', of the feed-forward's.
    pub normed: Activations,
    pub attended_rounded: Activations,
    pub gated: Activations,
    pub cos: DeviceBuffer<f32>,
    pub sin: DeviceBuffer<f32>,
    pub places: DeviceBuffer<RowPlace>,
    /// `[decodes]`: of layers in host memory.
    pub recent_places: DeviceBuffer<RowPlace>,
    pub host_places: DeviceBuffer<RowPlace>,
    pub tiles: DeviceBuffer<RowTile>,
    /// u64: the tables of all sequences, one behind the other.
    pub page_tables: DeviceBuffer<u64>,
    /// f16 `[layers, rows, q_dim]`.
    pub recent: DeviceBuffer<u16>,
    /// `[layers, slots]`, slots = decodes * KV heads.
    pub layouts: DeviceBuffer<SlotLayout>,
    pub heads: DeviceBuffer<u64>,
    pub searches: DeviceBuffer<SlotSearch>,
    /// f32 `[layers, slots, group]`: estimated shares, and log-sum-exps of what was read.
    pub shares: DeviceBuffer<f32>,
    pub read_lse: DeviceBuffer<f32>,
    pub total_lse: DeviceBuffer<f32>,
    /// `[layers, slots]`: with nothing left out, for audits; their log-sum-exps f32 `[layers, slots, group]`, and what else an audit gives.
    pub dense_layouts: DeviceBuffer<SlotLayout>,
    pub dense_lse: DeviceBuffer<f32>,
    pub unused_out: DeviceBuffer<f32>,
    pub unused_shares: DeviceBuffer<f32>,
    /// f32 `[layers, decodes, q_dim]`: queries, for repairs.
    pub decode_queries: DeviceBuffer<f32>,
    pub repairs: DeviceBuffer<u32>,
    pub repair_budgets: DeviceBuffer<u32>,
    pub partials: DeviceBuffer<f32>,
    pub output_rows: DeviceBuffer<u32>,
    pub last: Activations,
    pub logits: DeviceBuffer<f32>,
    /// u32 `[outputs]`: most probable tokens, and u64 `[outputs, PARTS]`, what is found on the way.
    pub tokens: DeviceBuffer<u32>,
    pub best: DeviceBuffer<u64>,
}

impl StepMemory {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, spec: &ModelSpec, sizes: StepSizes) -> Result<Self> {
        let shape = spec.attention_shape();
        let StepSizes { rows, decodes, outputs, splits, pages } = sizes;
        let (layers, d, group) = (shape.num_layers, shape.head_dim, shape.group_size());
        let (width, q, kv) = (spec.embedding_len, shape.num_q_heads * d, shape.num_kv_heads * d);
        let hidden = spec.feed_forward_len;
        let slots = decodes * shape.num_kv_heads;
        Ok(Self {
            sizes,
            hidden: DeviceBuffer::new(device, rows * width)?,
            block: DeviceBuffer::new(device, rows * width)?,
            queries: DeviceBuffer::new(device, rows * q)?,
            keys: DeviceBuffer::new(device, rows * kv)?,
            values: DeviceBuffer::new(device, rows * kv)?,
            attended: DeviceBuffer::new(device, rows * q)?,
            gate_and_up: DeviceBuffer::new(device, rows * 2 * hidden)?,
            normed: Activations::new(device, rows, width)?,
            attended_rounded: Activations::new(device, rows, q)?,
            gated: Activations::new(device, rows, hidden)?,
            cos: DeviceBuffer::new(device, rows * d / 2)?,
            sin: DeviceBuffer::new(device, rows * d / 2)?,
            places: DeviceBuffer::new(device, rows)?,
            recent_places: DeviceBuffer::new(device, decodes)?,
            host_places: DeviceBuffer::new(device, decodes)?,
            tiles: DeviceBuffer::new(device, rows)?,
            page_tables: DeviceBuffer::new(device, pages)?,
            recent: DeviceBuffer::new(device, layers * rows * q)?,
            layouts: DeviceBuffer::new(device, layers * slots)?,
            heads: DeviceBuffer::new(device, layers * slots)?,
            searches: DeviceBuffer::new(device, layers * slots)?,
            shares: DeviceBuffer::new(device, layers * slots * group)?,
            read_lse: DeviceBuffer::new(device, layers * slots * group)?,
            total_lse: DeviceBuffer::new(device, layers * slots * group)?,
            dense_layouts: DeviceBuffer::new(device, layers * slots)?,
            dense_lse: DeviceBuffer::new(device, layers * slots * group)?,
            unused_out: DeviceBuffer::new(device, group * d)?,
            unused_shares: DeviceBuffer::new(device, 2 * group)?,
            decode_queries: DeviceBuffer::new(device, layers * decodes * q)?,
            repairs: DeviceBuffer::new(device, decodes)?,
            repair_budgets: DeviceBuffer::new(device, decodes)?,
            partials: DeviceBuffer::new(device, slots * splits * partial_len(group, d))?,
            output_rows: DeviceBuffer::new(device, outputs)?,
            last: Activations::new(device, outputs, width)?,
            logits: DeviceBuffer::new(device, outputs * spec.vocab_size)?,
            tokens: DeviceBuffer::new(device, outputs)?,
            best: DeviceBuffer::new(device, outputs * argmax::PARTS)?,
        })
    }
}
