//! The attention of a batch's rows, from its first layer to its last.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ctkvr_core::attention::decode::HeadDecode;
use ctkvr_core::attention::prefill_parts::{PrefillParts, PrefillRows};
use ctkvr_core::attention::read_map::PASSAGE;
use ctkvr_core::attention::stage_clock::{Activity, StageClock, StageTotals};
use ctkvr_core::sequence::append::Append;
use ctkvr_core::sequence::decode_plan::DecodePlan;
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{AttentionShape, LocalLayers, Phase, SelectionCounters};
use ctkvr_engine::{Batch, BatchOutput, Measures, SequenceOutput};
use ctkvr_kernels::Kernels;
use ctkvr_threads::{DecodeSchedule, Units};

use crate::attention::layer_io::LayerIo;
use crate::attention::memory::{AttentionMemory, ThreadScratch};

/// Phases of a layer: rows of prompts are stored, then all attend. A decode row is stored by its first item.
pub const ATTENTION_PHASES: usize = 2;
const STORE: usize = 0;
/// Rows that a thread stores at once.
const ROWS_AT_ONCE: usize = 16;

/// The attention of one batch, as phases of a job: of each layer, in order, [`ATTENTION_PHASES`].
pub struct AttentionStep<'a> {
    pub(super) shape: AttentionShape,
    pub(super) kernels: &'static Kernels,
    pub(super) measures: Measures,
    pub(super) rows: Vec<StepRows<'a>>,
    /// Rows of decodes are the first of `rows`, one each.
    pub(super) num_decode_rows: usize,
    /// `[decode rows, num_kv_heads]`, or more.
    pub(super) decodes: &'a [UnsafeCell<HeadDecode>],
    pub(super) schedule: &'a DecodeSchedule,
    pub(super) prefills: &'a PrefillParts,
    pub(super) local_prefills: &'a PrefillParts,
    /// How many of them are taken in the layer that runs.
    pub(super) prefills_taken: AtomicUsize,
    threads: &'a [UnsafeCell<ThreadScratch>],
    clock: Mutex<LayerClock>,
}

/// The rows of one sequence.
pub(super) struct StepRows<'a> {
    pub sequence: &'a Sequence,
    pub first_row: usize,
    pub append: Append,
    /// Of a decode.
    pub plan: DecodePlan,
    /// Dense repair steps that this row had before the layer that runs.
    pub repairs_before: AtomicUsize,
    pub repairs: Mutex<Vec<Repair>>,
    /// One per KV head, so that threads need not share.
    pub counters: Vec<UnsafeCell<SelectionCounters>>,
    /// Likewise: see [`SequenceOutput::read_map`], a sum. Empty where none is wanted.
    pub read_maps: Vec<UnsafeCell<Vec<f32>>>,
}

/// When the layer that runs began, and how long those before took.
#[derive(Default)]
struct LayerClock {
    began: Option<Instant>,
    time: Duration,
}

// SAFETY: inside `work`, the stages of a decoding head wait for each other (DecodeSchedule), prefill items are taken once, and a thread has its
// own scratch; nobody works on units while `open` runs. The batch has its sequences to itself.
unsafe impl Sync for AttentionStep<'_> {}

impl<'a> AttentionStep<'a> {
    /// Begins a step over these rows.
    pub fn new(memory: &'a mut AttentionMemory, batch: &'a Batch) -> Self {
        let AttentionShape { num_kv_heads, .. } = memory.shape;
        memory.threads.iter_mut().for_each(|thread| thread.get_mut().times = StageTotals::default());
        memory.prefills.clear();
        memory.local_prefills.clear();
        let mut rows = Vec::with_capacity(batch.sequences.len());
        for (i, of) in batch.sequences.iter().enumerate() {
            let sequence: &Sequence = of.sequence;
            if of.append.phase == Phase::Prefill {
                let (num_tokens, group) = (of.append.num_rows, memory.shape.group_size());
                let rows = PrefillRows { position: sequence.len, num_tokens, group, window: usize::MAX };
                (0..num_kv_heads).for_each(|kv_head| memory.prefills.push(i, kv_head, rows));
                if let Some(LocalLayers { window, .. }) = memory.shape.local {
                    let rows = PrefillRows { window, ..rows };
                    (0..num_kv_heads).for_each(|kv_head| memory.local_prefills.push(i, kv_head, rows));
                }
            }
            let plan = sequence.decode_plan();
            let wants_map = batch.measures.read_map && memory.shape.num_indexed_layers() > 0 && of.append.phase == Phase::Decode;
            let read_map = || UnsafeCell::new(vec![0.0; plan.layout.len.div_ceil(PASSAGE)]);
            rows.push(StepRows {
                sequence,
                first_row: of.first_row,
                append: of.append,
                read_maps: (0..if wants_map { num_kv_heads } else { 0 }).map(|_| read_map()).collect(),
                plan,
                repairs_before: AtomicUsize::new(0),
                repairs: Mutex::default(),
                counters: (0..num_kv_heads).map(|_| UnsafeCell::default()).collect(),
            });
        }
        memory.prefills.arrange(memory.threads.len());
        memory.local_prefills.arrange(memory.threads.len());
        let num_decode_rows = batch.num_decodes();
        let num_decodes = num_decode_rows * num_kv_heads;
        if memory.decodes.len() < num_decodes {
            memory.decodes.resize_with(num_decodes, UnsafeCell::default);
        }
        memory.schedule.resize(num_decodes);
        Self {
            shape: memory.shape,
            kernels: memory.kernels,
            measures: batch.measures,
            rows,
            num_decode_rows,
            decodes: &memory.decodes,
            schedule: &memory.schedule,
            prefills: &memory.prefills,
            local_prefills: &memory.local_prefills,
            prefills_taken: AtomicUsize::new(0),
            threads: &memory.threads,
            clock: Mutex::default(),
        }
    }

    /// Begins a phase of a layer. Of one without work: [`Units::NONE`].
    ///
    /// # Safety
    /// As [`ctkvr_threads::Job::open`]: nobody works on units meanwhile.
    pub unsafe fn open(&self, layer: usize, phase: usize) -> Units {
        if phase == STORE {
            return self.begin_layer(layer);
        }
        let decodes = self.schedule.num_items(self.schedule.num_parts(self.threads.len()));
        Units { count: decodes + self.prefills_of(layer).items().count(), most: 1, linked: true }
    }

    /// Does some units of the open phase, and returns how many.
    ///
    /// # Safety
    /// As [`ctkvr_threads::Job::work`], with the layer and phase of the last `open`; `io` points to live buffers of the layer's rows, which
    /// nobody else uses until the layer's last phase ends; `thread` is below the number that the memory was made for.
    pub unsafe fn work(&self, layer: usize, phase: usize, io: &LayerIo, units: Range<usize>, thread: usize) -> usize {
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

    /// All layers are done: writes what the step counted and found.
    pub fn finish(self, output: &mut BatchOutput) {
        self.end_layer();
        let time = lock(&self.clock).time;
        let mut totals: Vec<_> = (0..self.threads.len()).map(|thread| &mut self.scratch(thread).times).collect();
        output.stages = StageTotals::take(&mut totals, time);
        let num_heads = self.shape.num_indexed_layers() * self.shape.num_q_heads;
        output.sequences.clear();
        output.sequences.extend(self.rows.into_iter().map(|rows| {
            let counters = rows.counters.into_iter().map(UnsafeCell::into_inner).reduce(|a, b| a + b);
            SequenceOutput {
                counters: counters.filter(|_| rows.append.phase == Phase::Decode),
                read_map: mean_of(rows.read_maps, num_heads),
                repairs: rows.repairs.into_inner().unwrap_or_else(PoisonError::into_inner),
            }
        }));
    }

    /// What thread i works with; for that thread, or for who is alone.
    #[allow(clippy::mut_from_ref, reason = "a thread has its own")]
    pub(super) fn scratch(&self, thread: usize) -> &mut ThreadScratch {
        // SAFETY: see the Sync impl.
        unsafe { &mut *self.threads[thread].get() }
    }

    pub(super) fn num_threads(&self) -> usize {
        self.threads.len()
    }

    /// Finishes and stores the key, value and queries of row `i` of some rows, KV head g.
    pub(super) fn store(&self, layer: usize, io: &LayerIo, rows: &StepRows, i: usize, g: usize) {
        let (AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. }, kernels) = (self.shape, self.kernels);
        let (row, position) = (rows.first_row + i, rows.sequence.len + i);
        (io.prepare)(row, g);
        let kv = rows.sequence.kv_head(layer * num_kv_heads + g);
        // SAFETY: the batch prepared the position; this thread alone writes it; io holds the row.
        unsafe {
            let source = (row * num_kv_heads + g) * d;
            kv.store(kernels, position, io.keys.add(source), io.values.add(source));
        }
        // Of a long prefill only the end is kept, of a local layer nothing; two rows must not race for one slot.
        let placement = &rows.append.queries;
        if let Some(layer) = self.shape.indexed_layer(layer).filter(|_| i >= placement.skip) {
            let (group, slot) = (self.shape.group_size() * d, rows.sequence.recent.write_slot(layer, placement, i));
            // SAFETY: the batch made the rings this sequence's own; each row has its own slot, and each KV head its part of it.
            let (queries, slot) = unsafe {
                let queries = std::slice::from_raw_parts(io.queries.add(row * num_q_heads * d + g * group), group);
                (queries, std::slice::from_raw_parts_mut(slot.add(g * group), group))
            };
            kernels.narrow(queries, slot);
        }
    }

    /// Begins a layer.
    fn begin_layer(&self, layer: usize) -> Units {
        self.end_layer();
        lock(&self.clock).began = Some(Instant::now());
        self.prefills_taken.store(0, Ordering::Relaxed);
        // Heads of one layer see the same count, whichever thread comes first.
        self.rows.iter().for_each(|rows| rows.repairs_before.store(lock(&rows.repairs).len(), Ordering::Relaxed));
        self.schedule.restart(|head| self.head_state(head, layer).is_some_and(|state| state.head.is_long()));
        Units::of(self.rows[self.num_decode_rows..].iter().map(|rows| rows.append.num_rows).sum(), ROWS_AT_ONCE)
    }

    /// Adds what the layer that ended took.
    fn end_layer(&self) {
        let mut clock = lock(&self.clock);
        let Some(began) = clock.began.take() else { return };
        let ended = (0..self.threads.len()).filter_map(|thread| self.scratch(thread).times.last.take()).max();
        clock.time += ended.map_or(Duration::ZERO, |ended| ended.duration_since(began));
    }
}

/// The sum of the KV heads' maps, in their order, for one query head of one layer; `None` of none.
fn mean_of(maps: Vec<UnsafeCell<Vec<f32>>>, num_heads: usize) -> Option<Vec<f32>> {
    let mut maps = maps.into_iter().map(UnsafeCell::into_inner);
    let mut sum = maps.next()?;
    maps.for_each(|map| sum.iter_mut().zip(map).for_each(|(sum, x)| *sum += x));
    sum.iter_mut().for_each(|sum| *sum /= num_heads as f32);
    Some(sum)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
