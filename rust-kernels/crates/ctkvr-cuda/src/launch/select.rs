//! kernels/select.cu: the choice among scored candidates.

use super::join::words_of;
use super::probe::{blocks_a_slot, check_group};
use super::score::chunks_of;
use super::search_state::{SlotSearch, Total};
use super::search_work::{SearchWay, SearchWork};
use super::slot::SlotLayout;
use super::traffic::{SlotShape, Traffic};
use crate::declaration::{Family, Grid};
use crate::device::Device;
use crate::error::Result;
use crate::span::{Plain, Span};
use crate::stream::Stream;

const SUM_THREADS: usize = 256;
const SELECT_THREADS: usize = 512;
/// Candidates of a block that sums weights.
const SUM_CHUNK: usize = 4 * SUM_THREADS;

/// The choice of the slots of a layer.
#[derive(Clone, Copy)]
pub struct Select {
    /// `[slots]`.
    pub heads: Span<u64>,
    /// `[slots]`.
    pub layouts: Span<SlotLayout>,
    /// `[slots]`.
    pub searches: Span<SlotSearch>,
    /// `[slots, max_region]`.
    pub candidates: Span<u32>,
    /// f32 `[slots, group, max_region]`.
    pub scores: Span<f32>,
    /// `[slots, chunks_of(max_region), group]`.
    pub partials: Span<Total>,
    /// `[slots, group]`.
    pub totals: Span<Total>,
    /// f32 `[slots, max_region]`: each candidate's weight, summed over the group.
    pub weights: Span<f32>,
    /// `[slots, max_region]`: positions, ascending.
    pub selected: Span<u32>,
    /// `[slots]`: how many.
    pub counts: Span<u32>,
    /// `[slots, words]`: what is selected, where every key is scored.
    pub marks: Span<u32>,
    /// `[slots, group]`: what was scored and not selected; (-infinity, 0) where nothing is.
    pub dropped: Span<Total>,
    /// `[slots]`: [`super::merge::TailKind`].
    pub tail_kinds: Span<u32>,
    pub group: usize,
    pub max_region: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SelectArgs {
    heads: u64,
    slots: u64,
    searches: u64,
    candidates: u64,
    scores: u64,
    partials: u64,
    totals: u64,
    weights: u64,
    selected: u64,
    counts: u64,
    marks: u64,
    dropped: u64,
    tail_kinds: u64,
    group: u32,
    max_region: u32,
    max_chunks: u32,
    words: u32,
}

const _: () = assert!(size_of::<SelectArgs>() == 120);
// SAFETY: numbers without padding, as in kernels/select.cu.
unsafe impl Plain for SelectArgs {}

crate::kernel! {
    fn sum_weights(args: SelectArgs);
    fn select_largest(args: SelectArgs);
}

pub const FAMILY: Family = Family { file: "select", kernels: &[sum_weights::DECLARATION, select_largest::DECLARATION] };

impl Select {
    /// # Errors
    /// `Length` when spans and sizes do not fit each other; as a launch.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { group, max_region, .. } = *self;
        let (slots, words, max_chunks) = (self.heads.len(), words_of(max_region), chunks_of(max_region));
        check_group(group)?;
        self.layouts.check("select: layouts", slots)?;
        self.searches.check("select: searches", slots)?;
        self.candidates.check("select: candidates", slots * max_region)?;
        self.scores.check("select: scores", slots * group * max_region)?;
        self.partials.check("select: partials", slots * max_chunks * group)?;
        self.totals.check("select: totals", slots * group)?;
        self.weights.check("select: weights", slots * max_region)?;
        self.selected.check("select: selected", slots * max_region)?;
        self.counts.check("select: counts", slots)?;
        self.marks.check("select: marks", slots * words)?;
        self.dropped.check("select: dropped", slots * group)?;
        self.tail_kinds.check("select: tail kinds", slots)?;
        if slots == 0 {
            return Ok(());
        }
        let args = SelectArgs {
            heads: self.heads.address(),
            slots: self.layouts.address(),
            searches: self.searches.address(),
            candidates: self.candidates.address(),
            scores: self.scores.address(),
            partials: self.partials.address(),
            totals: self.totals.address(),
            weights: self.weights.address(),
            selected: self.selected.address(),
            counts: self.counts.address(),
            marks: self.marks.address(),
            dropped: self.dropped.address(),
            tail_kinds: self.tail_kinds.address(),
            group: group as u32,
            max_region: max_region as u32,
            max_chunks: max_chunks as u32,
            words: words as u32,
        };
        let blocks = blocks_a_slot(device, max_region.div_ceil(SUM_CHUNK), slots);
        // SAFETY: the lengths are checked; regions are at most max_region long, which `SearchSizes::hold` says.
        unsafe {
            sum_weights::launch(device, stream, Grid::of([blocks, slots, 1], SUM_THREADS), args)?;
            select_largest::launch(device, stream, Grid::new(slots, SELECT_THREADS), args)
        }
    }
}

/// One slot's part of the first launch: weights of the candidates.
pub fn weights_traffic(shape: &SlotShape, work: &SearchWork) -> Traffic {
    if !work.chooses {
        return Traffic::NONE;
    }
    let partials = chunks_of(work.candidates) * shape.group * size_of::<Total>();
    Traffic {
        stored: 0,
        passed: work.candidates * shape.head_bytes() + partials,
        written: work.candidates * size_of::<f32>() + shape.group * size_of::<Total>(),
    }
}

/// One slot's part of the second launch: the choice.
pub fn choice_traffic(shape: &SlotShape, work: &SearchWork) -> Traffic {
    let (drops, totals) = (work.dropped() > 0, shape.group * size_of::<Total>());
    let weights = if drops || work.by_share { work.candidates * size_of::<f32>() } else { 0 };
    let dropped = if drops { totals + work.selected * shape.head_bytes() } else { 0 };
    let listed = if work.is_listed() { work.selected * size_of::<u32>() } else { 0 };
    let marks = work.way == SearchWay::ScoresAll && work.has_tail() && drops;
    let marks = if marks { words_of(work.candidates) * size_of::<u32>() } else { 0 };
    Traffic { stored: 0, passed: weights + dropped + listed, written: work.selected * size_of::<u32>() + marks + totals }
}
