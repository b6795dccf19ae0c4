//! Posting lists of new segments, and what a softmax over the region needs of each query.

use std::ops::Range;

use ctkvr_core::index::posting_lists::PostingLists;
use ctkvr_core::index::segment_plan::SegmentPlan;
use ctkvr_core::sequence::index_builder::in_parallel;
use ctkvr_core::{Error, Result};
use ctkvr_kernels::Kernels;
use half::f16;

use super::room::{Parts, read};
use super::{BuildMemory, DeviceBuilder, HeadBuild, core_error};
use crate::Span;
use crate::launch::build_lists::{BuildLists, ListTask, splits_of};
use crate::launch::search_state::Total;

/// Of one head.
#[derive(Default)]
pub(super) struct HeadLists {
    pub lists: PostingLists,
    /// Of each (centroid, query head).
    pub totals: Vec<Total>,
}

/// A head whose lists the device makes.
struct Wanted<'a> {
    /// Among those that are built.
    index: usize,
    head: &'a HeadBuild<'a>,
    plan: &'a SegmentPlan<'a>,
}

/// What the device is to make.
struct ListWork {
    tasks: Vec<ListTask>,
    /// Of all tasks, in order.
    totals: Span<Total>,
    selected: Span<u32>,
}

/// Lists of one head that are made in one round.
struct Share {
    /// Index of the task.
    task: usize,
    lists: Range<usize>,
}

impl DeviceBuilder<'_> {
    /// Of each head; empty of those without centroids.
    pub(super) fn lists(&self, memory: &mut BuildMemory, heads: &[HeadBuild], plans: &[SegmentPlan]) -> Result<Vec<HeadLists>> {
        let mut made: Vec<HeadLists> = plans.iter().map(|_| HeadLists::default()).collect();
        let mut wanted = Vec::new();
        for (index, (head, plan)) in heads.iter().zip(plans).enumerate().filter(|(_, (head, _))| !head.is_bare()) {
            if plan.region.is_empty() {
                made[index].lists = plan.empty_lists();
            } else {
                wanted.push(Wanted { index, head, plan });
            }
        }
        if wanted.is_empty() {
            return Ok(made);
        }
        self.check_cancel()?;
        let queries = wanted.iter().map(|of| narrowed(self.kernels, of.plan.queries)).collect::<Result<Vec<_>>>()?;
        let work = self.list_work(memory, &wanted, &queries.concat()).map_err(core_error)?;
        self.launch_lists(memory, &work.tasks)?;
        let totals = read(self.device, work.totals).map_err(core_error)?;
        let selected = read(self.device, work.selected).map_err(core_error)?;
        let (mut totals, mut selected) = (&totals[..], &selected[..]);
        let mut shares = Vec::new();
        for (of, task) in wanted.iter().zip(&work.tasks) {
            let own: &[Total];
            (own, totals) = totals.split_at(task.totals.len());
            if own.iter().any(|total| !total.sum.is_finite()) {
                return Err(self.key_that_is_not_finite(of.head).map_err(core_error)?);
            }
            made[of.index].totals = own.to_vec();
            let own: &[u32];
            (own, selected) = selected.split_at(task.selected.len());
            shares.push(own);
        }
        let encoded = |i: usize| {
            let mut lists = PostingLists::default();
            shares[i].chunks_exact(work.tasks[i].list_len).for_each(|list| lists.push(list));
            lists.shrink();
            Ok(lists)
        };
        for (of, lists) in wanted.iter().zip(in_parallel(wanted.len(), self.num_threads, None, encoded)?) {
            made[of.index].lists = lists;
        }
        Ok(made)
    }

    /// A task for each head, with all its lists, but for their weights.
    fn list_work(&self, memory: &mut BuildMemory, wanted: &[Wanted], queries: &[u16]) -> crate::Result<ListWork> {
        let (device, d) = (self.device, self.layout.head_dim);
        let sum = |of: fn(&SegmentPlan) -> usize| wanted.iter().map(|wanted| of(wanted.plan)).sum::<usize>();
        let rows = sum(|plan| plan.num_centroids() * plan.group);
        let mut queries = Parts::of(memory.queries.filled(device, queries)?);
        let num_partials = sum(|plan| plan.num_centroids() * plan.group * splits_of(plan.region.len()));
        let mut partials = Parts::of(memory.partials.of(device, num_partials)?);
        let totals = memory.totals.of(device, rows)?;
        let selected = memory.selected.of(device, sum(|plan| plan.num_lists() * plan.list_len))?;
        let (mut of_rows, mut of_lists) = (Parts::of(totals), Parts::of(selected));
        let task = |&Wanted { head, plan, .. }: &Wanted| {
            let rows = plan.num_centroids() * plan.group;
            ListTask {
                pages: self.pages,
                head_offset: self.head_offset(head),
                queries: queries.next(rows * d),
                partials: partials.next(rows * splits_of(plan.region.len())),
                totals: of_rows.next(rows),
                weights: Span::EMPTY,
                selected: of_lists.next(plan.num_lists() * plan.list_len),
                found: Span::EMPTY,
                missed: Span::EMPTY,
                positions: plan.region.clone(),
                group: plan.group,
                rows_per_list: plan.group * plan.per_list,
                list_len: plan.list_len,
            }
        };
        Ok(ListWork { tasks: wanted.iter().map(task).collect(), totals, selected })
    }

    /// Totals of all rows, and positions of all lists, as far as weights have room at a time.
    fn launch_lists(&self, memory: &mut BuildMemory, tasks: &[ListTask]) -> Result<()> {
        self.on_device(memory, tasks).and_then(|lists| lists.totals()).map_err(core_error)?;
        for round in rounds(tasks, memory.bounds.weight_bytes / size_of::<f32>()) {
            self.check_cancel()?;
            let num_weights = round.iter().map(|share| share.lists.len() * tasks[share.task].positions.len()).sum();
            let mut weights = Parts::of(memory.weights.of(self.device, num_weights).map_err(core_error)?);
            let d = self.layout.head_dim;
            let of_share = |Share { task, lists }: &Share| {
                let task = &tasks[*task];
                let rows = lists.start * task.rows_per_list..(lists.end * task.rows_per_list).min(task.totals.len());
                ListTask {
                    queries: task.queries.part(rows.start * d..rows.end * d),
                    totals: task.totals.part(rows),
                    weights: weights.next(lists.len() * task.positions.len()),
                    selected: task.selected.part(lists.start * task.list_len..lists.end * task.list_len),
                    ..task.clone()
                }
            };
            let shares: Vec<ListTask> = round.iter().map(of_share).collect();
            self.on_device(memory, &shares).and_then(|lists| lists.lists()).map_err(core_error)?;
        }
        Ok(())
    }

    /// Brings tasks to the device.
    pub(super) fn on_device<'t>(&'t self, memory: &mut BuildMemory, tasks: &'t [ListTask]) -> crate::Result<BuildLists<'t>> {
        BuildLists::new(self.device, self.layout, tasks, memory.list_jobs.of(self.device, tasks.len())?)
    }
}

/// All lists in turn, as many at a time as there is room for their weights, at least one.
fn rounds(tasks: &[ListTask], most_weights: usize) -> Vec<Vec<Share>> {
    let (mut rounds, mut round, mut room) = (Vec::new(), Vec::new(), most_weights);
    for (i, task) in tasks.iter().enumerate() {
        let (num_lists, n) = (task.totals.len().div_ceil(task.rows_per_list), task.positions.len());
        let mut first = 0;
        while first < num_lists {
            if room < n && !round.is_empty() {
                rounds.push(std::mem::take(&mut round));
                room = most_weights;
            }
            let count = (room / n).clamp(1, num_lists - first);
            round.push(Share { task: i, lists: first..first + count });
            room = room.saturating_sub(count * n);
            first += count;
        }
    }
    rounds.push(round);
    rounds
}

/// As f16, which they are but for a repair's.
///
/// # Errors
/// `NonFinite` for one that is none.
pub(super) fn narrowed(kernels: &Kernels, queries: &[f32]) -> Result<Vec<u16>> {
    let mut narrow = vec![0; queries.len()];
    kernels.narrow(queries, &mut narrow);
    match narrow.iter().position(|x| !f16::from_bits(*x).is_finite()) {
        None => Ok(narrow),
        Some(index) => Err(Error::NonFinite { op: "buildIndex", what: "queries", index }),
    }
}
