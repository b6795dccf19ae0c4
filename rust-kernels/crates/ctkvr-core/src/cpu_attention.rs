//! The CPU side of the engine: sequences, and the attention of a step on the graph's own threads.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::{
    AttentionBackend, AttentionShape, BuildReport, LayerAttention, LayerIo, Phase, SelectionCounters, SequenceId, SequenceMemory,
    SequenceRows, StepReport, Thread,
};
use crate::block_builder::BlockInput;
use crate::centroid_index::{CentroidIndex, FirstInput};
use crate::decode::{AttendScratch, HeadDecode, Layout, Part};
use crate::decode_schedule::{DecodeSchedule, Stage, Taken};
use crate::error::{Error, Result};
use crate::kernels::{Kernels, KvFormat, Rows};
use crate::key_clusters::KeyClusters;
use crate::magicpig::MagicPig;
use crate::options::{SelectorKind, SelectorOptions};
use crate::panels::widen_rows;
use crate::partial::Partial;
use crate::prefill::{PrefillItem, PrefillScratch, tokens_per_item};
use crate::prefill_parts::{PrefillPart, PrefillParts};
use crate::quest::Quest;
use crate::recent_queries::Placement;
use crate::selector::{Ctkvr, Everything, ExactTopK, HeadSelector, Streaming};
use crate::sequence::{HeadState, PartialBuild, Sequence, SequenceIndex};
use crate::snapkv::{SnapKv, SnapKvInput};
use crate::stage_clock::{Activity, StageClock, StageTotals};
use crate::team::{Broken, Team};

/// KV, selectors and attention of all sequences of one model, on the CPU.
pub struct CpuAttention {
    shape: AttentionShape,
    kernels: &'static Kernels,
    sequences: Mutex<HashMap<SequenceId, Slot>>,
    next_id: AtomicU64,
    step: UnsafeCell<Step>,
    team: Team,
    threads: Vec<UnsafeCell<ThreadScratch>>,
}

// SAFETY: `step` is written by begin_step, end_step and abort_step only, between which `run` reads it (the trait's contract: one
// step at a time, no other call meanwhile); inside `run`, the stages of a cell wait for each other
// (DecodeSchedule).
unsafe impl Sync for CpuAttention {}

/// See [`CpuAttention::stored_head`]; widened.
pub struct StoredHead {
    /// `[len, head_dim]`, after rotary embedding.
    pub keys: Vec<f32>,
    /// `[len, head_dim]`.
    pub values: Vec<f32>,
    /// `[held, group, head_dim]`, after rotary embedding, the newest last: as many as the selector keeps for centroids.
    pub queries: Vec<f32>,
}

/// A sequence is either here or lent to the open step or build; then its last figures answer for it.
enum Slot {
    Here(Box<Sequence>),
    Lent { len: usize, memory: SequenceMemory, indexed: (usize, usize), num_recent: usize, closed: bool },
}

/// The open step.
#[derive(Default)]
struct Step {
    rows: Vec<StepRows>,
    /// Work and memory of each decode row's KV heads: `[decode rows, num_kv_heads]`; never shrinks.
    decodes: Vec<UnsafeCell<HeadDecode>>,
    num_decodes: usize,
    /// Which of `rows` decode, in order.
    decode_rows: Vec<usize>,
    schedule: DecodeSchedule,
    /// Work items of the prefill rows of one layer.
    prefills: PrefillParts,
    audit: bool,
    times: StageTotals,
}

struct StepRows {
    id: SequenceId,
    sequence: Box<Sequence>,
    first_row: usize,
    num_rows: usize,
    phase: Phase,
    /// Where the rows' queries go.
    placement: Placement,
    layout: Layout,
    /// Dense repair steps that this row may have, and those that it had before the layer that runs.
    repair_budget: usize,
    repairs_before: AtomicUsize,
    repairs: Mutex<Vec<Repair>>,
    /// The (layer, KV head) that this step audits, of a sequence that samples: `layer * num_kv_heads + kv_head`.
    sampled_head: Option<usize>,
    /// One per KV head, so that threads need not share.
    counters: Vec<UnsafeCell<SelectionCounters>>,
}

/// A query that was answered densely, to become a centroid when the step ends.
struct Repair {
    /// (layer, KV head).
    head: usize,
    /// f32 `[group, head_dim]`.
    query: Vec<f32>,
}

struct ThreadScratch {
    prefill: PrefillScratch,
    prefill_total: Partial,
    attend: AttendScratch,
}

impl CpuAttention {
    /// `num_threads`: most threads that will call [`LayerAttention::run`] together. Kernels are the fastest of this machine.
    pub fn new(shape: AttentionShape, num_threads: usize) -> Result<Self> {
        Self::with_isa(shape, num_threads, "")
    }

    /// Like `new` with named kernels, for tests; an empty name is the fastest.
    pub fn with_isa(shape: AttentionShape, num_threads: usize, isa: &str) -> Result<Self> {
        let kernels = Kernels::named(isa, shape.head_dim)?;
        if shape.num_kv_heads == 0 || !shape.num_q_heads.is_multiple_of(shape.num_kv_heads) || shape.num_q_heads == 0 {
            return Err(Error::InvalidOption {
                option: "numQueryHeads",
                expected: format!("a multiple of the {} KV heads", shape.num_kv_heads),
                actual: shape.num_q_heads.to_string(),
            });
        }
        let scratch = || {
            let attend = AttendScratch::new(shape.group_size());
            UnsafeCell::new(ThreadScratch { prefill: PrefillScratch::default(), prefill_total: Partial::default(), attend })
        };
        Ok(Self {
            shape,
            kernels,
            sequences: Mutex::default(),
            next_id: AtomicU64::new(1),
            step: UnsafeCell::default(),
            team: Team::default(),
            threads: (0..num_threads.max(1)).map(|_| scratch()).collect(),
        })
    }

    /// The kernels in use.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// What is stored of one (layer, KV head) of a sequence that is in no step: for study, and for golden data.
    pub fn stored_head(&self, id: SequenceId, layer: usize, kv_head: usize) -> Result<StoredHead> {
        let AttentionShape { num_layers, num_kv_heads, head_dim: d, .. } = self.shape;
        for (option, index, count) in [("layer", layer, num_layers), ("kvHead", kv_head, num_kv_heads)] {
            if index >= count {
                return Err(Error::InvalidOption { option, expected: format!("below {count}"), actual: index.to_string() });
            }
        }
        self.with(id, |sequence| {
            let kv = &sequence.heads[layer * num_kv_heads + kv_head];
            let widened = |rows: Rows| {
                let mut out = vec![0.0; rows.len() * d];
                widen_rows(self.kernels, &rows, 0, rows.len(), &mut out);
                out
            };
            let (keys, values) = (widened(kv.keys(0, sequence.len)), widened(kv.values(0, sequence.len)));
            let held = sequence.recent.len();
            let queries = self.widened_queries(sequence, layer * num_kv_heads + kv_head, 0..held);
            Ok(StoredHead { keys, values, queries })
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SequenceId, Slot>> {
        self.sequences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, sequence: Sequence) -> SequenceId {
        let id = SequenceId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.lock().insert(id, Slot::Here(Box::new(sequence)));
        id
    }

    /// Runs `f` on a sequence that is here.
    fn with<T>(&self, id: SequenceId, f: impl FnOnce(&mut Sequence) -> Result<T>) -> Result<T> {
        match self.lock().get_mut(&id) {
            Some(Slot::Here(sequence)) => f(sequence),
            _ => Err(Error::UnknownSequence(id.0)),
        }
    }

    /// Takes a sequence out until [`CpuAttention::give_back`].
    fn lend(&self, id: SequenceId) -> Result<Box<Sequence>> {
        let mut sequences = self.lock();
        let slot = sequences.get_mut(&id).ok_or(Error::UnknownSequence(id.0))?;
        let Slot::Here(sequence) = slot else { return Err(Error::UnknownSequence(id.0)) };
        let indexed = sequence.index.as_ref().map_or((0, 0), |i| (i.start, i.end()));
        let num_recent = sequence.recent.len();
        let lent = Slot::Lent { len: sequence.len, memory: sequence.memory(), indexed, num_recent, closed: false };
        match std::mem::replace(slot, lent) {
            Slot::Here(sequence) => Ok(sequence),
            Slot::Lent { .. } => Err(Error::UnknownSequence(id.0)),
        }
    }

    fn give_back(&self, id: SequenceId, sequence: Box<Sequence>) {
        let mut sequences = self.lock();
        if let Some(Slot::Lent { closed: true, .. }) = sequences.get(&id) {
            sequences.remove(&id);
        } else {
            sequences.insert(id, Slot::Here(sequence));
        }
    }

    fn step(&self) -> &Step {
        // SAFETY: see the Sync impl.
        unsafe { &*self.step.get() }
    }

    #[allow(clippy::mut_from_ref, reason = "the trait's contract makes begin, end and abort exclusive")]
    fn step_mut(&self) -> &mut Step {
        // SAFETY: see the Sync impl.
        unsafe { &mut *self.step.get() }
    }

    /// Stores this layer's new keys and values, and queries for the ring. Rows are dealt out to the threads.
    fn append(&self, layer: usize, io: &LayerIo, thread: Thread) {
        let (AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. }, kernels) = (self.shape, self.kernels);
        for rows in &self.step().rows {
            for i in (thread.index..rows.num_rows).step_by(thread.count) {
                let (row, position) = (rows.first_row + i, rows.sequence.len + i);
                for g in 0..num_kv_heads {
                    let kv = &rows.sequence.heads[layer * num_kv_heads + g];
                    // SAFETY: begin_step reserved the position; this thread alone writes it; io holds the row.
                    unsafe {
                        let source = (row * num_kv_heads + g) * d;
                        kv.store(kernels, position, io.keys.add(source), io.values.add(source));
                    }
                }
                // Of a long prefill only the end is kept; two rows must not race for one slot.
                if i >= rows.placement.skip {
                    let slot = rows.sequence.recent.write_slot(layer, &rows.placement, i);
                    // SAFETY: begin_step made the rings this sequence's own; each row has its own slot.
                    unsafe { (kernels.narrow)(io.queries.add(row * num_q_heads * d), num_q_heads * d, slot) };
                }
            }
        }
    }

    fn run_layer(&self, layer: usize, io: &LayerIo, thread: Thread) -> std::result::Result<(), Broken> {
        let step = self.step();
        let mut clock = StageClock::start();
        self.append(layer, io, thread);
        if thread.index == 0 {
            step.schedule.restart(|head| self.head_state(head, layer).is_some_and(|state| state.selector.scores_all()));
            // Heads of one layer see the same count, whichever thread comes first.
            step.rows.iter().for_each(|rows| rows.repairs_before.store(lock(&rows.repairs).len(), Ordering::Relaxed));
        }
        clock.lap(Activity::Store);
        self.team.meet(thread.count)?;
        clock.lap(Activity::Wait);
        if step.num_decodes > 0 {
            self.decode(layer, io, thread, &mut clock)?;
        }
        if !step.prefills.is_empty() {
            // SAFETY: each thread has its own scratch.
            self.prefill(layer, io, unsafe { &mut *self.threads[thread.index].get() });
            clock.lap(Activity::Prefill);
        }
        step.times.add(&clock, thread.count);
        Ok(())
    }

    /// This thread's share of the decode rows: items of all heads and stages, each waiting only for its own head's earlier stage.
    fn decode(&self, layer: usize, io: &LayerIo, thread: Thread, clock: &mut StageClock) -> std::result::Result<(), Broken> {
        let AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. } = self.shape;
        let (step, kernels, group) = (self.step(), self.kernels, self.shape.group_size());
        // SAFETY: each thread has its own scratch.
        let scratch = unsafe { &mut (*self.threads[thread.index].get()).attend };
        let num_parts = step.schedule.num_parts(thread.count);
        let take = || step.schedule.take(thread.index, thread.count, num_parts);
        loop {
            let mut taken = take();
            if matches!(taken, Taken::NothingReady) {
                self.team.wait_until(|| {
                    taken = take();
                    !matches!(taken, Taken::NothingReady)
                })?;
                clock.lap(Activity::Wait);
            }
            let Taken::Item(item) = taken else { return Ok(()) };
            let (rows, g) = self.decode_head(item.head);
            let kv = &rows.sequence.heads[layer * num_kv_heads + g];
            let offset = rows.first_row * num_q_heads * d + g * group * d;
            let cell = step.decodes[item.head].get();
            let part = Part { index: item.part, count: num_parts };
            let state = self.head_state(item.head, layer);
            let selector = state.map(|s| s.selector.as_ref());
            // SAFETY: an item is ready only when its head's earlier stages are done (attention needs no average of what was dropped, and runs
            // beside it); what comes in parts shares the head and writes its own, the others have it to themselves. io holds the row.
            unsafe {
                match item.stage {
                    Stage::Propose => {
                        let query = std::slice::from_raw_parts(io.queries.add(offset), group * d);
                        let layout = Layout { end: state.map_or(rows.layout.end, |s| s.end), ..rows.layout };
                        let may_repair = rows.repairs_before.load(Ordering::Relaxed) < rows.repair_budget;
                        (*cell).propose(kernels, query, group, layout, selector, may_repair);
                        if let Some(query) = (*cell).repairs() {
                            lock(&rows.repairs).push(Repair { head: layer * num_kv_heads + g, query: query.to_vec() });
                        }
                    }
                    Stage::Score => (*cell).score(kernels, kv, part),
                    Stage::Weigh => (*cell).weigh(kernels, part),
                    Stage::Select if item.is_long => (*cell).select(kernels, selector),
                    Stage::Select => {
                        (*cell).weigh(kernels, Part::WHOLE);
                        (*cell).select(kernels, selector);
                        (*cell).average_dropped(kernels, selector);
                    }
                    Stage::AverageDropped => (*cell).average_dropped(kernels, selector),
                    Stage::Attend => (*cell).attend(kernels, kv, part, scratch),
                    Stage::Finish => {
                        let out = std::slice::from_raw_parts_mut(io.out.add(offset), group * d);
                        let audited = step.audit || rows.sampled_head == Some(layer * num_kv_heads + g);
                        let audit = audited.then_some(&mut scratch.scores[..]);
                        (*cell).finish(kernels, kv, out, &mut *rows.counters[g].get(), audit);
                    }
                }
            }
            clock.lap(match item.stage {
                Stage::Propose => Activity::Probe,
                Stage::Score => Activity::Score,
                Stage::Weigh | Stage::Select | Stage::AverageDropped => Activity::Select,
                Stage::Attend => Activity::Attend,
                Stage::Finish => Activity::Merge,
            });
            if item.stage == Stage::Propose {
                // SAFETY: the head is this item's until it is announced as done.
                let union = unsafe { (*cell).union_time() };
                clock.reassign(union, Activity::Probe, Activity::Union);
            }
            step.schedule.finish(item);
        }
    }

    /// What a decode head of the step has indexed in a layer; `None` where everything is read.
    fn head_state(&self, head: usize, layer: usize) -> Option<&HeadState> {
        let (rows, g) = self.decode_head(head);
        let index = rows.sequence.index.as_ref().filter(|_| rows.layout.start < rows.layout.end)?;
        Some(&index.heads[layer * self.shape.num_kv_heads + g])
    }

    /// The decode row of head i of the step, and which KV head it is.
    fn decode_head(&self, i: usize) -> (&StepRows, usize) {
        let num_kv_heads = self.shape.num_kv_heads;
        let rows = &self.step().rows[self.step().decode_rows[i / num_kv_heads]];
        (rows, i % num_kv_heads)
    }

    /// This thread's share of the prefill rows' attention over everything before them.
    fn prefill(&self, layer: usize, io: &LayerIo, scratch: &mut ThreadScratch) {
        let AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. } = self.shape;
        let (step, kernels, group) = (self.step(), self.kernels, self.shape.group_size());
        for (part, piece, keys) in self.team.share(step.prefills.items()) {
            let rows = &step.rows[part.rows];
            let offset = (rows.first_row + part.first_token) * num_q_heads * d + part.kv_head * group * d;
            let item = PrefillItem {
                kv: &rows.sequence.heads[layer * num_kv_heads + part.kv_head],
                first_position: rows.sequence.len + part.first_token,
                num_tokens: part.num_tokens,
                group,
                head_dim: d,
                // SAFETY: io holds these rows.
                queries: unsafe { io.queries.add(offset) },
                // SAFETY: as above.
                out: unsafe { io.out.add(offset) },
                token_stride: num_q_heads * d,
                keys,
            };
            let total = &mut scratch.prefill_total;
            // SAFETY: every item is one thread's, and one item of each part writes the part's tokens and heads.
            unsafe {
                item.attend(kernels, &mut scratch.prefill, total);
                if part.hand_in(piece, total) {
                    item.write(total);
                }
            }
        }
    }

    /// Opens a step on sequences already taken out; what fails leaves them in `taken`.
    fn prepare(&self, rows: &[SequenceRows], taken: &mut [Box<Sequence>]) -> Result<()> {
        for (r, sequence) in rows.iter().zip(taken) {
            if r.num_rows == 0 || (r.phase == Phase::Decode && r.num_rows != 1) {
                let expected = if r.phase == Phase::Decode { "1 for a decode" } else { "at least 1" };
                return Err(Error::InvalidOption { option: "numRows", expected: expected.into(), actual: r.num_rows.to_string() });
            }
            sequence.reserve(r.num_rows)?;
            match r.phase {
                Phase::Prefill => sequence.make_room_for_prompt(r.num_rows),
                Phase::Decode => sequence.make_room_for_decode(),
            }
        }
        Ok(())
    }

    /// Gives the step's sequences back, longer by their rows if `keep`.
    fn close_step(&self, keep: bool) -> StepReport {
        let step = self.step_mut();
        let mut report = StepReport { counters: Vec::with_capacity(step.rows.len()), stages: step.times.take() };
        for rows in step.rows.drain(..) {
            let mut sequence = rows.sequence;
            if keep {
                sequence.len += rows.num_rows;
                sequence.recent.keep(&rows.placement);
                self.learn(&mut sequence, lock(&rows.repairs).drain(..).collect());
                let total = rows.counters.into_iter().map(UnsafeCell::into_inner).reduce(add_counters);
                report.counters.push(total.filter(|_| rows.phase == Phase::Decode));
            } else {
                // Rows past the length are free to be overwritten.
                sequence.heads.iter_mut().for_each(|h| h.truncate(sequence.len));
            }
            self.give_back(rows.id, sequence);
        }
        step.prefills.clear();
        step.decode_rows.clear();
        step.num_decodes = 0;
        self.team.repair();
        report
    }

    /// Makes the queries of dense repair steps centroids: their scans of all keys give exact lists.
    fn learn(&self, sequence: &mut Sequence, mut repairs: Vec<Repair>) {
        repairs.sort_by_key(|r| r.head);
        for Repair { head, query } in repairs {
            let Some(state) = sequence.index.as_ref().map(|index| index.heads[head].clone()) else { return };
            let start = sequence.region(sequence.len).start;
            let mut input = self.block_input(sequence, head, start..state.end, &query, sequence.len);
            input.grown_at = state.grown_at;
            // What cannot be learnt (a query that is not finite) was answered all the same.
            if let Ok(Some(selector)) = state.selector.extended(&input, self.kernels, &AtomicBool::new(false))
                && let Some(index) = &mut sequence.index
            {
                index.heads[head] = HeadState { selector, made_at: sequence.len, ..state };
            }
        }
    }

    /// Builds one sequence's index, or, where there is one of the same settings, brings it up to date, as far as it comes until `deadline`;
    /// `sequence` is lent. Returns how many heads are left.
    fn build(&self, sequence: &mut Sequence, deadline: Option<Instant>, num_threads: usize, cancel: &AtomicBool) -> Result<usize> {
        let (len, num_heads) = (sequence.len, sequence.heads.len());
        let mut partial = sequence.partial.take().filter(|p| p.len == len).unwrap_or_else(|| PartialBuild::new(len, num_heads));
        let region = sequence.region(len);
        if region.is_empty() {
            sequence.index = None;
            sequence.end_prompt();
            return Ok(0);
        }
        let index = sequence.index.as_ref().filter(|_| sequence.selector.kind == SelectorKind::Ctkvr);
        let left: Vec<usize> = (0..num_heads).filter(|&i| partial.heads[i].is_none()).collect();
        let built = in_parallel(left.len(), num_threads, deadline, |h| match index {
            Some(index) => self.extended_head(sequence, index, left[h], len, cancel),
            None => {
                let selector = self.build_head(sequence, left[h], region.clone(), cancel)?.into();
                Ok(HeadState { selector, end: region.end, made_at: len, grown_at: len })
            }
        })?;
        let num_built = built.len();
        left.iter().zip(built).for_each(|(&i, state)| partial.heads[i] = Some(state));
        if num_built < left.len() {
            sequence.partial = Some(partial);
            return Ok(left.len() - num_built);
        }
        let mut heads: Vec<HeadState> = partial.heads.into_iter().flatten().collect();
        match &mut sequence.index {
            Some(index) if sequence.selector.kind == SelectorKind::Ctkvr => {
                index.heads = heads;
                if index.built_at.last() != Some(&len) {
                    index.built_at.push(len);
                }
            }
            _ => {
                score_all_of_sharpest(&mut heads, sequence.selector.exact_share);
                let options = sequence.selector.clone();
                sequence.index = Some(SequenceIndex { start: region.start, heads, options, built_at: vec![len] });
            }
        }
        sequence.narrow_recent();
        Ok(0)
    }

    /// Grows the heads whose turn has come. Each grows as if it had been asked at every single token, so that the index depends on what is
    /// stored and not on when it was asked.
    fn grow(&self, sequence: &mut Sequence, num_threads: usize, cancel: &AtomicBool) -> Result<()> {
        if sequence.selector.kind != SelectorKind::Ctkvr {
            return Ok(());
        }
        loop {
            let Some(index) = &sequence.index else { return Ok(()) };
            let due = |i: usize| Some(index.next_growth(i)).filter(|at| *at <= sequence.len);
            let Some(first) = (0..index.heads.len()).filter_map(due).min() else { return Ok(()) };
            let heads: Vec<usize> = (0..index.heads.len()).filter(|&i| due(i) == Some(first)).collect();
            // What it has of these heads is of what they were.
            sequence.partial = None;
            self.extend(sequence, &heads, first, num_threads, cancel)?;
            let Some(index) = &mut sequence.index else { return Ok(()) };
            // Also of a head that found no queries: its turn is over.
            heads.iter().for_each(|&i| index.heads[i].grown_at = first);
        }
    }

    /// Grows the given heads of a sequence's index over what was stored when it held `len` tokens.
    fn extend(&self, sequence: &mut Sequence, heads: &[usize], len: usize, num_threads: usize, cancel: &AtomicBool) -> Result<()> {
        let Some(index) = &sequence.index else { return Ok(()) };
        let grown = in_parallel(heads.len(), num_threads, None, |h| self.extended_head(sequence, index, heads[h], len, cancel))?;
        if let Some(index) = &mut sequence.index {
            heads.iter().zip(grown).for_each(|(&i, state)| index.heads[i] = state);
        }
        Ok(())
    }

    /// Head i grown over what was stored when the sequence held `len` tokens, with the queries since it last grew. Without new queries it
    /// stays as it is.
    fn extended_head(
        &self,
        sequence: &Sequence,
        index: &SequenceIndex,
        i: usize,
        len: usize,
        cancel: &AtomicBool,
    ) -> Result<HeadState> {
        let state = &index.heads[i];
        let region = index.start..sequence.region(len).end.max(index.start);
        let queries = self.recent_queries(sequence, i, state.grown_at..len, region.len());
        if queries.is_empty() || region.end < state.end {
            return Ok(state.clone());
        }
        let input = self.block_input(sequence, i, region.clone(), &queries, len);
        let grown = state.selector.extended(&input, self.kernels, cancel)?;
        let new = |selector| HeadState { selector, end: region.end, made_at: len, grown_at: len };
        Ok(grown.map_or_else(|| state.clone(), new))
    }

    /// The last queries of one (layer, KV head) that are held, of positions in `positions`, at most as many as a block over `num_keys`
    /// positions has centroids: f32 `[n, group, head_dim]`, oldest first.
    fn recent_queries(&self, sequence: &Sequence, head: usize, positions: std::ops::Range<usize>, num_keys: usize) -> Vec<f32> {
        let held = sequence.recent.of_positions(positions);
        let held = held.start.max(held.end.saturating_sub(sequence.selector.centroid_count(num_keys)))..held.end;
        self.widened_queries(sequence, head, held)
    }

    /// Some of one (layer, KV head)'s held queries: f32 `[n, group, head_dim]`.
    fn widened_queries(&self, sequence: &Sequence, head: usize, held: std::ops::Range<usize>) -> Vec<f32> {
        let (layer, g) = (head / self.shape.num_kv_heads, head % self.shape.num_kv_heads);
        let row_len = self.shape.group_size() * self.shape.head_dim;
        let mut queries = vec![0.0; held.len() * row_len];
        for (row, i) in queries.chunks_exact_mut(row_len).zip(held) {
            let source = &sequence.recent.row(layer, i)[g * row_len..(g + 1) * row_len];
            // SAFETY: both hold row_len values, a multiple of the lanes.
            unsafe { (self.kernels.widen)(source.as_ptr(), row.len(), row.as_mut_ptr()) };
        }
        queries
    }

    /// What a block of one (layer, KV head) is made from when `made_at` tokens are stored.
    fn block_input<'a>(
        &self,
        sequence: &'a Sequence,
        head: usize,
        region: std::ops::Range<usize>,
        queries: &'a [f32],
        made_at: usize,
    ) -> BlockInput<'a> {
        let (kv, options) = (&sequence.heads[head], &sequence.selector);
        BlockInput {
            keys: kv.keys(region.start, region.len()),
            values: kv.values(region.start, region.len()),
            start: region.start,
            made_at,
            grown_at: made_at,
            queries,
            group: self.shape.group_size(),
            list_len: options.posting_list_len(region.len(), self.shape.group_size()),
            per_list: options.centroids_per_list,
            tail: options.tail,
            cluster_size: options.cluster_size,
        }
    }

    fn build_head(
        &self,
        sequence: &Sequence,
        i: usize,
        region: std::ops::Range<usize>,
        cancel: &AtomicBool,
    ) -> Result<Box<dyn HeadSelector>> {
        let (options, kv) = (&sequence.selector, &sequence.heads[i]);
        let layer = i / self.shape.num_kv_heads;
        let keys = kv.keys(region.start, region.len());
        let queries = || self.recent_queries(sequence, i, 0..sequence.len, keys.len());
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if options.is_dense_layer(layer) {
            return Ok(Box::new(Everything));
        }
        match options.kind {
            SelectorKind::Full | SelectorKind::Streaming => Ok(Box::new(Streaming)),
            SelectorKind::ExactTopK => Ok(Box::new(ExactTopK)),
            SelectorKind::Quest => Ok(Box::new(Quest::build(self.kernels, &keys, region.start)?)),
            SelectorKind::MagicPig => Ok(Box::new(MagicPig::build(self.kernels, &keys, region.start, options, cancel)?)),
            SelectorKind::KeyClusters => {
                let values = kv.values(region.start, region.len());
                Ok(Box::new(KeyClusters::build(self.kernels, &keys, &values, region.start, cancel)?))
            }
            SelectorKind::SnapKv => {
                let keys = kv.keys(0, sequence.len);
                let input = SnapKvInput { keys, region, queries: &queries(), group: self.shape.group_size() };
                Ok(Box::new(SnapKv::build(self.kernels, &input, options)?))
            }
            SelectorKind::Ctkvr => {
                let queries = queries();
                let input = self.block_input(sequence, i, region.clone(), &queries, sequence.len);
                let always = [kv.keys(0, region.start), kv.keys(region.end, sequence.len - region.end)];
                let (index, sharpness) = CentroidIndex::build(self.kernels, &input, FirstInput { always, options }, cancel)?;
                Ok(Box::new(Ctkvr::new(index, sharpness, options)))
            }
        }
    }
}

/// Runs `work` for `0..count` on some threads, in order, and returns what it gave; an error stops what has not begun. After `deadline`
/// nothing more begins, so that the last ones may be missing; the first is not.
fn in_parallel<T: Send>(
    count: usize,
    num_threads: usize,
    deadline: Option<Instant>,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let results: Vec<Mutex<Option<Result<T>>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            let result = work(i);
            if result.is_err() || deadline.is_some_and(|at| Instant::now() >= at) {
                stop.store(true, Ordering::Relaxed);
            }
            *lock(&results[i]) = Some(result);
        }
    };
    if num_threads <= 1 || count <= 1 {
        run();
    } else {
        std::thread::scope(|scope| (0..num_threads.min(count)).for_each(|_| drop(scope.spawn(run))));
    }
    results.into_iter().map_while(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// Makes the `share` of the heads that look far back most sharply score every key (ties: the earlier head).
fn score_all_of_sharpest(heads: &mut [HeadState], share: f64) {
    let mut order: Vec<usize> = (0..heads.len()).filter(|&i| heads[i].selector.sharpness() > 0.0).collect();
    order.sort_by(|&a, &b| heads[b].selector.sharpness().total_cmp(&heads[a].selector.sharpness()));
    order.truncate((share * heads.len() as f64).round() as usize);
    for i in order {
        // Just built: nobody else has it.
        if let Some(selector) = Arc::get_mut(&mut heads[i].selector) {
            selector.score_all();
        }
    }
}

/// Dense steps that a token at `position` may have when it is to be `per_token` of them in the long run.
fn repair_budget(per_token: f64, position: usize) -> usize {
    let until = |n: usize| (n as f64 * per_token).floor() as usize;
    until(position + 1) - until(position)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add_counters(a: SelectionCounters, b: SelectionCounters) -> SelectionCounters {
    SelectionCounters {
        heads: a.heads + b.heads,
        keys_total: a.keys_total + b.keys_total,
        keys_read: a.keys_read + b.keys_read,
        values_read: a.values_read + b.values_read,
        centroids_probed: a.centroids_probed + b.centroids_probed,
        candidates: a.candidates + b.candidates,
        selected: a.selected + b.selected,
        dense_repairs: a.dense_repairs + b.dense_repairs,
        bytes_read: a.bytes_read + b.bytes_read,
        estimated_mass: a.estimated_mass + b.estimated_mass,
        measured_mass: a.measured_mass + b.measured_mass,
        audited_heads: a.audited_heads + b.audited_heads,
        audited_estimated_mass: a.audited_estimated_mass + b.audited_estimated_mass,
        mass_error: a.mass_error + b.mass_error,
    }
}

impl LayerAttention for CpuAttention {
    unsafe fn run(&self, layer: usize, io: &LayerIo, thread: Thread) {
        // More threads than scratch was made for: the surplus has nothing to do.
        let count = thread.count.min(self.threads.len());
        if thread.index >= count {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_layer(layer, io, Thread { index: thread.index, count })));
        if let Err(panic) = outcome {
            // The others must not wait for this thread.
            self.team.break_up();
            resume_unwind(panic);
        }
    }
}

impl AttentionBackend for CpuAttention {
    fn shape(&self) -> AttentionShape {
        self.shape
    }

    fn create_sequence(&self, max_tokens: usize, format: KvFormat, selector: SelectorOptions) -> Result<SequenceId> {
        selector.check()?;
        format.check(self.shape.head_dim)?;
        Ok(self.insert(Sequence::new(self.shape, max_tokens, format, selector)))
    }

    fn fork_sequence(&self, sequence: SequenceId) -> Result<SequenceId> {
        let fork = self.with(sequence, |s| Ok(s.fork()))?;
        Ok(self.insert(fork))
    }

    fn close_sequence(&self, sequence: SequenceId) {
        let mut sequences = self.lock();
        if let Some(Slot::Lent { closed, .. }) = sequences.get_mut(&sequence) {
            *closed = true;
        } else {
            sequences.remove(&sequence);
        }
    }

    fn len(&self, sequence: SequenceId) -> Result<usize> {
        match self.lock().get(&sequence) {
            Some(Slot::Here(s)) => Ok(s.len),
            Some(Slot::Lent { len, .. }) => Ok(*len),
            None => Err(Error::UnknownSequence(sequence.0)),
        }
    }

    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<()> {
        self.with(sequence, |s| {
            s.truncate(len);
            Ok(())
        })
    }

    fn set_selector(&self, sequence: SequenceId, selector: SelectorOptions) -> Result<()> {
        selector.check()?;
        self.with(sequence, |s| {
            s.set_selector(selector);
            Ok(())
        })
    }

    fn indexed_range(&self, sequence: SequenceId) -> Result<(usize, usize)> {
        match self.lock().get(&sequence) {
            Some(Slot::Here(s)) => Ok(s.index.as_ref().map_or((0, 0), |i| (i.start, i.end()))),
            Some(Slot::Lent { indexed, .. }) => Ok(*indexed),
            None => Err(Error::UnknownSequence(sequence.0)),
        }
    }

    fn num_recent_queries(&self, sequence: SequenceId) -> Result<usize> {
        match self.lock().get(&sequence) {
            Some(Slot::Here(s)) => Ok(s.recent.len()),
            Some(Slot::Lent { num_recent, .. }) => Ok(*num_recent),
            None => Err(Error::UnknownSequence(sequence.0)),
        }
    }

    fn memory(&self, sequence: SequenceId) -> Result<SequenceMemory> {
        match self.lock().get(&sequence) {
            Some(Slot::Here(s)) => Ok(s.memory()),
            Some(Slot::Lent { memory, .. }) => Ok(*memory),
            None => Err(Error::UnknownSequence(sequence.0)),
        }
    }

    fn build_index_part(&self, id: SequenceId, most: Duration, num_threads: usize, cancel: &AtomicBool) -> Result<BuildReport> {
        let clock = Instant::now();
        let mut sequence = self.lend(id)?;
        // A panic in a build thread must not lose the sequence.
        let deadline = clock.checked_add(most);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.build(&mut sequence, deadline, num_threads, cancel)));
        let index_bytes = sequence.memory().index_bytes;
        let indexed_tokens = sequence.index.as_ref().map_or(0, |index| index.end() - index.start);
        self.give_back(id, sequence);
        let heads_left = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(BuildReport { build_ms: clock.elapsed().as_secs_f64() * 1e3, heads_left, index_bytes, indexed_tokens })
    }

    fn grow_index(&self, id: SequenceId, num_threads: usize, cancel: &AtomicBool) -> Result<()> {
        let mut sequence = self.lend(id)?;
        // A panic in a build thread must not lose the sequence.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.grow(&mut sequence, num_threads, cancel)));
        self.give_back(id, sequence);
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn begin_step(&self, rows: &[SequenceRows], audit: bool) -> Result<()> {
        let mut taken = Vec::with_capacity(rows.len());
        let mut outcome = Ok(());
        for r in rows {
            match self.lend(r.sequence) {
                Ok(sequence) => taken.push(sequence),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let outcome = outcome.and_then(|()| self.prepare(rows, &mut taken));
        if let Err(error) = outcome {
            for (r, mut sequence) in rows.iter().zip(taken) {
                sequence.heads.iter_mut().for_each(|h| h.truncate(sequence.len));
                self.give_back(r.sequence, sequence);
            }
            return Err(error);
        }
        let step = self.step_mut();
        debug_assert!(step.rows.is_empty(), "one step at a time");
        step.audit = audit;
        let (num_kv_heads, per_item) = (self.shape.num_kv_heads, tokens_per_item(self.shape.group_size()));
        for (i, (r, mut sequence)) in rows.iter().zip(taken).enumerate() {
            let len = sequence.len + r.num_rows;
            let region = match &sequence.index {
                Some(index) if sequence.selector.kind != SelectorKind::Full && len >= sequence.selector.dense_below => {
                    index.start..index.end()
                }
                _ => 0..0,
            };
            let repair_budget = repair_budget(sequence.selector.repair_share * sequence.heads.len() as f64, sequence.len);
            let placement = sequence.recent.place(sequence.len, r.num_rows, r.phase == Phase::Decode);
            let SelectorOptions { max_selected, top_p, mass_sampling, .. } = sequence.selector;
            let layout = Layout { len, start: region.start, end: region.end, max_selected, top_p };
            // In turn by position: no state to keep, roll back or fork. A dense step has nothing to estimate.
            let sampled_head = (mass_sampling && !region.is_empty()).then(|| len % sequence.heads.len());
            if r.phase == Phase::Prefill {
                for kv_head in 0..num_kv_heads {
                    for first_token in (0..r.num_rows).step_by(per_item) {
                        let tokens = first_token..r.num_rows.min(first_token + per_item);
                        step.prefills.push(PrefillPart::new(i, kv_head, tokens, sequence.len));
                    }
                }
            }
            step.rows.push(StepRows {
                id: r.sequence,
                sequence,
                first_row: r.first_row,
                num_rows: r.num_rows,
                phase: r.phase,
                placement,
                layout,
                repair_budget,
                repairs_before: AtomicUsize::new(0),
                repairs: Mutex::default(),
                sampled_head,
                counters: (0..num_kv_heads).map(|_| UnsafeCell::default()).collect(),
            });
            if r.phase == Phase::Decode {
                step.decode_rows.push(i);
                step.num_decodes += num_kv_heads;
            }
        }
        step.prefills.arrange(self.threads.len());
        if step.decodes.len() < step.num_decodes {
            step.decodes.resize_with(step.num_decodes, UnsafeCell::default);
        }
        step.schedule.resize(step.num_decodes);
        Ok(())
    }

    fn end_step(&self) -> StepReport {
        self.close_step(true)
    }

    fn abort_step(&self) {
        self.close_step(false);
    }
}
