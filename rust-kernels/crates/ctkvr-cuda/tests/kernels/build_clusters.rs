//! kernels/build_clusters.cu against the CPU's own clusters: the same bits, where that has fused multiply-add.

use crate::built::Pages;
use crate::retrieval::head::{Case, Head, Numbers};
use ctkvr_core::tail::ClusterOptions;
use ctkvr_core::tail::segment::{MadeClusters, TailSegment};
use ctkvr_cuda::launch::build_clusters::{self, BuildClusters, ClusterPlan, ClusterTask, spread_len};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Result};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{Kernels, KvFormat};
use std::sync::atomic::AtomicBool;

/// A table whose products are fused, as a device's are: every one but the plain one.
fn fused(head_dim: usize) -> &'static Kernels {
    Kernels::available().into_iter().find(|k| k.name != "scalar" && head_dim.is_multiple_of(k.lanes)).expect("this machine's own")
}

/// Clusters of some positions of heads of one shape, all in one launch, rounded to a format.
fn clusters(device: &Device, tasks: &[ClusterTask], head: &Head, format: KvFormat) -> Result<Vec<TailSegment>> {
    let (d, stream) = (head.case.head_dim, device.compute());
    let plan = ClusterPlan::new(tasks);
    let jobs = DeviceBuffer::from_slice(device, &plan.jobs)?;
    let stretches = DeviceBuffer::from_slice(device, &plan.stretches)?;
    let spreads = DeviceBuffer::new(device, plan.stretches.len() * spread_len(d))?;
    let weights = DeviceBuffer::new(device, tasks.len())?;
    let assigned = DeviceBuffer::new(device, plan.num_rows())?;
    let centres = DeviceBuffer::new(device, plan.num_clusters() * 2 * d)?;
    let offsets = DeviceBuffer::new(device, plan.num_clusters())?;
    let (keys, values) = (DeviceBuffer::new(device, plan.num_clusters() * d)?, DeviceBuffer::new(device, plan.num_clusters() * d)?);
    let build = BuildClusters {
        plan: &plan,
        layout: head.shape().head_layout(head.case.format),
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
    build.launch(device, stream)?;
    let (assigned, keys, values): (Vec<u16>, Vec<f32>, Vec<f32>) =
        (assigned.to_vec(device)?, keys.to_vec(device)?, values.to_vec(device)?);
    let segment = |job: usize| {
        let rows = plan.clusters[job].start * d..plan.clusters[job].end * d;
        let (assigned, start) = (&plan.clusters_of(job, &assigned), tasks[job].positions.start);
        let made = MadeClusters { assigned, keys: &keys[rows.clone()], values: &values[rows], head_dim: d };
        TailSegment::from_clusters(head.kernels, (start, head.len), &made, format)
    };
    Ok((0..tasks.len()).map(segment).collect())
}

#[test]
fn the_cpus_clusters_bit_by_bit() -> Result<()> {
    let session = session();
    let device = Device::open_with(0, &[build_clusters::FAMILY])?;
    let (mut random, mut rounded) = (Random(71), 0);
    for round in 0..18 {
        let seed = random.bits();
        let mut case_random = Random(seed);
        let head_dim = [64, 96, 128, 256][round % 4];
        let format = if case_random.once_in(2) { KvFormat::F16 } else { KvFormat::Q8 };
        let numbers = if case_random.once_in(3) { Numbers::Small } else { Numbers::Real };
        // About whole tiles of 64 rows, whole pages, and one stretch or more.
        let region = case_random.one_of(&[1, 2, 31, 63, 64, 65, 130, 255, 300, 600]);
        let region = if round == 4 || round == 9 { 1700 } else { region };
        let case = Case { seed, head_dim, format, numbers, region, sinks: 5, num_queries: 1, tail: false, ..Case::default() };
        let head = Head::new(case);
        let pages = Pages::of(&device, &head)?;
        let task = |positions, cluster_size| ClusterTask {
            pages: pages.address(),
            head_offset: head.offset() as u64,
            positions,
            cluster_size,
        };
        // In 8 bits only where there are clusters enough.
        let (of_means, small) = if round % 3 == 0 { (KvFormat::F16, case_random.one_of(&[1, 2, 7])) } else { (KvFormat::Q8, 1) };
        // All of the region, a part of it in small clusters (many a stretch), and few positions in one.
        let some = 5 + region / 3..5 + region;
        let tasks = [task(5..5 + region, 32), task(some, small), task(0..5, 64)];
        session.order(ORDERS[round % 3]);
        let what = format!("seed {seed}, head_dim {head_dim}, {format:?}, {numbers:?}, {region} positions");
        let kernels = fused(head_dim);
        for (task, actual) in tasks.iter().zip(clusters(&device, &tasks, &head, of_means)?) {
            let (start, n) = (task.positions.start, task.positions.len());
            let rows = (&head.kv().keys(start, n), &head.kv().values(start, n));
            let options = ClusterOptions { size: task.cluster_size, format: of_means };
            let expected = TailSegment::build(kernels, rows, (start, head.len), options, &AtomicBool::new(false));
            let expected = expected.expect("not cancelled");
            assert_eq!(actual.cluster_of, expected.cluster_of, "{what}, {task:?}");
            let [mean_keys, expected_keys] = [&actual, &expected].map(|of| of.means().keys_in_f16().into_owned());
            assert_eq!(mean_keys, expected_keys, "{what}, {task:?}: mean keys");
            assert_eq!(actual, expected, "{what}, {task:?}");
            rounded += usize::from(actual.means().format() == KvFormat::Q8);
        }
    }
    assert!(rounded > 2, "{rounded} in 8 bits");
    Ok(())
}

/// Every order of warps gives the same bits, in memory that held something else.
#[test]
fn the_same_in_every_order_of_warps() -> Result<()> {
    let session = session();
    let device = Device::open_with(0, &[build_clusters::FAMILY])?;
    for format in [KvFormat::F16, KvFormat::Q8] {
        let case = Case { seed: 5, format, numbers: Numbers::Real, region: 700, num_queries: 1, tail: false, ..Case::default() };
        let head = Head::new(case);
        let pages = Pages::of(&device, &head)?;
        let task = ClusterTask { pages: pages.address(), head_offset: head.offset() as u64, positions: 4..704, cluster_size: 8 };
        let mut first = None;
        for order in ORDERS {
            session.order(order);
            let made = clusters(&device, std::slice::from_ref(&task), &head, KvFormat::F16)?;
            assert_eq!(*first.get_or_insert_with(|| made_of(&made)), made_of(&made), "{format:?}, {order:?}");
        }
    }
    Ok(())
}

fn made_of(segments: &[TailSegment]) -> Vec<(Vec<u16>, Vec<u16>)> {
    segments.iter().map(|segment| (segment.cluster_of.clone(), segment.means().keys_in_f16().into_owned())).collect()
}
