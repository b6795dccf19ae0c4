//! Clusters of keys and values: see `kernels/build_clusters.cu`.

use std::ops::Range;

use ctkvr_core::tail::segment::{NUM_PASSES, stretches_of};
use ctkvr_kernels::{KvFormat, PageLayout};

use super::traffic::Traffic;
use crate::{Device, Family, Grid, Plain, Result, Span, Stream, kernel};

/// Of kernels/build_clusters.cu.
const SPREAD_LANES: usize = 8;
const WEIGHT_THREADS: usize = 512;
const CLUSTER_THREADS: usize = 64;
const ASSIGN_THREADS: usize = 256;
const TILE: usize = 64;

/// One head whose positions are clustered.
#[derive(Debug, Clone)]
pub struct ClusterTask {
    /// Device address of the sequence's page table, which reaches as far as `positions`.
    pub pages: u64,
    /// Bytes into each page before this (layer, KV head).
    pub head_offset: u64,
    /// At least one.
    pub positions: Range<usize>,
    /// Positions of a cluster, on average.
    pub cluster_size: usize,
}

/// `ClusterJob` of the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ClusterJob {
    pages: u64,
    head_offset: u64,
    first_stretch: u32,
    num_stretches: u32,
    len: u32,
    reserved: u32,
}

/// `Stretch` of the kernels: positions that are clustered together.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    job: u32,
    position: u32,
    len: u32,
    first_row: u32,
    first_cluster: u32,
    num_clusters: u32,
}

const _: () = assert!(size_of::<ClusterJob>() == 32 && size_of::<Stretch>() == 24 && size_of::<ClusterArgs>() == 80);
// SAFETY: numbers without padding, as `ClusterJob` of kernels/build_clusters.cu.
unsafe impl Plain for ClusterJob {}
// SAFETY: numbers without padding, as `Stretch` of kernels/build_clusters.cu.
unsafe impl Plain for Stretch {}

/// Some tasks in the order of their stretches.
#[derive(Debug, Default)]
pub struct ClusterPlan {
    pub jobs: Vec<ClusterJob>,
    pub stretches: Vec<Stretch>,
    /// Of each job, in `assigned` and in the means.
    pub rows: Vec<Range<usize>>,
    pub clusters: Vec<Range<usize>>,
}

impl ClusterPlan {
    pub fn new(tasks: &[ClusterTask]) -> Self {
        let mut plan = Self::default();
        for task in tasks {
            let (first_stretch, first_row, first_cluster) = (plan.stretches.len(), plan.num_rows(), plan.num_clusters());
            let mut next_cluster = first_cluster;
            for (stretch, num_clusters) in stretches_of(task.positions.len(), task.cluster_size) {
                // Positions are u32, and so is what is counted by them.
                plan.stretches.push(Stretch {
                    job: plan.jobs.len() as u32,
                    position: (task.positions.start + stretch.start) as u32,
                    len: stretch.len() as u32,
                    first_row: (first_row + stretch.start) as u32,
                    first_cluster: next_cluster as u32,
                    num_clusters: num_clusters as u32,
                });
                next_cluster += num_clusters;
            }
            plan.jobs.push(ClusterJob {
                pages: task.pages,
                head_offset: task.head_offset,
                first_stretch: first_stretch as u32,
                num_stretches: (plan.stretches.len() - first_stretch) as u32,
                len: task.positions.len() as u32,
                reserved: 0,
            });
            plan.rows.push(first_row..first_row + task.positions.len());
            plan.clusters.push(first_cluster..next_cluster);
        }
        plan
    }

    pub fn num_rows(&self) -> usize {
        self.rows.last().map_or(0, |rows| rows.end)
    }

    pub fn num_clusters(&self) -> usize {
        self.clusters.last().map_or(0, |clusters| clusters.end)
    }

    /// The cluster of each of a job's positions, counted from the job's first, from what the device has assigned to its rows.
    pub fn clusters_of(&self, job: usize, assigned: &[u16]) -> Vec<u32> {
        let ClusterJob { first_stretch, num_stretches, .. } = self.jobs[job];
        let stretches = &self.stretches[first_stretch as usize..(first_stretch + num_stretches) as usize];
        let mut clusters = Vec::with_capacity(self.rows[job].len());
        for stretch in stretches {
            let first = stretch.first_cluster - self.clusters[job].start as u32;
            let from = stretch.first_row as usize;
            clusters.extend(assigned[from..from + stretch.len as usize].iter().map(|&c| first + u32::from(c)));
        }
        clusters
    }
}

/// The stages of clustering a plan's jobs.
pub struct BuildClusters<'a> {
    pub plan: &'a ClusterPlan,
    pub layout: PageLayout,
    /// `[jobs]` and `[stretches]`: the plan's, once they are uploaded.
    pub jobs: Span<ClusterJob>,
    pub stretches: Span<Stretch>,
    /// f64 `[stretches, spread_len(head_dim)]`.
    pub spreads: Span<f64>,
    /// f32 `[jobs]`.
    pub weights: Span<f32>,
    /// `[rows]`: the cluster of each, counted from its stretch's first.
    pub assigned: Span<u16>,
    /// f32 `[clusters, 2 head_dim]`.
    pub centres: Span<f32>,
    /// f32 `[clusters]`.
    pub offsets: Span<f32>,
    /// Means, f32 `[clusters, head_dim]`, not rounded yet; 0 of a cluster that nobody is in.
    pub keys: Span<f32>,
    pub values: Span<f32>,
}

/// Numbers of a stretch's spread.
pub fn spread_len(head_dim: usize) -> usize {
    2 * head_dim + 2
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ClusterArgs {
    jobs: u64,
    stretches: u64,
    spreads: u64,
    weights: u64,
    assigned: u64,
    centres: u64,
    offsets: u64,
    keys: u64,
    values: u64,
    head_dim: u32,
    reserved: u32,
}
// SAFETY: numbers without padding, as `ClusterArgs` of kernels/build_clusters.cu.
unsafe impl Plain for ClusterArgs {}

kernel! {
    fn cluster_spreads_f16(args: ClusterArgs) needs { loads_16: 1 };
    fn cluster_spreads_q8(args: ClusterArgs);
    fn cluster_weights(args: ClusterArgs);
    fn cluster_starts_f16(args: ClusterArgs) needs { loads_16: 1 };
    fn cluster_starts_q8(args: ClusterArgs);
    fn cluster_assign_f16(args: ClusterArgs) needs { loads_16: 2 };
    fn cluster_assign_q8(args: ClusterArgs) needs { loads_16: 1 };
    fn cluster_move_f16(args: ClusterArgs) needs { loads_16: 1 };
    fn cluster_move_q8(args: ClusterArgs);
    fn cluster_means_f16(args: ClusterArgs) needs { loads_16: 1 };
    fn cluster_means_q8(args: ClusterArgs);
}

pub const FAMILY: Family = Family {
    file: "build_clusters",
    kernels: &[
        cluster_spreads_f16::DECLARATION,
        cluster_spreads_q8::DECLARATION,
        cluster_weights::DECLARATION,
        cluster_starts_f16::DECLARATION,
        cluster_starts_q8::DECLARATION,
        cluster_assign_f16::DECLARATION,
        cluster_assign_q8::DECLARATION,
        cluster_move_f16::DECLARATION,
        cluster_move_q8::DECLARATION,
        cluster_means_f16::DECLARATION,
        cluster_means_q8::DECLARATION,
    ],
};

/// Launches one of the kernels that there is one of for each format.
macro_rules! launch_over_rows {
    ($self:ident, $device:ident, $stream:ident, $grid:expr, $f16:ident, $q8:ident) => {{
        let args = $self.args();
        // SAFETY: the lengths are checked; the page tables are the caller's.
        unsafe {
            match $self.layout.format {
                KvFormat::F16 => $f16::launch($device, $stream, $grid, args),
                KvFormat::Q8 => $q8::launch($device, $stream, $grid, args),
            }
        }
    }};
}

impl BuildClusters<'_> {
    /// # Errors
    /// `Length` when a span has another; `LaunchFailed`, `DeviceLost`.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let (d, num_jobs, num_stretches) = (self.layout.head_dim, self.plan.jobs.len(), self.plan.stretches.len());
        let (rows, clusters) = (self.plan.num_rows(), self.plan.num_clusters());
        assert!(d.is_multiple_of(32) && 2 * d <= WEIGHT_THREADS, "heads of {d} values");
        self.jobs.check("build_clusters: jobs", num_jobs)?;
        self.stretches.check("build_clusters: stretches", num_stretches)?;
        self.spreads.check("build_clusters: spreads", num_stretches * spread_len(d))?;
        self.weights.check("build_clusters: weights", num_jobs)?;
        self.assigned.check("build_clusters: assigned", rows)?;
        self.centres.check("build_clusters: centres", clusters * 2 * d)?;
        self.offsets.check("build_clusters: offsets", clusters)?;
        self.keys.check("build_clusters: keys", clusters * d)?;
        self.values.check("build_clusters: values", clusters * d)?;
        if num_jobs == 0 {
            return Ok(());
        }
        let most = |of: fn(&Stretch) -> u32| self.plan.stretches.iter().map(of).max().unwrap_or(0) as usize;
        let of_clusters = Grid::of([num_stretches, most(|s| s.num_clusters), 1], CLUSTER_THREADS);
        let of_tiles = Grid::of([num_stretches, most(|s| s.len).div_ceil(TILE), 1], ASSIGN_THREADS);
        let columns = d / 4;
        let spreads =
            Grid::new(num_stretches, columns * SPREAD_LANES).with_shared(SPREAD_LANES * (2 * d + columns) * size_of::<f64>());
        launch_over_rows!(self, device, stream, spreads, cluster_spreads_f16, cluster_spreads_q8)?;
        // SAFETY: the lengths are checked.
        unsafe { cluster_weights::launch(device, stream, Grid::new(num_jobs, WEIGHT_THREADS), self.args())? };
        launch_over_rows!(self, device, stream, of_clusters, cluster_starts_f16, cluster_starts_q8)?;
        launch_over_rows!(self, device, stream, of_tiles, cluster_assign_f16, cluster_assign_q8)?;
        for _ in 1..NUM_PASSES {
            launch_over_rows!(self, device, stream, of_clusters, cluster_move_f16, cluster_move_q8)?;
            launch_over_rows!(self, device, stream, of_tiles, cluster_assign_f16, cluster_assign_q8)?;
        }
        launch_over_rows!(self, device, stream, of_clusters, cluster_means_f16, cluster_means_q8)
    }

    /// Each kernel's name, without its format, and what one launch of it reads and writes, where no two tasks have the same positions.
    /// `moved`: clusters that some position was assigned to when they moved.
    pub fn traffic(&self, moved: usize) -> [(&'static str, Traffic); 6] {
        let Self { plan, layout, .. } = self;
        let (rows, clusters) = (plan.num_rows(), plan.num_clusters());
        let row_bytes = 2 * layout.format.row_bytes(layout.head_dim);
        let centre_bytes = (2 * layout.head_dim + 1) * size_of::<f32>();
        let spread_bytes = plan.stretches.len() * spread_len(layout.head_dim) * size_of::<f64>();
        let weight_bytes = plan.jobs.len() * size_of::<f32>();
        let assigned_bytes = rows * size_of::<u16>();
        let mean_bytes = clusters * 2 * layout.head_dim * size_of::<f32>();
        let traffic = |stored, passed, written| Traffic { stored, passed, written };
        [
            ("cluster_spreads", traffic(rows * row_bytes, 0, spread_bytes)),
            ("cluster_weights", traffic(0, spread_bytes, weight_bytes)),
            ("cluster_starts", traffic(clusters * row_bytes, weight_bytes, clusters * centre_bytes)),
            ("cluster_assign", traffic(rows * row_bytes, clusters * centre_bytes + weight_bytes, assigned_bytes)),
            ("cluster_move", traffic(rows * row_bytes, assigned_bytes + weight_bytes, moved * centre_bytes)),
            ("cluster_means", traffic(rows * row_bytes, assigned_bytes, mean_bytes)),
        ]
    }

    fn args(&self) -> ClusterArgs {
        ClusterArgs {
            jobs: self.jobs.address(),
            stretches: self.stretches.address(),
            spreads: self.spreads.address(),
            weights: self.weights.address(),
            assigned: self.assigned.address(),
            centres: self.centres.address(),
            offsets: self.offsets.address(),
            keys: self.keys.address(),
            values: self.values.address(),
            head_dim: self.layout.head_dim as u32,
            reserved: 0,
        }
    }
}
