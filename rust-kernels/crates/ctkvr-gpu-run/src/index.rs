//! An index of heads at the model's length: on the device, many heads side by side, and on the CPU, where the core builds it.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::sequence::head_plan::HeadPlan;
use ctkvr_cuda::device_builder::{BuildMemory, DeviceBuilder, HeadBuild};
use ctkvr_kernels::Kernels;

use crate::Result;
use crate::heads::{BUILD, MADE, MadeHead, SINKS, WINDOW, options};
use crate::line::Line;
use crate::model::page_layout;
use crate::sequences::Sequence;
use crate::shape::Shape;

pub fn run(shape: &'static Shape) -> Result<()> {
    let device = crate::open()?;
    let made = MadeHead::all(shape)?;
    for head in &made {
        line(shape, "CPU", MADE, head.build_ms).print()?;
    }
    let sequences = Sequence::some(&device, shape, &made, 1)?;
    let Some(sequence) = sequences.first() else { return Err("not even one sequence fits in the device's memory".into()) };
    let cancel = AtomicBool::new(false);
    let builder = DeviceBuilder {
        device: &device,
        kernels: Kernels::named("", shape.head_dim)?,
        num_threads: std::thread::available_parallelism()?.get(),
        layout: page_layout(shape),
        group: shape.group,
        pages: sequence.table(),
        on_host: false,
        cancel: &cancel,
    };
    let plans: Vec<HeadPlan> = (0..shape.heads().min(BuildMemory::MOST_HEADS)).map(|head| plan(shape, &made, head)).collect();
    let builds: Vec<HeadBuild> =
        plans.iter().map(|plan| HeadBuild { plan, before: None, options: options(), build: BUILD }).collect();
    let mut memory = BuildMemory::default();
    let at_once = memory.heads_at_once(&builder, &builds);
    // The first round takes the memory.
    for _ in 0..2 {
        let begun = Instant::now();
        let heads = builder.build(&mut memory, &builds[..at_once])?;
        let ms = begun.elapsed().as_secs_f64() * 1e3 / at_once as f64;
        let same = heads.iter().enumerate().map(|(i, head)| same_positions(head, &made[i % MADE].indexed)).sum::<f64>();
        line(shape, "device", at_once, ms).number("same_percent", 100.0 * same / at_once as f64).print()?;
    }
    Ok(())
}

fn line(shape: &Shape, place: &str, at_once: usize, ms: f64) -> Line {
    let line = Line::of("index").text("on", place).count("positions", shape.context).count("side_by_side", at_once);
    line.number("ms_of_a_head", ms)
}

fn plan(shape: &Shape, made: &[MadeHead], head: usize) -> HeadPlan {
    let len = shape.context;
    let queries = made[head % MADE].queries.clone();
    HeadPlan { head, region: SINKS..len - WINDOW, queries, len, grown_at: len, before: None }
}

/// How much of the lists of one is in those of the other.
fn same_positions(actual: &CtkvrHead, expected: &CtkvrHead) -> f64 {
    let positions = |of: &CtkvrHead| {
        let mut all = Vec::new();
        for (s, segment) in of.index.segments().iter().enumerate() {
            for list in 0..segment.lists.len() {
                segment.lists.for_each(list, |position| all.push((s, list, position)));
            }
        }
        all.sort_unstable();
        all
    };
    let (actual, expected) = (positions(actual), positions(expected));
    let both = expected.iter().filter(|of| actual.binary_search(of).is_ok()).count();
    both as f64 / expected.len() as f64
}
