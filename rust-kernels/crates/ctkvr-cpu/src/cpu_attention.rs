//! The CPU side of the engine: sequences, and the attention of a step on the engine's team of threads.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ctkvr_core::attention::decode::{AttendScratch, HeadDecode, Layout, Part};
use ctkvr_core::attention::partial::Partial;
use ctkvr_core::attention::prefill::{PrefillItem, PrefillScratch};
use ctkvr_core::attention::prefill_parts::PrefillParts;
use ctkvr_core::attention::stage_clock::{Activity, StageClock, StageTotals};
use ctkvr_core::kv::panels::widen_rows;
use ctkvr_core::sequence::index_builder::{IndexBuilder, Repair};
use ctkvr_core::sequence::recent_queries::Placement;
use ctkvr_core::sequence::store::{HeadState, Sequence};
use ctkvr_core::{
    AttentionShape, BuildReport, Error, Phase, Result, SelectionCounters, SelectorKind, SelectorOptions, SequenceId,
    SequenceMemory, SequenceRows, StepReport,
};
use ctkvr_kernels::{Kernels, KvFormat, Rows};

use crate::backend::{AttentionBackend, LayerAttention, LayerIo};
use crate::decode_schedule::{DecodeSchedule, Stage, Taken};
use crate::team::Units;

/// Rows that a thread stores at once.
const ROWS_AT_ONCE: usize = 16;
/// The phases of a layer: rows of prompts are stored, then all attend. A decode row is stored by its first item.
const STORE: usize = 0;

/// KV, selectors and attention of all sequences of one model, on the CPU.
pub struct CpuAttention {
    shape: AttentionShape,
    kernels: &'static Kernels,
    sequences: Mutex<HashMap<SequenceId, Slot>>,
    next_id: AtomicU64,
    step: UnsafeCell<Step>,
    threads: Vec<UnsafeCell<ThreadScratch>>,
}

// SAFETY: `step` is written by begin_step, end_step, abort_step and `open` only, between which `work` reads it (the traits' contract: one
// step at a time, no other call meanwhile, and no unit is worked on while a phase is opened); inside `work`, the stages of a cell wait for
// each other (DecodeSchedule), and a thread has its own scratch.
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
    /// Work items of the prefill rows of one layer, and how many of them are taken in the layer that runs.
    prefills: PrefillParts,
    prefills_taken: AtomicUsize,
    audit: bool,
    /// When the layer that runs began, and how long those before took.
    layer_began: Option<Instant>,
    time: Duration,
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

struct ThreadScratch {
    prefill: PrefillScratch,
    prefill_total: Partial,
    attend: AttendScratch,
    times: StageTotals,
}

impl CpuAttention {
    /// `num_threads`: threads of the team that steps run on. Kernels are the fastest of this machine.
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
            UnsafeCell::new(ThreadScratch {
                prefill: PrefillScratch::default(),
                prefill_total: Partial::default(),
                attend,
                times: StageTotals::default(),
            })
        };
        Ok(Self {
            shape,
            kernels,
            sequences: Mutex::default(),
            next_id: AtomicU64::new(1),
            step: UnsafeCell::default(),
            threads: (0..num_threads.max(1)).map(|_| scratch()).collect(),
        })
    }

    fn builder(&self) -> IndexBuilder {
        IndexBuilder { shape: self.shape, kernels: self.kernels }
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
            let queries = self.builder().widened_queries(sequence, layer * num_kv_heads + kv_head, 0..held);
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

    #[allow(clippy::mut_from_ref, reason = "the traits' contract makes begin, end, abort and open exclusive")]
    fn step_mut(&self) -> &mut Step {
        // SAFETY: see the Sync impl.
        unsafe { &mut *self.step.get() }
    }

    /// What thread i works with; for that thread, or for who is alone.
    #[allow(clippy::mut_from_ref, reason = "a thread has its own")]
    fn scratch(&self, thread: usize) -> &mut ThreadScratch {
        // SAFETY: see the Sync impl.
        unsafe { &mut *self.threads[thread].get() }
    }

    /// Finishes and stores the key, value and queries of row `i` of some rows, KV head g.
    fn store(&self, layer: usize, io: &LayerIo, rows: &StepRows, i: usize, g: usize) {
        let (AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. }, kernels) = (self.shape, self.kernels);
        let (row, position) = (rows.first_row + i, rows.sequence.len + i);
        (io.prepare)(row, g);
        let kv = &rows.sequence.heads[layer * num_kv_heads + g];
        // SAFETY: begin_step reserved the position; this thread alone writes it; io holds the row.
        unsafe {
            let source = (row * num_kv_heads + g) * d;
            kv.store(kernels, position, io.keys.add(source), io.values.add(source));
        }
        // Of a long prefill only the end is kept; two rows must not race for one slot.
        if i >= rows.placement.skip {
            let (group, slot) = (self.shape.group_size() * d, rows.sequence.recent.write_slot(layer, &rows.placement, i));
            // SAFETY: begin_step made the rings this sequence's own; each row has its own slot.
            unsafe { (kernels.narrow)(io.queries.add(row * num_q_heads * d + g * group), group, slot.add(g * group)) };
        }
    }

    /// Row `index` of the step's prefill rows: which rows it belongs to, and which of them it is.
    fn prefill_row(&self, mut index: usize) -> Option<(&StepRows, usize)> {
        for rows in self.step().rows.iter().filter(|rows| rows.phase == Phase::Prefill) {
            if index < rows.num_rows {
                return Some((rows, index));
            }
            index -= rows.num_rows;
        }
        None
    }

    /// Begins a layer.
    fn begin_layer(&self, layer: usize) -> Units {
        self.end_layer();
        let step = self.step_mut();
        step.layer_began = Some(Instant::now());
        *step.prefills_taken.get_mut() = 0;
        // Heads of one layer see the same count, whichever thread comes first.
        step.rows.iter_mut().for_each(|rows| *rows.repairs_before.get_mut() = lock(&rows.repairs).len());
        let step = self.step();
        step.schedule.restart(|head| self.head_state(head, layer).is_some_and(|state| state.selector.scores_all()));
        let num_rows = step.rows.iter().filter(|rows| rows.phase == Phase::Prefill).map(|rows| rows.num_rows).sum();
        Units::of(num_rows, ROWS_AT_ONCE)
    }

    /// Adds what the layer that ended took.
    fn end_layer(&self) {
        let step = self.step_mut();
        let Some(began) = step.layer_began.take() else { return };
        let ended = (0..self.threads.len()).filter_map(|thread| self.scratch(thread).times.last.take()).max();
        step.time += ended.map_or(Duration::ZERO, |ended| ended.duration_since(began));
    }

    /// One decode item that is ready, if there is one; whether it was done.
    fn decode(&self, layer: usize, io: &LayerIo, thread: usize, clock: &mut StageClock) -> bool {
        let AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. } = self.shape;
        let (step, kernels, group) = (self.step(), self.kernels, self.shape.group_size());
        let scratch = &mut self.scratch(thread).attend;
        let num_parts = step.schedule.num_parts(self.threads.len());
        let Taken::Item(item) = step.schedule.take(thread, self.threads.len(), num_parts) else { return false };
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
                    self.store(layer, io, rows, 0, g);
                    clock.lap(Activity::Store);
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
        true
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

    /// The next item of the prefill rows' attention over everything before them, if one is left; whether it was done.
    fn prefill(&self, layer: usize, io: &LayerIo, thread: usize) -> bool {
        let AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. } = self.shape;
        let (step, kernels, group) = (self.step(), self.kernels, self.shape.group_size());
        if step.prefills.is_empty() {
            return false;
        }
        let taken = step.prefills_taken.fetch_add(1, Ordering::Relaxed);
        let Some((part, piece, keys)) = step.prefills.items().nth(taken) else { return false };
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
        let scratch = self.scratch(thread);
        let total = &mut scratch.prefill_total;
        // SAFETY: every item is one thread's, and one item of each part writes the part's tokens and heads.
        unsafe {
            item.attend(kernels, &mut scratch.prefill, total);
            if part.hand_in(piece, total) {
                item.write(total);
            }
        }
        true
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
        self.end_layer();
        let step = self.step_mut();
        let mut totals: Vec<_> = (0..self.threads.len()).map(|thread| &mut self.scratch(thread).times).collect();
        let stages = StageTotals::take(&mut totals, std::mem::take(&mut step.time));
        let mut report = StepReport { counters: Vec::with_capacity(step.rows.len()), stages };
        for rows in step.rows.drain(..) {
            let mut sequence = rows.sequence;
            if keep {
                sequence.len += rows.num_rows;
                sequence.recent.keep(&rows.placement);
                self.builder().learn(&mut sequence, lock(&rows.repairs).drain(..).collect());
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
        report
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
    unsafe fn open(&self, layer: usize, phase: usize, _io: &LayerIo) -> Units {
        if phase == STORE {
            return self.begin_layer(layer);
        }
        let step = self.step();
        let decodes = step.schedule.num_items(step.schedule.num_parts(self.threads.len()));
        Units { count: decodes + step.prefills.items().count(), most: 1, linked: true }
    }

    unsafe fn work(&self, layer: usize, phase: usize, io: &LayerIo, units: Range<usize>, thread: usize) -> usize {
        let mut clock = StageClock::start();
        let count = units.len();
        let done = if phase == STORE {
            for (rows, i) in units.filter_map(|unit| self.prefill_row(unit)) {
                (0..self.shape.num_kv_heads).for_each(|g| self.store(layer, io, rows, i, g));
            }
            clock.lap(Activity::Store);
            count
        } else {
            let one = |clock: &mut StageClock| {
                if self.decode(layer, io, thread, clock) {
                    return true;
                }
                let is_done = self.prefill(layer, io, thread);
                if is_done {
                    clock.lap(Activity::Prefill);
                }
                is_done
            };
            (0..count).take_while(|_| one(&mut clock)).count()
        };
        if done > 0 {
            self.scratch(thread).times.add(&clock);
        }
        done
    }
}

impl AttentionBackend for CpuAttention {
    fn shape(&self) -> AttentionShape {
        self.shape
    }

    fn max_threads(&self) -> usize {
        self.threads.len()
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
        let outcome = catch_unwind(AssertUnwindSafe(|| self.builder().build(&mut sequence, deadline, num_threads, cancel)));
        let index_bytes = sequence.memory().index_bytes;
        let indexed_tokens = sequence.index.as_ref().map_or(0, |index| index.end() - index.start);
        self.give_back(id, sequence);
        let heads_left = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(BuildReport { build_ms: clock.elapsed().as_secs_f64() * 1e3, heads_left, index_bytes, indexed_tokens })
    }

    fn grow_index(&self, id: SequenceId, num_threads: usize, cancel: &AtomicBool) -> Result<()> {
        let mut sequence = self.lend(id)?;
        // A panic in a build thread must not lose the sequence.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.builder().grow(&mut sequence, num_threads, cancel)));
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
        let num_kv_heads = self.shape.num_kv_heads;
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
                    step.prefills.push(i, kv_head, sequence.len, r.num_rows, self.shape.group_size());
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
