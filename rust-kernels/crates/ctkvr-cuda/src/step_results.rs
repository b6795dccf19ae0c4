//! What comes back of a step beside logits, in one copy to pinned memory.

use ctkvr_model::ModelSpec;

use crate::Span;
use crate::launch::search_state::SlotSearch;
use crate::mirror::Cut;
use crate::step_sizes::StepSizes;

/// The parts, on the device; placed as those of [`crate::step_inputs::StepInputs`]. What a step has not written is not read either.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepResults {
    /// `[layers, slots]`, slots = decodes * KV heads.
    pub searches: Span<SlotSearch>,
    /// f32 `[layers, slots, group]`: estimated shares, log-sum-exps of what was read, and of everything where that is audited.
    pub shares: Span<f32>,
    pub read_lse: Span<f32>,
    pub dense_lse: Span<f32>,
    /// u32 `[outputs]`: most probable tokens, where they are all that is wanted.
    pub tokens: Span<u32>,
    /// All of them.
    pub whole: Span<u8>,
}

impl StepResults {
    /// Of memory that begins at `address`.
    pub fn of(address: u64, spec: &ModelSpec, sizes: &StepSizes) -> Self {
        let shape = spec.attention_shape();
        let slots = shape.num_layers * sizes.decodes * shape.num_kv_heads;
        let heads = slots * shape.group_size();
        let mut cut = Cut::at(address);
        let parts = Self {
            searches: cut.part(slots),
            shares: cut.part(heads),
            read_lse: cut.part(heads),
            dense_lse: cut.part(heads),
            tokens: cut.part(sizes.outputs),
            whole: Span::EMPTY,
        };
        Self { whole: cut.whole(), ..parts }
    }
}
