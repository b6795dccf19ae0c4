//! Where a step's attention time goes, by stage. One or two clock readings an item, and an item is a good part of a head: always on.

use std::time::{Duration, Instant};

/// What a thread is doing.
#[derive(Debug, Clone, Copy)]
pub enum Activity {
    Store,
    Probe,
    Union,
    Score,
    Select,
    Attend,
    Merge,
    Prefill,
}

const NUM_ACTIVITIES: usize = Activity::Prefill as usize + 1;

/// Milliseconds of one step's attention, summed over layers, mean over the team's threads: the sum of all is wall clock.
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

/// One thread's clock during one item.
pub struct StageClock {
    last: Instant,
    nanoseconds: [u64; NUM_ACTIVITIES],
}

impl StageClock {
    pub fn start() -> Self {
        Self { last: Instant::now(), nanoseconds: [0; NUM_ACTIVITIES] }
    }

    /// What happened since the last call was `activity`.
    pub fn lap(&mut self, activity: Activity) {
        let now = Instant::now();
        self.nanoseconds[activity as usize] += (now - self.last).as_nanos() as u64;
        self.last = now;
    }

    /// Of what was counted as `from`, `part` was `to`.
    pub fn reassign(&mut self, part: Duration, from: Activity, to: Activity) {
        let part = (part.as_nanos() as u64).min(self.nanoseconds[from as usize]);
        self.nanoseconds[from as usize] -= part;
        self.nanoseconds[to as usize] += part;
    }
}

/// One thread's sums over the layers of an open step.
#[derive(Default)]
pub struct StageTotals {
    nanoseconds: [u64; NUM_ACTIVITIES],
    /// When the thread last ended an item.
    pub last: Option<Instant>,
}

impl StageTotals {
    /// Adds one item's.
    pub fn add(&mut self, clock: &StageClock) {
        self.last = Some(clock.last);
        self.nanoseconds.iter_mut().zip(clock.nanoseconds).for_each(|(total, ns)| *total += ns);
    }

    /// All threads' figures so far, of so much time; they begin anew.
    pub fn take(threads: &mut [&mut Self], time: Duration) -> StageTimes {
        let per_thread = 1e-6 / threads.len().max(1) as f64;
        let mut ms = |activity: Activity| {
            threads.iter_mut().map(|totals| std::mem::take(&mut totals.nanoseconds[activity as usize])).sum::<u64>() as f64
                * per_thread
        };
        let times = StageTimes {
            store_ms: ms(Activity::Store),
            probe_ms: ms(Activity::Probe),
            union_ms: ms(Activity::Union),
            score_ms: ms(Activity::Score),
            select_ms: ms(Activity::Select),
            attend_ms: ms(Activity::Attend),
            merge_ms: ms(Activity::Merge),
            prefill_ms: ms(Activity::Prefill),
            wait_ms: 0.0,
        };
        let wait_ms = (time.as_secs_f64() * 1e3 - times.retrieval_ms() - times.attention_ms()).max(0.0);
        StageTimes { wait_ms, ..times }
    }
}
