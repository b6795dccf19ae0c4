//! Device memory of builds, and how many heads it is for.

use ctkvr_core::tail::segment::stretches_of;

use super::room::Room;
use super::{DeviceBuilder, HeadBuild};
use crate::launch::build_clusters::{ClusterJob, Stretch, spread_len};
use crate::launch::build_lists::{ListJob, missed_len, splits_of, words_of};
use crate::launch::search_state::Total;

/// How much a build may take.
#[derive(Debug, Clone, Copy)]
pub struct BuildBounds {
    /// Of the heads that are built at once, beside lists' weights; but for a single one that takes more.
    pub heads_bytes: usize,
    /// Of weights of lists over all their positions that are there at once; but for those of a single list.
    pub weight_bytes: usize,
}

impl Default for BuildBounds {
    fn default() -> Self {
        Self { heads_bytes: 256 << 20, weight_bytes: 256 << 20 }
    }
}

/// Sampled queries of a head: `MAX_SAMPLES` of ctkvr-core's volatility.rs.
const MOST_SAMPLES: usize = 128;

/// Kept from build to build; empty until the first. It grows to what a build needs, within the bounds.
#[derive(Default)]
pub struct BuildMemory {
    pub(super) bounds: BuildBounds,
    /// The sequence's pages.
    pub(crate) table: Room<u64>,
    pub(super) list_jobs: Room<ListJob>,
    /// f16, of lists and then of samples.
    pub(super) queries: Room<u16>,
    pub(super) partials: Room<Total>,
    pub(super) totals: Room<Total>,
    pub(super) weights: Room<f32>,
    pub(super) selected: Room<u32>,
    pub(super) found: Room<u32>,
    pub(super) missed: Room<f32>,
    pub(super) cluster_jobs: Room<ClusterJob>,
    pub(super) stretches: Room<Stretch>,
    pub(super) spreads: Room<f64>,
    pub(super) value_weights: Room<f32>,
    pub(super) assigned: Room<u16>,
    pub(super) centres: Room<f32>,
    pub(super) offsets: Room<f32>,
    pub(super) mean_keys: Room<f32>,
    pub(super) mean_values: Room<f32>,
}

impl BuildMemory {
    /// Heads that are built at once, at most: more fill no device better, and a deadline is looked at in between.
    pub const MOST_HEADS: usize = 16;

    /// Nothing yet, and so much later.
    pub fn within(bounds: BuildBounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// How many of the heads, from the first on, are built at once; at least one, if there is one.
    pub fn heads_at_once(&self, builder: &DeviceBuilder, heads: &[HeadBuild]) -> usize {
        let mut bytes = 0;
        let fits = |head: &&HeadBuild| {
            bytes += bytes_of(builder, head);
            bytes <= self.bounds.heads_bytes
        };
        let count = heads.iter().take(Self::MOST_HEADS).take_while(fits).count();
        count.max(1).min(heads.len())
    }
}

/// An upper bound for one head.
fn bytes_of(builder: &DeviceBuilder, head: &HeadBuild) -> usize {
    let (d, plan) = (builder.layout.head_dim, builder.segment_plan(head));
    let (n, rows) = (plan.region.len(), plan.num_centroids() * plan.group);
    let clusters = if head.options().build.tail {
        let stretches = stretches_of(n, head.options().build.cluster_size);
        let of_stretch = |num_clusters: usize| num_clusters * (16 * d + 4) + spread_len(d) * 8 + size_of::<Stretch>();
        stretches.map(|(_, num_clusters)| of_stretch(num_clusters)).sum::<usize>() + 2 * n
    } else {
        0
    };
    let of_rows = |rows: usize| rows * (2 * d + splits_of(n) * size_of::<Total>() + size_of::<Total>());
    let lists = of_rows(rows) + plan.num_lists() * plan.list_len * 4;
    let samples = MOST_SAMPLES * (words_of(n) * 4 + plan.group * missed_len(n) * 4);
    clusters + lists + samples
}
