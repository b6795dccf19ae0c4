//! The last stage of a head's decode step: see `kernels/merge.cu`.

use crate::launch::attend::partial_len;
use crate::launch::search_state::Total;
use crate::launch::slot::SlotLayout;
use crate::launch::traffic::{SlotShape, Traffic};
use crate::{Device, Family, Grid, Plain, Result, Span, Stream, kernel};

/// Splits, what the host attended to, and the tail, merged by log-sum-exp; and how much of the attention was read.
#[derive(Debug, Clone, Copy)]
pub struct Merge {
    /// `[slots]`.
    pub layouts: Span<SlotLayout>,
    /// As [`super::attend::Attend`]'s.
    pub counts: Span<u32>,
    pub partials: Span<f32>,
    /// f32 `[slots, host_len(group, head_dim)]`, read where a slot says `on_host`: one more partial each, a maximum of -infinity where there is
    /// none, then what the host scored and did not select, as [`Total`]. Empty: none.
    pub host: Span<f32>,
    /// What stands for positions of the region that are not read, `[slots]`: [`super::search_state::tail_code`]. Empty: no tails.
    pub tail_kinds: Span<u32>,
    /// f32 `[slots, group]`, of a given tail. Empty with `tail_kinds`.
    pub tail_lse: Span<f32>,
    /// f32 `[slots, group, head_dim]`, mean value of the tail, given or of what was scored and dropped. Empty with `tail_kinds`.
    pub tail_value: Span<f32>,
    /// `[slots, group]`: what was scored and not selected; (-infinity, 0) for nothing. Empty: nothing anywhere.
    pub dropped: Span<Total>,
    /// f32 `[slots, group, head_dim]`: the output.
    pub out: Span<f32>,
    /// f32 `[slots, group]`: the estimated share of the attention that was read.
    pub shares: Span<f32>,
    /// f32 `[slots, group]`: log-sum-exp of what was read, and of everything in the output.
    pub read_lse: Span<f32>,
    pub total_lse: Span<f32>,
    /// At most 256.
    pub head_dim: usize,
    pub group: usize,
    pub max_splits: usize,
}

/// As in `kernels/merge.cu`.
#[doc(hidden)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MergeArgs {
    layouts: u64,
    counts: u64,
    partials: u64,
    host: u64,
    tail_kinds: u64,
    tail_lse: u64,
    tail_value: u64,
    dropped: u64,
    out: u64,
    shares: u64,
    read_lse: u64,
    total_lse: u64,
    head_dim: u32,
    max_splits: u32,
}
const _: () = assert!(size_of::<MergeArgs>() == 104);
// SAFETY: numbers without padding, as `MergeArgs` of kernels/merge.cu.
unsafe impl Plain for MergeArgs {}

kernel! {
    fn merge_partials(args: MergeArgs);
}

pub const FAMILY: Family = Family { file: "merge", kernels: &[merge_partials::DECLARATION] };

const THREADS: usize = 256;

/// f32 values of what the host gives of a slot.
pub fn host_len(group: usize, head_dim: usize) -> usize {
    partial_len(group, head_dim) + 2 * group
}

impl Merge {
    /// # Errors
    /// `Length` when a span has another; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// When head_dim is above 256.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let (slots, d, group) = (self.layouts.len(), self.head_dim, self.group);
        assert!(d <= 256, "heads of {d} values");
        if !self.counts.is_empty() {
            self.counts.check("merge: counts", slots)?;
        }
        self.partials.check("merge: partials", slots * self.max_splits * partial_len(group, d))?;
        if !self.host.is_empty() {
            self.host.check("merge: host", slots * host_len(group, d))?;
        }
        if !self.tail_kinds.is_empty() {
            self.tail_kinds.check("merge: tail_kinds", slots)?;
            self.tail_lse.check("merge: tail_lse", slots * group)?;
            self.tail_value.check("merge: tail_value", slots * group * d)?;
        }
        if !self.dropped.is_empty() {
            self.dropped.check("merge: dropped", slots * group)?;
        }
        self.out.check("merge: out", slots * group * d)?;
        self.shares.check("merge: shares", slots * group)?;
        self.read_lse.check("merge: read_lse", slots * group)?;
        self.total_lse.check("merge: total_lse", slots * group)?;
        if slots == 0 {
            return Ok(());
        }
        let args = MergeArgs {
            layouts: self.layouts.address(),
            counts: self.counts.address(),
            partials: self.partials.address(),
            host: self.host.address(),
            tail_kinds: self.tail_kinds.address(),
            tail_lse: self.tail_lse.address(),
            tail_value: self.tail_value.address(),
            dropped: self.dropped.address(),
            out: self.out.address(),
            shares: self.shares.address(),
            read_lse: self.read_lse.address(),
            total_lse: self.total_lse.address(),
            head_dim: d as u32,
            max_splits: self.max_splits as u32,
        };
        // SAFETY: the lengths are checked; that no slot has more than max_splits is the caller's.
        unsafe { merge_partials::launch(device, stream, Grid::of([group, slots, 1], THREADS), args) }
    }
}

/// What is merged of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeWork {
    pub splits: usize,
    pub has_host: bool,
    pub has_dropped: bool,
    /// Query heads whose tail is given: its log-sum-exp is read.
    pub given_tails: usize,
    /// Query heads that have a tail with any weight: its mean value is read.
    pub tail_values: usize,
}

impl MergeWork {
    /// Of a launch, one slot's part.
    pub fn traffic(&self, shape: &SlotShape) -> Traffic {
        let (d, group) = (shape.layout.head_dim, shape.group);
        let partials = (self.splits + usize::from(self.has_host)) * partial_len(group, d) * size_of::<f32>();
        let dropped = if self.has_dropped { group * size_of::<Total>() } else { 0 };
        let tails = (self.given_tails + self.tail_values * d) * size_of::<f32>();
        // Output, share, and two log-sum-exps.
        Traffic { stored: 0, passed: partials + dropped + tails, written: shape.query_bytes() + 3 * shape.head_bytes() }
    }
}
