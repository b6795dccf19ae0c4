//! Builds states of CTkvr where keys and values lie: the device makes lists, clusters and sums over them, many heads in a launch; the host
//! chooses nothing but what needs no keys, looks the sampled queries up, and puts the state together with ctkvr-core's own code. States are
//! the core's, so that growth, cuts, forks and snapshots know nothing of it.
//!
//! Device memory: [`BuildMemory`]. Positions and centroids of different heads need not be as many.

mod finite;
mod lists;
mod memory;
mod room;
mod samples;
mod tails;

use std::sync::atomic::{AtomicBool, Ordering};

use ctkvr_core::index::centroid_index::CentroidIndex;
use ctkvr_core::index::centroid_segment::CentroidSegment;
use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::index::segment_plan::SegmentPlan;
use ctkvr_core::sequence::head_plan::HeadPlan;
use ctkvr_core::{BuildOptions, CtkvrOptions, Error, Result};
use ctkvr_kernels::{Kernels, PageLayout};

use crate::Device;
pub use memory::{BuildBounds, BuildMemory};

/// Makes states of heads of one sequence, whose page table is on the device.
#[derive(Clone, Copy)]
pub struct DeviceBuilder<'a> {
    pub device: &'a Device,
    /// For what the host does.
    pub kernels: &'a Kernels,
    pub num_threads: usize,
    pub layout: PageLayout,
    /// Query heads of a KV head.
    pub group: usize,
    /// Device address of the page table: u64, addresses of whole pages.
    pub pages: u64,
    /// Whether the pages are in pinned host memory, which the device reads over the bus.
    pub on_host: bool,
    pub cancel: &'a AtomicBool,
}

/// A head to make a state of.
pub struct HeadBuild<'a> {
    pub plan: &'a HeadPlan,
    /// The state that it goes on from: `plan.before`'s.
    pub before: Option<&'a CtkvrHead>,
    /// Of a first build; those of a state that grows are its own.
    pub options: CtkvrOptions,
    pub build: BuildOptions,
}

impl HeadBuild<'_> {
    fn options(&self) -> CtkvrOptions {
        self.before.map_or(self.options, CtkvrHead::options)
    }

    /// Whether it has no centroids, and gets none.
    fn is_bare(&self) -> bool {
        self.before.is_some_and(|before| before.index.is_bare())
    }
}

impl DeviceBuilder<'_> {
    /// The heads' states, in order. All are made at once: the caller sees to it that [`BuildMemory::heads_at_once`] are no fewer.
    ///
    /// # Errors
    /// `NonFinite` for a key or query that is not finite or no f16, `Cancelled`, `OutOfMemory`, `DeviceLost`.
    pub fn build(&self, memory: &mut BuildMemory, heads: &[HeadBuild]) -> Result<Vec<CtkvrHead>> {
        let plans: Vec<SegmentPlan> = heads.iter().map(|head| self.segment_plan(head)).collect();
        heads.iter().zip(&plans).filter(|(head, _)| !head.is_bare()).try_for_each(|(_, plan)| plan.check())?;
        let tails = self.tails(memory, heads)?;
        let mut lists = self.lists(memory, heads, &plans)?;
        let segment = |i: usize| {
            let plan = &plans[i];
            if heads[i].is_bare() { plan.bare_segment() } else { plan.segment(std::mem::take(&mut lists[i].lists)) }
        };
        let segments: Vec<CentroidSegment> = (0..heads.len()).map(segment).collect();
        let mut readings =
            self.readings(memory, heads, &samples::Made { plans: &plans, segments: &segments, tails: &tails, lists: &lists })?;
        let made = heads.iter().zip(segments).zip(tails).enumerate().map(|(i, ((head, segment), tail))| match head.before {
            Some(before) => before.with_index(before.index.with_segment(segment, tail)),
            None => {
                let reading = readings[i].take().expect("of each first build");
                let sharpness = reading.sharpness;
                CtkvrHead::new(CentroidIndex::first(segment, tail, reading, &head.build), sharpness, head.options)
            }
        });
        Ok(made.collect())
    }

    /// What its segment is made of.
    fn segment_plan<'h>(&self, head: &HeadBuild<'h>) -> SegmentPlan<'h> {
        let (HeadPlan { region, queries, len, grown_at, .. }, options) = (head.plan, head.options().build);
        SegmentPlan {
            region: region.clone(),
            head_dim: self.layout.head_dim,
            made_at: *len,
            grown_at: *grown_at,
            queries,
            group: self.group,
            list_len: options.posting_list_len(region.len(), self.group),
            per_list: options.centroids_per_list,
        }
    }

    /// Bytes into each page before this head.
    fn head_offset(&self, head: &HeadBuild) -> u64 {
        (head.plan.head * self.layout.bytes()) as u64
    }

    /// Asked between launches.
    fn check_cancel(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// For the engine: memory that is not there, or a device that is lost.
pub(crate) fn core_error(error: crate::Error) -> Error {
    match error {
        crate::Error::OutOfMemory { needed, available } => {
            Error::OutOfMemory { what: "building an index on the device", needed: needed as u64, available: available as u64 }
        }
        error => Error::DeviceLost { reason: error.to_string() },
    }
}
