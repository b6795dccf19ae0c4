//! kernels/score.cu: exact scores of candidates.

use ctkvr_kernels::KvFormat;

use super::probe::{blocks_a_slot, check_shape};
use super::search_state::{SlotSearch, Total};
use super::search_work::SearchWork;
use super::slot::SlotLayout;
use super::traffic::{SlotShape, Traffic};
use crate::declaration::{Family, Grid};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::span::{Plain, Span};
use crate::stream::Stream;

/// Candidates that have a total of their own, and threads.
const CHUNK: usize = 256;

/// Scores of the slots of a layer.
#[derive(Clone, Copy)]
pub struct Score {
    /// `[slots]`.
    pub layouts: Span<SlotLayout>,
    /// `[slots]`.
    pub searches: Span<SlotSearch>,
    /// f32 `[slots, group, head_dim]`, after rotary embedding.
    pub queries: Span<f32>,
    /// `[slots, max_region]`.
    pub candidates: Span<u32>,
    /// f32 `[slots, group, max_region]`: written where there is a choice, in the order of candidates.
    pub scores: Span<f32>,
    /// `[slots, chunks_of(max_region), group]`.
    pub partials: Span<Total>,
    /// Of every sequence's keys.
    pub format: KvFormat,
    pub group: usize,
    pub head_dim: usize,
    pub max_region: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ScoreArgs {
    slots: u64,
    searches: u64,
    queries: u64,
    candidates: u64,
    scores: u64,
    partials: u64,
    scale: f32,
    group: u32,
    head_dim: u32,
    max_region: u32,
    max_chunks: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<ScoreArgs>() == 72);
// SAFETY: numbers without padding, as in kernels/score.cu.
unsafe impl Plain for ScoreArgs {}

crate::kernel! {
    fn score_f16_h1(args: ScoreArgs) needs { loads_16: 8 };
    fn score_f16_h2(args: ScoreArgs) needs { loads_16: 8 };
    fn score_f16_h4(args: ScoreArgs) needs { loads_16: 8 };
    fn score_f16_h8(args: ScoreArgs) needs { loads_16: 8 };
    fn score_q8_h1(args: ScoreArgs) needs { loads_16: 8 };
    fn score_q8_h2(args: ScoreArgs) needs { loads_16: 8 };
    fn score_q8_h4(args: ScoreArgs) needs { loads_16: 8 };
    fn score_q8_h8(args: ScoreArgs) needs { loads_16: 8 };
}

pub const FAMILY: Family = Family {
    file: "score",
    kernels: &[
        score_f16_h1::DECLARATION,
        score_f16_h2::DECLARATION,
        score_f16_h4::DECLARATION,
        score_f16_h8::DECLARATION,
        score_q8_h1::DECLARATION,
        score_q8_h2::DECLARATION,
        score_q8_h4::DECLARATION,
        score_q8_h8::DECLARATION,
    ],
};

/// Chunks of so many candidates.
pub fn chunks_of(max_region: usize) -> usize {
    max_region.div_ceil(CHUNK)
}

impl Score {
    /// # Errors
    /// `Length` when spans and sizes do not fit each other; as a launch.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { format, group, head_dim, max_region, .. } = *self;
        let (slots, max_chunks) = (self.layouts.len(), chunks_of(max_region));
        check_shape(group, head_dim)?;
        if format.check(head_dim).is_err() {
            return Err(Error::Length { what: "score: head_dim, a multiple of", expected: 32, actual: head_dim });
        }
        self.searches.check("score: searches", slots)?;
        self.queries.check("score: queries", slots * group * head_dim)?;
        self.candidates.check("score: candidates", slots * max_region)?;
        self.scores.check("score: scores", slots * group * max_region)?;
        self.partials.check("score: partials", slots * max_chunks * group)?;
        if slots == 0 {
            return Ok(());
        }
        let args = ScoreArgs {
            slots: self.layouts.address(),
            searches: self.searches.address(),
            queries: self.queries.address(),
            candidates: self.candidates.address(),
            scores: self.scores.address(),
            partials: self.partials.address(),
            scale: 1.0 / (head_dim as f32).sqrt(),
            group: group as u32,
            head_dim: head_dim as u32,
            max_region: max_region as u32,
            max_chunks: max_chunks as u32,
            reserved: 0,
        };
        // Heads that are scored at once: the fewest that hold the group, as those beyond it are work for nothing.
        let heads = group.next_power_of_two().min(8);
        let shared = group.next_multiple_of(heads) * head_dim * size_of::<f32>();
        let grid = Grid::of([blocks_a_slot(device, max_chunks, slots), slots, 1], CHUNK).with_shared(shared);
        // SAFETY: the lengths are checked; regions are at most max_region long, which `SearchSizes::hold` says.
        unsafe {
            match (format, heads) {
                (KvFormat::F16, 1) => score_f16_h1::launch(device, stream, grid, args),
                (KvFormat::F16, 2) => score_f16_h2::launch(device, stream, grid, args),
                (KvFormat::F16, 4) => score_f16_h4::launch(device, stream, grid, args),
                (KvFormat::F16, _) => score_f16_h8::launch(device, stream, grid, args),
                (KvFormat::Q8, 1) => score_q8_h1::launch(device, stream, grid, args),
                (KvFormat::Q8, 2) => score_q8_h2::launch(device, stream, grid, args),
                (KvFormat::Q8, 4) => score_q8_h4::launch(device, stream, grid, args),
                (KvFormat::Q8, _) => score_q8_h8::launch(device, stream, grid, args),
            }
        }
    }
}

/// One slot's part of a launch.
pub fn traffic(shape: &SlotShape, work: &SearchWork) -> Traffic {
    if !work.chooses {
        return Traffic::NONE;
    }
    let listed = if work.is_listed() { work.candidates * size_of::<u32>() } else { 0 };
    Traffic {
        stored: work.candidates * shape.row_bytes(),
        passed: shape.query_bytes() + listed,
        written: work.candidates * shape.head_bytes() + chunks_of(work.candidates) * shape.group * size_of::<Total>(),
    }
}
