//! Times a case with every kernel set, several threads at once, the sets taking turns.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ctkvr_kernels::Kernels;

use crate::job::Case;

/// A sample is as many passes as take about this long: far above what threads need to meet.
const SAMPLE_MS: f64 = 20.0;

/// Milliseconds of one pass.
pub(crate) struct Samples {
    pub(crate) median_ms: f64,
    pub(crate) p10_ms: f64,
    pub(crate) p90_ms: f64,
}

impl Samples {
    /// Nearest ranks. `ms` holds at least one.
    fn new(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |q: f64| ms[(q * (ms.len() - 1) as f64).round() as usize];
        Self { median_ms: at(0.5), p10_ms: at(0.1), p90_ms: at(0.9) }
    }
}

/// Samples of each set of `all`, in its order. Every thread makes its own data; a sample ends when the last thread is done.
pub(crate) fn time_case(case: &Case, all: &[&Kernels], threads: usize, rounds: usize) -> Vec<Samples> {
    let meeting = Barrier::new(threads);
    let passes: Vec<AtomicUsize> = all.iter().map(|_| AtomicUsize::new(1)).collect();
    let work = || run_thread(case, all, rounds, &meeting, &passes);
    let samples = std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work()
    });
    samples.into_iter().map(Samples::new).collect()
}

/// One thread's part; returns milliseconds a pass, `[sets][rounds]`, which all threads see alike.
fn run_thread(case: &Case, all: &[&Kernels], rounds: usize, meeting: &Barrier, passes: &[AtomicUsize]) -> Vec<Vec<f64>> {
    let mut job = (case.make)();
    let mut sample = |set: usize| {
        let count = passes[set].load(Ordering::Relaxed);
        meeting.wait();
        let started = Instant::now();
        (0..count).for_each(|_| job.run(all[set]));
        meeting.wait();
        started.elapsed().as_secs_f64() * 1e3 / count as f64
    };
    for (set, passes) in passes.iter().enumerate() {
        sample(set);
        let ms = sample(set);
        // Whoever comes first: each thread has measured the same.
        if meeting.wait().is_leader() {
            passes.store((SAMPLE_MS / ms).ceil().clamp(1.0, 1e6) as usize, Ordering::Relaxed);
        }
        meeting.wait();
    }
    let mut samples = vec![Vec::new(); all.len()];
    for round in 0..rounds {
        for place in 0..all.len() {
            let set = (round + place) % all.len();
            samples[set].push(sample(set));
        }
    }
    samples
}
