//! Tails: clusters of the positions that are new to a head.

use ctkvr_core::Result;
use ctkvr_core::sequence::index_builder::in_parallel;
use ctkvr_core::tail::Tail;
use ctkvr_core::tail::segment::{MadeClusters, TailSegment};
use ctkvr_kernels::KvFormat;

use super::room::read;
use super::{BuildMemory, DeviceBuilder, HeadBuild, core_error};
use crate::launch::build_clusters::{BuildClusters, ClusterPlan, ClusterTask, spread_len};

/// What was copied back of some tasks.
struct Clusters {
    plan: ClusterPlan,
    assigned: Vec<u16>,
    /// f32 `[clusters, head_dim]`.
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl DeviceBuilder<'_> {
    /// Each head's tail once it is built; `None` where it has none.
    pub(super) fn tails(&self, memory: &mut BuildMemory, heads: &[HeadBuild]) -> Result<Vec<Option<Tail>>> {
        let before: Vec<Option<Tail>> = heads.iter().map(|head| self.tail_before(head)).collect();
        let mut tasks = Vec::new();
        // Which head a task is of.
        let mut owners = Vec::new();
        for (i, (head, tail)) in heads.iter().zip(&before).enumerate() {
            let Some(tail) = tail else { continue };
            let positions = head.before.map_or(head.plan.region.start, |before| before.index.end())..head.plan.region.end;
            if !positions.is_empty() {
                let (pages, head_offset, cluster_size) = (self.pages, self.head_offset(head), tail.options().size);
                tasks.push(ClusterTask { pages, head_offset, positions, cluster_size });
                owners.push(i);
            }
        }
        let mut tails = before;
        if tasks.is_empty() {
            return Ok(tails);
        }
        let made = self.clusters(memory, &tasks)?;
        let d = self.layout.head_dim;
        let formats: Vec<_> =
            owners.iter().map(|i| tails[*i].as_ref().map_or(KvFormat::F16, |tail| tail.options().format)).collect();
        let segment = |job: usize| {
            let (clusters, place) = (made.plan.clusters[job].clone(), (tasks[job].positions.start, heads[owners[job]].plan.len));
            let rows = clusters.start * d..clusters.end * d;
            let made = MadeClusters {
                assigned: &made.plan.clusters_of(job, &made.assigned),
                keys: &made.keys[rows.clone()],
                values: &made.values[rows],
                head_dim: d,
            };
            Ok(TailSegment::from_clusters(self.kernels, place, &made, formats[job]))
        };
        for (i, segment) in owners.iter().zip(in_parallel(tasks.len(), self.num_threads, None, segment)?) {
            tails[*i] = tails[*i].as_ref().map(|tail| tail.with_segment(segment));
        }
        Ok(tails)
    }

    /// What its new positions are added to.
    fn tail_before(&self, head: &HeadBuild) -> Option<Tail> {
        match head.before {
            Some(before) => before.index.tail().cloned(),
            None => head.options.build.clusters().map(|clusters| Tail::empty(self.group, clusters)),
        }
    }

    fn clusters(&self, memory: &mut BuildMemory, tasks: &[ClusterTask]) -> Result<Clusters> {
        self.check_cancel()?;
        let plan = ClusterPlan::new(tasks);
        self.launch_clusters(memory, plan).map_err(core_error)
    }

    fn launch_clusters(&self, memory: &mut BuildMemory, plan: ClusterPlan) -> crate::Result<Clusters> {
        let (device, d, num_clusters) = (self.device, self.layout.head_dim, plan.num_clusters());
        let build = BuildClusters {
            plan: &plan,
            layout: self.layout,
            jobs: memory.cluster_jobs.filled(device, &plan.jobs)?,
            stretches: memory.stretches.filled(device, &plan.stretches)?,
            spreads: memory.spreads.of(device, plan.stretches.len() * spread_len(d))?,
            weights: memory.value_weights.of(device, plan.jobs.len())?,
            assigned: memory.assigned.of(device, plan.num_rows())?,
            centres: memory.centres.of(device, num_clusters * 2 * d)?,
            offsets: memory.offsets.of(device, num_clusters)?,
            keys: memory.mean_keys.of(device, num_clusters * d)?,
            values: memory.mean_values.of(device, num_clusters * d)?,
        };
        build.launch(device, device.compute())?;
        let (assigned, keys, values) = (read(device, build.assigned)?, read(device, build.keys)?, read(device, build.values)?);
        Ok(Clusters { plan, assigned, keys, values })
    }
}
