//! kernels/join.cu: the union of the probed lists, and all candidates in a list.

use super::search_state::SlotSearch;
use super::search_work::{SearchWay, SearchWork};
use super::slot::SlotLayout;
use super::traffic::Traffic;
use crate::declaration::{Family, Grid};
use crate::device::Device;
use crate::error::Result;
use crate::span::{Plain, Span};
use crate::stream::Stream;

const THREADS: usize = 512;
/// Bytes of a list that a thread reads at once.
pub const LIST_PIECE: usize = 16;

/// Candidates of the slots of a layer.
#[derive(Clone, Copy)]
pub struct Join {
    /// `[slots]`.
    pub heads: Span<u64>,
    /// `[slots]`.
    pub layouts: Span<SlotLayout>,
    /// `[slots, max_probes]`.
    pub probes: Span<u32>,
    /// `[slots, words]`: a bit for each position of the region; words = max_region / 32, up.
    pub marks: Span<u32>,
    /// `[slots, max_clusters]`: positions of each cluster that are not marked by lists.
    pub left: Span<u32>,
    /// `[slots, max_region]`: positions of the candidates, ascending; `num_candidates` of them ([`SlotSearch`]).
    pub candidates: Span<u32>,
    /// `[rows]`: repairs so far; those of these slots are added.
    pub repairs: Span<u32>,
    /// `[slots]`.
    pub searches: Span<SlotSearch>,
    pub num_kv_heads: usize,
    pub max_probes: usize,
    pub max_clusters: usize,
    pub max_region: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct JoinArgs {
    heads: u64,
    slots: u64,
    probes: u64,
    marks: u64,
    left: u64,
    candidates: u64,
    repairs: u64,
    searches: u64,
    num_kv_heads: u32,
    max_probes: u32,
    words: u32,
    max_clusters: u32,
    max_region: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<JoinArgs>() == 88);
// SAFETY: numbers without padding, as in kernels/join.cu.
unsafe impl Plain for JoinArgs {}

crate::kernel! {
    fn join_lists(args: JoinArgs) needs { loads_16: 1 };
    fn list_marked(args: JoinArgs);
}

pub const FAMILY: Family = Family { file: "join", kernels: &[join_lists::DECLARATION, list_marked::DECLARATION] };

/// Words of a bit for each of `max_region` positions.
pub fn words_of(max_region: usize) -> usize {
    max_region.div_ceil(32)
}

impl Join {
    /// Marks the lists, and counts what they leave of the clusters.
    ///
    /// # Errors
    /// `Length` when spans and sizes do not fit each other; as a launch.
    pub fn launch_lists(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Some((args, grid)) = self.args()? else { return Ok(()) };
        // SAFETY: the lengths are checked; images fit the sizes, which `SearchSizes::hold` says.
        unsafe { join_lists::launch(device, stream, grid, args) }
    }

    /// Lists what is marked, and settles what is asked of the choice.
    ///
    /// # Errors
    /// As [`Join::launch_lists`].
    pub fn launch_marked(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Some((args, grid)) = self.args()? else { return Ok(()) };
        // SAFETY: as above.
        unsafe { list_marked::launch(device, stream, grid, args) }
    }

    fn args(&self) -> Result<Option<(JoinArgs, Grid)>> {
        let Self { num_kv_heads, max_probes, max_clusters, max_region, .. } = *self;
        let (slots, words) = (self.heads.len(), words_of(max_region));
        self.layouts.check("join: layouts", slots)?;
        self.probes.check("join: probes", slots * max_probes)?;
        self.marks.check("join: marks", slots * words)?;
        self.left.check("join: left", slots * max_clusters)?;
        self.candidates.check("join: candidates", slots * max_region)?;
        self.repairs.check("join: repairs", slots.div_ceil(num_kv_heads.max(1)))?;
        self.searches.check("join: searches", slots)?;
        if slots == 0 {
            return Ok(None);
        }
        let args = JoinArgs {
            heads: self.heads.address(),
            slots: self.layouts.address(),
            probes: self.probes.address(),
            marks: self.marks.address(),
            left: self.left.address(),
            candidates: self.candidates.address(),
            repairs: self.repairs.address(),
            searches: self.searches.address(),
            num_kv_heads: num_kv_heads as u32,
            max_probes: max_probes as u32,
            words: words as u32,
            max_clusters: max_clusters as u32,
            max_region: max_region as u32,
            reserved: 0,
        };
        Ok(Some((args, Grid::new(slots, THREADS))))
    }
}

/// One slot's part of [`Join::launch_lists`].
pub fn lists_traffic(work: &SearchWork) -> Traffic {
    if work.way != SearchWay::Probes {
        return Traffic::NONE;
    }
    let clusters = work.clusters * size_of::<u32>();
    let cluster_of = if work.clusters > 0 { work.united * size_of::<u16>() } else { 0 };
    Traffic {
        stored: work.list_offsets * size_of::<u32>() + work.list_pieces * LIST_PIECE + clusters + cluster_of,
        passed: work.probed * size_of::<u32>(),
        written: words_of(work.region) * size_of::<u32>() + clusters,
    }
}

/// One slot's part of [`Join::launch_marked`].
pub fn marked_traffic(work: &SearchWork) -> Traffic {
    if !work.is_listed() {
        return Traffic::NONE;
    }
    Traffic { stored: 0, passed: words_of(work.region) * size_of::<u32>(), written: work.candidates * size_of::<u32>() }
}
