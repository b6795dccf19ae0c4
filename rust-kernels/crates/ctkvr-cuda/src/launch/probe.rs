//! kernels/probe.cu: the centroids that are nearest to a query group.

use super::search_state::SlotSearch;
use super::search_work::{SearchWay, SearchWork};
use super::slot::SlotLayout;
use super::traffic::{SlotShape, Traffic};
use crate::declaration::{Family, Grid};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::span::{Plain, Span};
use crate::stream::Stream;

const THREADS: usize = 256;
const MOST_HEAD_DIM: usize = 256;
const MOST_GROUP: usize = 32;

/// Probes of the slots of a layer.
#[derive(Clone, Copy)]
pub struct Probe {
    /// `[slots]`: [`crate::head_image::HeadImage::address`], or `NO_HEAD`.
    pub heads: Span<u64>,
    /// `[slots]`.
    pub layouts: Span<SlotLayout>,
    /// f32 `[slots, group, head_dim]`, after rotary embedding.
    pub queries: Span<f32>,
    /// `[rows]`: repairs of each in the layers before, and how many it may have.
    pub repairs: Span<u32>,
    pub repair_budgets: Span<u32>,
    /// f32 `[slots, max_centroids]`: scratch.
    pub similarities: Span<f32>,
    /// `[slots, max_probes]`: ids of centroids, best first; `num_probed` of them ([`SlotSearch`]), the others are not written.
    pub probes: Span<u32>,
    /// `[slots]`.
    pub searches: Span<SlotSearch>,
    pub num_kv_heads: usize,
    pub group: usize,
    pub head_dim: usize,
    pub max_centroids: usize,
    pub max_probes: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ProbeArgs {
    heads: u64,
    slots: u64,
    queries: u64,
    repairs: u64,
    repair_budgets: u64,
    similarities: u64,
    probes: u64,
    searches: u64,
    num_kv_heads: u32,
    group: u32,
    head_dim: u32,
    max_centroids: u32,
    max_probes: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<ProbeArgs>() == 88);
// SAFETY: numbers without padding, as in kernels/probe.cu.
unsafe impl Plain for ProbeArgs {}

crate::kernel! {
    fn probe(args: ProbeArgs) needs { loads_16: 8 };
}

pub const FAMILY: Family = Family { file: "probe", kernels: &[probe::DECLARATION] };

impl Probe {
    /// # Errors
    /// `Length` when spans and sizes do not fit each other; as a launch.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let Self { num_kv_heads, group, head_dim, max_centroids, max_probes, .. } = *self;
        let slots = self.heads.len();
        check_shape(group, head_dim)?;
        let rows = slots.div_ceil(num_kv_heads.max(1));
        self.layouts.check("probe: layouts", slots)?;
        self.queries.check("probe: queries", slots * group * head_dim)?;
        self.repairs.check("probe: repairs", rows)?;
        self.repair_budgets.check("probe: repair budgets", rows)?;
        self.similarities.check("probe: similarities", slots * max_centroids)?;
        self.probes.check("probe: probes", slots * max_probes)?;
        self.searches.check("probe: searches", slots)?;
        if slots == 0 {
            return Ok(());
        }
        let args = ProbeArgs {
            heads: self.heads.address(),
            slots: self.layouts.address(),
            queries: self.queries.address(),
            repairs: self.repairs.address(),
            repair_budgets: self.repair_budgets.address(),
            similarities: self.similarities.address(),
            probes: self.probes.address(),
            searches: self.searches.address(),
            num_kv_heads: num_kv_heads as u32,
            group: group as u32,
            head_dim: head_dim as u32,
            max_centroids: max_centroids as u32,
            max_probes: max_probes as u32,
            reserved: 0,
        };
        // SAFETY: the lengths are checked; heads name images that have at most max_centroids, which `SearchSizes::hold` says.
        unsafe { probe::launch(device, stream, Grid::new(slots, THREADS), args) }
    }
}

/// Refuses heads that the kernels of retrieval have no room for.
pub(crate) fn check_shape(group: usize, head_dim: usize) -> Result<()> {
    check_group(group)?;
    if head_dim == 0 || head_dim > MOST_HEAD_DIM || !head_dim.is_multiple_of(16) {
        return Err(Error::Length {
            what: "retrieval: head_dim, a multiple of 16 up to",
            expected: MOST_HEAD_DIM,
            actual: head_dim,
        });
    }
    Ok(())
}

/// Refuses groups that the kernels of retrieval have no room for.
pub(crate) fn check_group(group: usize) -> Result<()> {
    if group == 0 || group > MOST_GROUP {
        return Err(Error::Length { what: "retrieval: query heads of a KV head, at most", expected: MOST_GROUP, actual: group });
    }
    Ok(())
}

/// Blocks of each slot for work in `chunks` a slot: enough that the device is full, few enough that those without work cost little. What a
/// chunk gives does not depend on it.
pub(crate) fn blocks_a_slot(device: &Device, chunks: usize, slots: usize) -> usize {
    const BLOCKS_A_MULTIPROCESSOR: usize = 4;
    let wanted = (BLOCKS_A_MULTIPROCESSOR * device.properties().multiprocessors).div_ceil(slots.max(1));
    chunks.min(wanted).max(1)
}

/// One slot's part of a launch.
pub fn traffic(shape: &SlotShape, work: &SearchWork) -> Traffic {
    if work.way != SearchWay::Probes {
        return Traffic::NONE;
    }
    Traffic {
        stored: work.centroids * (shape.layout.head_dim + size_of::<f32>()),
        passed: shape.query_bytes(),
        written: work.centroids * size_of::<f32>() + work.probed * size_of::<u32>(),
    }
}
