//! The host's part of a layer's decodes: where keys lie in host memory, it scores what the device has found, chooses, and attends to it; or
//! does all of a head where the device has nothing to search.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ctkvr_core::attention::alone::choose_alone;
use ctkvr_core::attention::decode::{AttendScratch, HeadDecode, HeadStep, Layout, Part};
use ctkvr_core::kv::head_kv::HeadKv;
use ctkvr_core::retriever::{Candidates, HeadRetriever, HeadSearch, HeadState};
use ctkvr_core::selector::SelectorOptions;
use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_core::{AttentionShape, SelectionCounters};
use ctkvr_engine::{Error, Result};
use ctkvr_kernels::Kernels;
use ctkvr_threads::{Job, Stopped, Team, Units};

use crate::exchange::Received;
use crate::launch::merge::host_len;
use crate::launch::search_state::candidates_code;

/// One (row, KV head).
pub struct HostItem<'a> {
    /// In the layer.
    pub slot: usize,
    pub layout: Layout,
    /// Whether the true share of the attention is measured.
    pub audit: bool,
    pub kv: HeadKv<'a>,
    pub work: HostWork<'a>,
}

/// What there is to do.
pub enum HostWork<'a> {
    /// What is listed: positions in the region, as many as the search says. Sinks, window and tail are the device's.
    Listed(&'a [u32]),
    /// Everything.
    Whole(WholeHead<'a>),
}

/// A head that the device does nothing of.
pub struct WholeHead<'a> {
    /// What is searched; `None`: everything is read.
    pub state: Option<&'a HeadState>,
    pub selector: &'a SelectorOptions,
    pub may_repair: bool,
}

/// What came of an item, beside what the device merges.
#[derive(Default)]
pub struct HostOutcome {
    /// Values read of those listed.
    pub num_selected: usize,
    /// log-sum-exp over everything `[group]`, of an audited item whose share the device knows.
    pub dense_lse: Vec<f32>,
    /// Of an item that was the host's as a whole.
    pub counters: Option<SelectionCounters>,
    /// The query, f32 `[group, head_dim]`, that was answered with everything because nothing indexed is like it.
    pub repair: Option<Vec<f32>>,
}

/// What a thread works with; kept from layer to layer.
#[derive(Default)]
struct HostScratch {
    decode: HeadDecode,
    attend: Option<AttendScratch>,
    out: Vec<f32>,
}

/// Threads of the host, and their memory.
pub struct HostTeam {
    shape: AttentionShape,
    kernels: &'static Kernels,
    team: Team,
    scratch: Vec<Mutex<HostScratch>>,
}

/// A layer's items as a job.
struct LayerJob<'a> {
    items: &'a [HostItem<'a>],
    received: Received<'a>,
    shape: AttentionShape,
    kernels: &'static Kernels,
    scratch: &'a [Mutex<HostScratch>],
    outcomes: Vec<Mutex<HostOutcome>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostTeam {
    /// # Errors
    /// `Internal` when the system has no more threads.
    pub fn new(builder: &IndexBuilder) -> Result<Self> {
        let IndexBuilder { shape, kernels, num_threads } = *builder;
        let team = Team::new(num_threads).map_err(|error| Error::Internal { what: format!("threads cannot start: {error}") })?;
        let scratch = (0..num_threads.max(1)).map(|_| Mutex::default()).collect();
        Ok(Self { shape, kernels, team, scratch })
    }

    /// Does the items of a layer; outcomes in their order.
    ///
    /// # Errors
    /// `Cancelled`.
    ///
    /// # Panics
    /// With what a thread panicked with.
    pub fn run(&self, items: &[HostItem], received: Received, cancel: &AtomicBool) -> Result<Vec<HostOutcome>> {
        let outcomes = items.iter().map(|_| Mutex::default()).collect();
        let job = LayerJob { items, received, shape: self.shape, kernels: self.kernels, scratch: &self.scratch, outcomes };
        match self.team.run(&job, cancel) {
            Ok(()) => Ok(job.outcomes.into_iter().map(|of| of.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()),
            Err(Stopped::Cancelled) => Err(Error::Cancelled),
            Err(Stopped::Panicked(what)) => std::panic::resume_unwind(what),
        }
    }
}

impl Job for LayerJob<'_> {
    fn open(&self, phase: usize) -> Option<Units> {
        (phase == 0).then(|| Units::of(self.items.len(), 1))
    }

    fn work(&self, _phase: usize, units: Range<usize>, thread: usize) -> usize {
        let scratch = &mut *lock(&self.scratch[thread]);
        for i in units.clone() {
            let outcome = self.item(&self.items[i], scratch);
            *lock(&self.outcomes[i]) = outcome;
        }
        units.len()
    }
}

impl LayerJob<'_> {
    fn item(&self, item: &HostItem, scratch: &mut HostScratch) -> HostOutcome {
        let (group, d) = (self.shape.group_size(), self.shape.head_dim);
        let query = &self.received.queries[item.slot * group * d..(item.slot + 1) * group * d];
        scratch.out.resize(group * d, 0.0);
        // SAFETY: room for each slot, and an item has its own.
        let given =
            unsafe { std::slice::from_raw_parts_mut(self.received.given.add(item.slot * host_len(group, d)), host_len(group, d)) };
        let step = HeadStep { query, group, layout: item.layout, may_repair: false };
        let outcome = match &item.work {
            HostWork::Listed(positions) => self.listed(item, positions, step, scratch),
            HostWork::Whole(work) => self.whole(item, work, step, scratch),
        };
        self.give(scratch, given);
        outcome
    }

    /// Attention over what is listed alone: softmax over it, and what was scored and dropped.
    fn listed(&self, item: &HostItem, positions: &[u32], step: HeadStep, scratch: &mut HostScratch) -> HostOutcome {
        let search = &self.received.searches[item.slot];
        let Layout { start, end, len, .. } = item.layout;
        let everything = search.candidates == candidates_code(Candidates::All);
        // Positions are counted from the first one on, so that nothing of this layout is sinks or window.
        let step = HeadStep { layout: Layout { start: 0, len: end, ..item.layout }, ..step };
        scratch.decode.search(self.kernels, &step, |_, _, out| {
            out.candidates = Candidates::Listed;
            out.reads_all = everything || search.reads_all != 0;
            if everything {
                out.positions.extend(start as u32..end as u32);
            } else {
                out.positions.extend_from_slice(&positions[..search.num_candidates as usize]);
            }
        });
        self.attend(&item.kv, scratch, None, false);
        let HostScratch { decode, attend, .. } = scratch;
        let dense_lse = attend.as_mut().filter(|_| item.audit);
        HostOutcome {
            num_selected: decode.selected().len(),
            dense_lse: dense_lse.map_or_else(Vec::new, |of| decode.dense_lses(self.kernels, &item.kv, len, &mut of.scores)),
            ..HostOutcome::default()
        }
    }

    /// A step as the CPU's executor does it.
    fn whole(&self, item: &HostItem, work: &WholeHead, step: HeadStep, scratch: &mut HostScratch) -> HostOutcome {
        let retriever = work.state.map(|state| state.head.as_ref());
        let step = HeadStep { may_repair: work.may_repair, ..step };
        scratch.decode.search(self.kernels, &step, |query, scratch, out| {
            if let Some(head) = retriever {
                work.selector.method.search(&mut [HeadSearch { head, query, scratch, out }]);
            }
        });
        let repair = scratch.decode.repairs().map(<[f32]>::to_vec);
        let counters = self.attend(&item.kv, scratch, retriever, item.audit);
        HostOutcome { counters: Some(counters), repair, ..HostOutcome::default() }
    }

    /// What follows a search; `retriever`: the head that proposed.
    fn attend(
        &self,
        kv: &HeadKv,
        scratch: &mut HostScratch,
        retriever: Option<&dyn HeadRetriever>,
        audit: bool,
    ) -> SelectionCounters {
        let (kernels, group) = (self.kernels, self.shape.group_size());
        let HostScratch { decode, attend, out } = scratch;
        let attend = attend.get_or_insert_with(|| AttendScratch::new(group));
        let mut counters = SelectionCounters::default();
        choose_alone(kernels, kv, decode, retriever);
        // SAFETY: the only part, on one thread.
        unsafe { decode.attend(kernels, kv, Part::WHOLE, attend) };
        decode.finish(kernels, kv, out, &mut counters, audit.then_some(&mut attend.scores[..]));
        counters
    }

    /// Normalised values have a sum of 1 and their log-sum-exp for a maximum.
    fn give(&self, scratch: &HostScratch, given: &mut [f32]) {
        let (group, d) = (self.shape.group_size(), self.shape.head_dim);
        let HostScratch { decode, out, .. } = scratch;
        let (values, rest) = given.split_at_mut(group * d);
        values.copy_from_slice(out);
        let (maxima, rest) = rest.split_at_mut(group);
        let (sums, dropped) = rest.split_at_mut(group);
        for h in 0..group {
            maxima[h] = decode.lse(h);
            sums[h] = f32::from(maxima[h] > f32::NEG_INFINITY);
        }
        for (h, of_head) in dropped.chunks_exact_mut(2).enumerate() {
            let none = (f32::NEG_INFINITY, 0.0);
            let (max, sum) = decode.dropped().get(h).map_or(none, |total| (total.max, total.sum));
            of_head.copy_from_slice(&[max, sum]);
        }
    }
}
