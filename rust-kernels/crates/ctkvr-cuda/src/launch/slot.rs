//! Where rows of a step lie in the paged KV store, as kernels read it.

use ctkvr_core::attention::decode::Layout;

use crate::span::Plain;

/// One (sequence, KV head) of one layer of a decode step: what `Layout` and `DecodePlan` say, and where its pages are.
///
/// Arrays of these are `[layers, rows, num_kv_heads]`, or one layer of it: slot = row * num_kv_heads + g. `kernels/slot.cuh` has the same
/// struct; sizes are checked on both sides.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SlotLayout {
    /// Device address of the sequence's page table: u64 `[pages]`, device addresses of whole pages of 256 positions.
    pub pages: u64,
    /// Bytes into each page before this (layer, KV head): `(layer * num_kv_heads + g) * PageLayout::bytes()`.
    pub head_offset: u64,
    /// Tokens stored, this one included.
    pub len: u32,
    /// The method's region, `start..end`; sinks lie before, window after. Empty: everything is read.
    pub start: u32,
    pub end: u32,
    /// 0 = all candidates are read.
    pub max_selected: u32,
    /// Share of the candidates' weight that is enough; 1 = as many as `max_selected` allows.
    pub top_p: f32,
    /// 1: the host scores and attends to what is listed; the device reads sinks and window, and merges.
    pub on_host: u32,
}

/// One row of a step, of a prompt or a decode: where its key and value are stored.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowPlace {
    /// As [`SlotLayout::pages`].
    pub pages: u64,
    /// Index in its sequence.
    pub position: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SlotLayout>() == 40 && size_of::<RowPlace>() == 16);
// SAFETY: numbers without padding, as `SlotLayout` of kernels/slot.cuh.
unsafe impl Plain for SlotLayout {}
// SAFETY: numbers without padding, as `RowPlace` of kernels/slot.cuh.
unsafe impl Plain for RowPlace {}

impl SlotLayout {
    /// `head_offset` in bytes; see the field.
    pub fn new(layout: &Layout, pages: u64, head_offset: u64) -> Self {
        let Layout { len, start, end, max_selected, top_p } = *layout;
        // A sequence's positions are u32, as are its lists.
        let [len, start, end, max_selected] = [len, start, end, max_selected].map(|n| n as u32);
        Self { pages, head_offset, len, start, end, max_selected, top_p: top_p as f32, on_host: 0 }
    }

    /// The same, with what is listed for the host.
    pub fn on_host(self) -> Self {
        Self { on_host: 1, ..self }
    }
}
