//! What makes indexes: clusters and lists. And the reading that memory is measured by.

use std::ops::Range;

use crate::built::Pages;
use crate::retrieval::head::{Case, Head, Numbers};
use crate::{counted, traffic};
use ctkvr_cuda::launch::build_clusters::{self, BuildClusters, ClusterPlan, ClusterTask, spread_len};
use ctkvr_cuda::launch::build_lists::{self, BuildLists, ListTask, missed_len, splits_of, words_of};
use ctkvr_cuda::launch::read_words::{self, ReadWords};
use ctkvr_cuda::stand_in::ledger::Memory;
use ctkvr_cuda::stand_in::{Session, session};
use ctkvr_cuda::{Device, DeviceBuffer, Plain, Result, Span};
use ctkvr_kernels::KvFormat;

/// Heads of every format and dimension, and positions before the region, of it, and behind: across pages and tiles of rows.
const HEADS: [(usize, KvFormat, usize); 8] = [
    (64, KvFormat::F16, 300),
    (64, KvFormat::Q8, 257),
    (96, KvFormat::F16, 64),
    (96, KvFormat::Q8, 1),
    (128, KvFormat::F16, 520),
    (128, KvFormat::Q8, 130),
    (256, KvFormat::F16, 63),
    (256, KvFormat::Q8, 340),
];

fn name_of(format: KvFormat) -> &'static str {
    if format == KvFormat::F16 { "f16" } else { "q8" }
}

fn bytes_of<T: Plain>(span: Span<T>) -> usize {
    span.len() * size_of::<T>()
}

/// A head whose state nobody asks for, and its pages, of which the ledger is told.
fn stored(session: &Session, device: &Device, case: Case) -> Result<(Head, Pages)> {
    let head = Head::new(Case { sinks: 5, num_queries: 1, list_len: 1, tail: false, ..case });
    let pages = Pages::of(device, &head)?;
    session.memory(pages.bytes(), Memory::Stored);
    session.memory(pages.table(), Memory::Bookkeeping);
    Ok((head, pages))
}

#[test]
fn clusters() -> Result<()> {
    let session = session();
    let device = Device::open_with(0, &[build_clusters::FAMILY])?;
    for (i, (head_dim, format, region)) in HEADS.into_iter().enumerate() {
        // Once more than a stretch.
        let region = if i == 0 { 2300 } else { region };
        let case = Case { seed: 900 + i as u64, head_dim, format, region, numbers: Numbers::Real, ..Case::default() };
        let (head, pages) = stored(&session, &device, case)?;
        let task = |positions: Range<usize>, cluster_size| ClusterTask {
            pages: pages.address(),
            head_offset: head.offset() as u64,
            positions,
            cluster_size,
        };
        // One cluster, some, and more than a tile of them in a stretch.
        let tasks = [task(0..5, 64), task(5..5 + region / 3, 7), task(5 + region / 3..5 + region, 2)];
        let tasks: Vec<ClusterTask> = tasks.into_iter().filter(|task| !task.positions.is_empty()).collect();
        let plan = ClusterPlan::new(&tasks);
        let (jobs, stretches) =
            (DeviceBuffer::from_slice(&device, &plan.jobs)?, DeviceBuffer::from_slice(&device, &plan.stretches)?);
        let spreads = DeviceBuffer::new(&device, plan.stretches.len() * spread_len(head_dim))?;
        let (weights, assigned) = (DeviceBuffer::new(&device, tasks.len())?, DeviceBuffer::new(&device, plan.num_rows())?);
        let (centres, offsets) =
            (DeviceBuffer::new(&device, plan.num_clusters() * 2 * head_dim)?, DeviceBuffer::new(&device, plan.num_clusters())?);
        let [keys, values] = [(); 2].map(|()| DeviceBuffer::new(&device, plan.num_clusters() * head_dim));
        let (keys, values) = (keys?, values?);
        session.memory(jobs.span(), Memory::Bookkeeping);
        session.memory(stretches.span(), Memory::Bookkeeping);
        let build = BuildClusters {
            plan: &plan,
            layout: head.shape().head_layout(format),
            jobs: jobs.span(),
            stretches: stretches.span(),
            spreads: spreads.span(),
            weights: weights.span(),
            assigned: assigned.span(),
            centres: centres.span(),
            offsets: offsets.span(),
            keys: keys.span(),
            values: values.span(),
        };
        session.forget_counted();
        build.launch(&device, device.compute())?;
        device.compute().wait()?;
        // Rows are all different, and a centre begins as one: that one is nearest to it.
        for (kernel, expected) in build.traffic(plan.num_clusters()) {
            let name = if kernel == "cluster_weights" { kernel.to_owned() } else { format!("{kernel}_{}", name_of(format)) };
            let counted = session.counted(&name);
            let launches = if kernel == "cluster_assign" { 2 } else { 1 };
            assert_eq!(counted.launches, launches, "{name}");
            assert_eq!(traffic(&counted), expected * launches as usize, "{name}, {head_dim}, {region} positions");
            // Of each launch the jobs, the stretches, the pages' addresses.
            let most = (bytes_of(jobs.span()) + bytes_of(stretches.span()) + bytes_of(pages.table())) as i64;
            assert!(counted.bookkeeping <= launches * most, "{name}: {counted:?}, at most {most}");
        }
        session.forget_counted();
    }
    Ok(())
}

/// Queries of a head over some positions.
struct Ask {
    positions: Range<usize>,
    num_queries: usize,
    per_list: usize,
    list_len: usize,
}

#[test]
fn lists() -> Result<()> {
    let session = session();
    let device = Device::open_with(0, &[build_lists::FAMILY])?;
    for (i, (head_dim, format, region)) in HEADS.into_iter().enumerate() {
        let group = [1, 3, 7, 16][i % 4];
        // Once more than a split.
        let region = if i == 0 { 4096 + 70 } else { region };
        let case = Case { seed: 950 + i as u64, head_dim, group, format, region, numbers: Numbers::Real, ..Case::default() };
        let (head, pages) = stored(&session, &device, case)?;
        // A part, all in every list, more rows than a tile has and in one list, nothing.
        let asks = [
            Ask { positions: 5..5 + region, num_queries: 9, per_list: 2, list_len: region.div_ceil(3) },
            Ask { positions: 0..5, num_queries: 2, per_list: 1, list_len: 5 },
            Ask { positions: 5 + region..5 + region + 20, num_queries: 300usize.div_ceil(group), per_list: 300, list_len: 3 },
            Ask { positions: 5..5, num_queries: 3, per_list: 1, list_len: 0 },
        ];
        let sum = |of: &dyn Fn(&Ask) -> usize| asks.iter().map(of).sum::<usize>();
        let rows = |ask: &Ask| ask.num_queries * group;
        let lists = |ask: &Ask| ask.num_queries.div_ceil(ask.per_list);
        let queries = DeviceBuffer::zeroed(&device, sum(&|ask| rows(ask) * head_dim))?;
        let partials = DeviceBuffer::new(&device, sum(&|ask| rows(ask) * splits_of(ask.positions.len())))?;
        let totals = DeviceBuffer::new(&device, sum(&rows))?;
        let weights = DeviceBuffer::new(&device, sum(&|ask| lists(ask) * ask.positions.len()))?;
        let selected = DeviceBuffer::new(&device, sum(&|ask| lists(ask) * ask.list_len))?;
        let found = DeviceBuffer::zeroed(&device, sum(&|ask| ask.num_queries * words_of(ask.positions.len())))?;
        let missed = DeviceBuffer::new(&device, sum(&|ask| rows(ask) * missed_len(ask.positions.len())))?;
        // The part of what has `of` elements for each ask.
        let part = |i: usize, of: &dyn Fn(&Ask) -> usize| {
            let first = asks[..i].iter().map(of).sum::<usize>();
            first..first + of(&asks[i])
        };
        let task = |(i, ask): (usize, &Ask)| ListTask {
            pages: pages.address(),
            head_offset: head.offset() as u64,
            queries: queries.span().part(part(i, &|ask| rows(ask) * head_dim)),
            partials: partials.span().part(part(i, &|ask| rows(ask) * splits_of(ask.positions.len()))),
            totals: totals.span().part(part(i, &rows)),
            weights: weights.span().part(part(i, &|ask| lists(ask) * ask.positions.len())),
            selected: selected.span().part(part(i, &|ask| lists(ask) * ask.list_len)),
            found: found.span().part(part(i, &|ask| ask.num_queries * words_of(ask.positions.len()))),
            missed: missed.span().part(part(i, &|ask| rows(ask) * missed_len(ask.positions.len()))),
            positions: ask.positions.clone(),
            group,
            rows_per_list: group * ask.per_list,
            list_len: ask.list_len,
        };
        let tasks: Vec<ListTask> = asks.iter().enumerate().map(task).collect();
        let jobs = DeviceBuffer::new(&device, tasks.len())?;
        session.memory(jobs.span(), Memory::Bookkeeping);
        let build = BuildLists::new(&device, head.shape().head_layout(format), &tasks, jobs.span())?;
        session.forget_counted();
        build.totals()?;
        build.lists()?;
        build.missed()?;
        device.compute().wait()?;
        for (kernel, expected) in build.traffic() {
            let is_over_keys = !["join_totals", "list_top"].contains(&kernel);
            let name = if is_over_keys { format!("{kernel}_{}_d{head_dim}", name_of(format)) } else { kernel.to_owned() };
            let counted = session.counted(&name);
            assert_eq!(counted.launches, 1, "{name}");
            assert_eq!(traffic(&counted), expected, "{name}, group {group}, {region} positions");
            let most = (bytes_of(jobs.span()) + bytes_of(pages.table())) as i64;
            assert!(counted.bookkeeping <= most, "{name}: {counted:?}, at most {most}");
        }
        session.forget_counted();
    }
    Ok(())
}

#[test]
fn words_read() -> Result<()> {
    let session = session();
    let device = Device::open_with(0, &[read_words::FAMILY])?;
    let parts_len = ReadWords::parts_len(&device);
    for quads in [0, 1, parts_len + 1, 5 * parts_len - 1] {
        let from = DeviceBuffer::zeroed(&device, 4 * quads)?;
        let parts = DeviceBuffer::new(&device, parts_len)?;
        session.memory(from.span(), Memory::Stored);
        let read = ReadWords { from: from.span(), parts: parts.span() };
        read.launch(&device, device.compute())?;
        device.compute().wait()?;
        let counted = counted(&session, &["read_words"]);
        assert_eq!(traffic(&counted), read.traffic(), "{quads} quads");
        assert_eq!((counted.by_blocks, counted.asked), (counted.stored, counted.stored), "{quads} quads: each once");
    }
    Ok(())
}
