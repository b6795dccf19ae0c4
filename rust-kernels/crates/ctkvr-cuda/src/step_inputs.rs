//! What a step brings to the device, in one copy: its parts are written in place in pinned memory, one behind the other.
//!
//! Where a part begins depends on how many rows, decodes and outputs a step has, and on nothing that differs from token to token: what a graph's
//! launches were given stays true as long as its key is. Page tables, which grow, are the last. So a copy is as long as what it brings, however
//! much room steps of before took.

use ctkvr_model::ModelSpec;

use crate::Span;
use crate::launch::prefill_attend::RowTile;
use crate::launch::slot::{RowPlace, SlotLayout};
use crate::mirror::Cut;
use crate::step_sizes::StepSizes;

/// The parts, on the device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepInputs {
    /// f32 `[rows, width]`: of the embedding. Layers add to them.
    pub hidden: Span<f32>,
    /// f32 `[2, rows, head_dim / 2]`: cosines, then sines. Rows are as long as the model has pairs, without gaps.
    pub angles: Span<f32>,
    pub places: Span<RowPlace>,
    /// `[decodes]`: of layers in host memory.
    pub recent_places: Span<RowPlace>,
    pub host_places: Span<RowPlace>,
    /// Room for `[rows]`.
    pub tiles: Span<RowTile>,
    pub output_rows: Span<u32>,
    /// `[layers, slots]`, slots = decodes * KV heads.
    pub layouts: Span<SlotLayout>,
    /// `[layers, slots]`: with nothing left out, for audits.
    pub dense_layouts: Span<SlotLayout>,
    /// `[layers, slots]`: addresses of indexes.
    pub heads: Span<u64>,
    /// `[decodes]`: 0, to be counted up; how many there may be.
    pub repairs: Span<u32>,
    pub repair_budgets: Span<u32>,
    /// u64: the tables of all sequences, one behind the other.
    pub page_tables: Span<u64>,
    /// All of them.
    pub whole: Span<u8>,
}

impl StepInputs {
    /// Of memory that begins at `address`.
    pub fn of(address: u64, spec: &ModelSpec, sizes: &StepSizes) -> Self {
        let StepSizes { rows, decodes, outputs, pages, .. } = *sizes;
        let shape = spec.attention_shape();
        let slots = shape.num_layers * decodes * shape.num_kv_heads;
        let mut cut = Cut::at(address);
        let parts = Self {
            hidden: cut.part(rows * spec.embedding_len),
            angles: cut.part(2 * rows * (shape.head_dim / 2)),
            places: cut.part(rows),
            recent_places: cut.part(decodes),
            host_places: cut.part(decodes),
            tiles: cut.part(rows),
            output_rows: cut.part(outputs),
            layouts: cut.part(slots),
            dense_layouts: cut.part(slots),
            heads: cut.part(slots),
            repairs: cut.part(decodes),
            repair_budgets: cut.part(decodes),
            page_tables: cut.part(pages),
            whole: Span::EMPTY,
        };
        Self { whole: cut.whole(), ..parts }
    }

    pub fn cos(&self) -> Span<f32> {
        self.angles.part(0..self.angles.len() / 2)
    }

    pub fn sin(&self) -> Span<f32> {
        self.angles.part(self.angles.len() / 2..self.angles.len())
    }
}
