//! Where a step's attention time goes, by stage. One or two clock readings an item, and an item is a good part of a head: always on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a thread is doing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Activity {
    Store,
    Probe,
    Union,
    Score,
    Select,
    Attend,
    Merge,
    Prefill,
    Wait,
}

const NUM_ACTIVITIES: usize = Activity::Wait as usize + 1;

/// Milliseconds of one step's attention, summed over layers, mean over the threads that took part: the sum of all is wall clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StageTimes {
    /// New keys, values and queries written.
    pub store_ms: f64,
    /// Nearest centroids, and the tail.
    pub probe_ms: f64,
    pub union_ms: f64,
    /// Exact scores of candidates.
    pub score_ms: f64,
    pub select_ms: f64,
    /// Attention over what was chosen.
    pub attend_ms: f64,
    /// Parts and tail joined.
    pub merge_ms: f64,
    /// Attention of prefill rows.
    pub prefill_ms: f64,
    /// For other threads.
    pub wait_ms: f64,
}

impl StageTimes {
    /// Choosing what to read.
    pub fn retrieval_ms(&self) -> f64 {
        self.probe_ms + self.union_ms + self.score_ms + self.select_ms
    }

    /// Everything else: reading it, storing, and waiting.
    pub fn attention_ms(&self) -> f64 {
        self.store_ms + self.attend_ms + self.merge_ms + self.prefill_ms + self.wait_ms
    }

    /// Adds another step's.
    pub fn add(&mut self, other: &Self) {
        self.store_ms += other.store_ms;
        self.probe_ms += other.probe_ms;
        self.union_ms += other.union_ms;
        self.score_ms += other.score_ms;
        self.select_ms += other.select_ms;
        self.attend_ms += other.attend_ms;
        self.merge_ms += other.merge_ms;
        self.prefill_ms += other.prefill_ms;
        self.wait_ms += other.wait_ms;
    }
}

/// One thread's clock during one layer.
pub(crate) struct StageClock {
    last: Instant,
    nanoseconds: [u64; NUM_ACTIVITIES],
}

impl StageClock {
    pub(crate) fn start() -> Self {
        Self { last: Instant::now(), nanoseconds: [0; NUM_ACTIVITIES] }
    }

    /// What happened since the last call was `activity`.
    pub(crate) fn lap(&mut self, activity: Activity) {
        let now = Instant::now();
        self.nanoseconds[activity as usize] += (now - self.last).as_nanos() as u64;
        self.last = now;
    }

    /// Of what was counted as `from`, `part` was `to`.
    pub(crate) fn reassign(&mut self, part: Duration, from: Activity, to: Activity) {
        let part = (part.as_nanos() as u64).min(self.nanoseconds[from as usize]);
        self.nanoseconds[from as usize] -= part;
        self.nanoseconds[to as usize] += part;
    }
}

/// Sums over threads and layers of an open step.
#[derive(Default)]
pub(crate) struct StageTotals {
    nanoseconds: [AtomicU64; NUM_ACTIVITIES],
    num_threads: AtomicUsize,
}

impl StageTotals {
    /// Adds one thread's layer; `num_threads` work on it.
    pub(crate) fn add(&self, clock: &StageClock, num_threads: usize) {
        self.num_threads.store(num_threads, Ordering::Relaxed);
        for (total, ns) in self.nanoseconds.iter().zip(clock.nanoseconds) {
            total.fetch_add(ns, Ordering::Relaxed);
        }
    }

    /// The figures so far; begins anew.
    pub(crate) fn take(&self) -> StageTimes {
        let per_thread = 1e-6 / self.num_threads.swap(0, Ordering::Relaxed).max(1) as f64;
        let ms = |activity: Activity| self.nanoseconds[activity as usize].swap(0, Ordering::Relaxed) as f64 * per_thread;
        StageTimes {
            store_ms: ms(Activity::Store),
            probe_ms: ms(Activity::Probe),
            union_ms: ms(Activity::Union),
            score_ms: ms(Activity::Score),
            select_ms: ms(Activity::Select),
            attend_ms: ms(Activity::Attend),
            merge_ms: ms(Activity::Merge),
            prefill_ms: ms(Activity::Prefill),
            wait_ms: ms(Activity::Wait),
        }
    }
}
