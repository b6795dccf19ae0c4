//! States of heads: CTkvr's are built on the device, those of methods without kernels on the host, where keys are copied.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::index::encoding::HeadExtent;
use ctkvr_core::retriever::HeadState;
use ctkvr_core::sequence::head_plan::{Planned, Planner};
use ctkvr_core::sequence::index_builder::{IndexBuilder, Stored};
use ctkvr_core::sequence::lifecycle::{EncodedHead, HeadTask};
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{Ctkvr, CtkvrOptions, Result};

use crate::Device;
use crate::device_builder::{BuildMemory, DeviceBuilder, HeadBuild, core_error};
use crate::host_head::HostHead;
use crate::kv_pool::DeviceKvPool;

/// What states are made with.
pub(crate) struct HeadMaking<'a> {
    pub device: &'a Device,
    pub pool: &'a DeviceKvPool,
    /// Shape, CPU kernels and threads.
    pub host: &'a IndexBuilder,
    pub memory: &'a Mutex<BuildMemory>,
}

/// Until when, and whether at all.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub deadline: Option<Instant>,
    pub cancel: &'a AtomicBool,
}

impl Patience<'_> {
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::now() >= at)
    }
}

impl HeadMaking<'_> {
    /// As [`ctkvr_core::sequence::lifecycle::HeadMaker::make_heads`].
    ///
    /// # Errors
    /// As that; `OutOfMemory`, `DeviceLost`.
    pub fn make(&self, sequence: &Sequence, tasks: &[HeadTask], patience: Patience) -> Result<Vec<HeadState>> {
        let method: &dyn Any = &*sequence.selector.method;
        match method.downcast_ref::<Ctkvr>() {
            Some(method) => self.make_ctkvr_heads(sequence, tasks, method.options, patience),
            None => self.make_on_host(sequence, tasks, patience),
        }
    }

    /// Runs of heads whose keys are in one place, in their order.
    fn make_ctkvr_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        options: CtkvrOptions,
        patience: Patience,
    ) -> Result<Vec<HeadState>> {
        let hybrid = self.pool.placement().host_heads();
        let mut made = Vec::with_capacity(tasks.len());
        for run in tasks.chunk_by(|a, b| hybrid.contains(&a.head) == hybrid.contains(&b.head)) {
            if !made.is_empty() && patience.is_over() {
                break;
            }
            let states = self.make_ctkvr(sequence, run, options, patience)?;
            let is_whole = states.len() == run.len();
            made.extend(states);
            if !is_whole {
                break;
            }
        }
        Ok(made)
    }

    /// Where the device finds pages, each as if all heads before these lay in it: on the device, or in host memory, over the bus.
    fn pages(&self, sequence: &Sequence, head: usize) -> Vec<u64> {
        let (placement, pages) = (self.pool.placement(), sequence.kv.pages());
        if !placement.host_heads().contains(&head) {
            return self.pool.with_pages(pages, |page| page.device().address());
        }
        let before = (placement.device_heads() * self.pool.head_layout(sequence.kv.format()).bytes()) as u64;
        self.pool.with_pages(pages, |page| page.host().address().wrapping_sub(before))
    }

    /// Heads whose keys are in one place.
    fn make_ctkvr(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        options: CtkvrOptions,
        patience: Patience,
    ) -> Result<Vec<HeadState>> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let IndexBuilder { shape, kernels, num_threads } = *self.host;
        let pages = self.pages(sequence, tasks[0].head);
        let table = memory.table.filled(self.device, &pages).map_err(core_error)?;
        let builder = DeviceBuilder {
            device: self.device,
            kernels,
            num_threads,
            layout: shape.page_shape().head_layout(sequence.kv.format()),
            group: shape.group_size(),
            pages: table.address(),
            on_host: self.pool.placement().host_heads().contains(&tasks[0].head),
            cancel: patience.cancel,
        };
        let planner = Planner { shape, kernels, sequence };
        let mut made = Vec::with_capacity(tasks.len());
        while made.len() < tasks.len() && (made.is_empty() || !patience.is_over()) {
            // The first is made even when it is too late to begin any.
            let most = if patience.is_over() { 1 } else { BuildMemory::MOST_HEADS };
            let planned: Vec<Planned> = tasks[made.len()..].iter().take(most).map(|task| planner.plan(task)).collect();
            let builds: Vec<HeadBuild> = planned.iter().filter_map(|planned| head_build(planned, sequence, options)).collect();
            let at_once = memory.heads_at_once(&builder, &builds);
            let mut states = builder.build(&mut memory, &builds[..at_once])?.into_iter();
            for planned in &planned {
                let state = match planned {
                    Planned::Stays(state) => state.clone(),
                    Planned::Decoded(encoded) => decoded(encoded, &builder, options)?,
                    Planned::Made(plan) => match states.next() {
                        Some(state) => plan.state(Arc::new(state)),
                        // Its turn comes with the next ones.
                        None => break,
                    },
                };
                made.push(state);
            }
        }
        Ok(made)
    }

    /// Keys and values are copied, as many heads at a time as there are threads.
    fn make_on_host(&self, sequence: &Sequence, tasks: &[HeadTask], patience: Patience) -> Result<Vec<HeadState>> {
        let mut made = Vec::with_capacity(tasks.len());
        for tasks in tasks.chunks(self.host.num_threads) {
            if !made.is_empty() && patience.is_over() {
                break;
            }
            let copies: Vec<HostHead> = tasks
                .iter()
                .map(|task| HostHead::of(self.device, self.pool, sequence, task.head))
                .collect::<crate::Result<_>>()
                .map_err(core_error)?;
            let kv = |head| {
                let place = tasks.iter().position(|task| task.head == head);
                place.map(|place| copies[place].kv()).expect("a head of the tasks")
            };
            made.extend(self.host.make_heads_of(&Stored { sequence, kv: &kv }, tasks, patience.deadline, patience.cancel)?);
        }
        Ok(made)
    }
}

/// What the device makes of a plan; `None` where nothing is to be made.
fn head_build<'a>(planned: &'a Planned, sequence: &Sequence, options: CtkvrOptions) -> Option<HeadBuild<'a>> {
    let Planned::Made(plan) = planned else { return None };
    let before = plan.before.as_ref().map(|state| {
        let head: &dyn Any = &*state.head;
        head.downcast_ref::<CtkvrHead>().expect("a sequence's states are its method's")
    });
    Some(HeadBuild { plan, before, options, build: sequence.selector.build })
}

/// Needs no keys.
fn decoded(encoded: &EncodedHead, builder: &DeviceBuilder, options: CtkvrOptions) -> Result<HeadState> {
    let EncodedHead { bytes, region, made_at, grown_at } = encoded;
    let (region, num_tokens): (Range<usize>, usize) = (region.clone(), *made_at);
    let extent = HeadExtent { region, num_tokens, head_dim: builder.layout.head_dim, group: builder.group };
    let head = CtkvrHead::decoded(bytes, &extent, options)?;
    Ok(HeadState { head: Arc::new(head), end: encoded.region.end, made_at: *made_at, grown_at: *grown_at })
}
