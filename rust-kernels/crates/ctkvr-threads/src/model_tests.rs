//! Every interleaving of small jobs, within a bound on preemptions, under the memory model: what a unit wrote is seen by the next phase, each unit is
//! done once, nobody sleeps for ever, and a job is looked at by nobody once it has ended. `npm test -- loom` runs them.

use std::ops::Range;
use std::sync::atomic::AtomicBool as CancelFlag;

use loom::cell::UnsafeCell;

use crate::decode_schedule::{DecodeSchedule, Stage, Taken};
use crate::sync::{Arc, AtomicUsize, Ordering};
use crate::team::{Job, Stopped, Team, Units};

/// As many switches at any place as two threads need to get into each other's way twice.
const MAX_PREEMPTIONS: usize = 2;

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(MAX_PREEMPTIONS);
    builder.check(f);
}

/// Phases of so many units; every unit writes its cell and reads those of the phase before, which loom takes for a race if nothing orders
/// them.
struct Relay {
    cells: Vec<Vec<UnsafeCell<usize>>>,
    cancel_in: Option<(usize, Arc<CancelFlag>)>,
}

// SAFETY: loom watches the cells.
unsafe impl Sync for Relay {}

impl Relay {
    fn new(counts: &[usize]) -> Self {
        let cells = counts.iter().map(|&count| (0..count).map(|_| UnsafeCell::new(0)).collect()).collect();
        Self { cells, cancel_in: None }
    }

    /// How often the units of a phase were done.
    fn times(&self, phase: usize) -> Vec<usize> {
        // SAFETY: loom watches.
        self.cells[phase].iter().map(|cell| cell.with(|times| unsafe { *times })).collect()
    }
}

impl Job for Relay {
    fn open(&self, phase: usize) -> Option<Units> {
        if phase > 0 && phase <= self.cells.len() {
            assert!(self.times(phase - 1).iter().all(|&times| times == 1), "phase {phase} begins early");
        }
        self.cells.get(phase).map(|cells| Units::of(cells.len(), 1))
    }

    fn work(&self, phase: usize, units: Range<usize>, _thread: usize) -> usize {
        if phase > 0 {
            assert!(self.times(phase - 1).iter().all(|&times| times == 1), "a unit of phase {phase} is early");
        }
        for unit in units.clone() {
            // SAFETY: loom watches.
            self.cells[phase][unit].with_mut(|times| unsafe { *times += 1 });
        }
        if let Some((at, cancel)) = &self.cancel_in
            && *at == phase
        {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        units.len()
    }
}

fn run(team: &Team, job: &Relay, cancel: &CancelFlag) -> Result<(), Stopped> {
    team.run(job, cancel)
}

#[test]
fn phases_follow_each_other_and_see_what_was_written() {
    model(|| {
        let team = Team::new(2).expect("threads");
        let job = Relay::new(&[2, 2]);
        run(&team, &job, &CancelFlag::new(false)).expect("it ends");
        (0..2).for_each(|phase| assert!(job.times(phase).iter().all(|&times| times == 1)));
    });
}

#[test]
fn a_second_job_is_not_mixed_up_with_the_first() {
    model(|| {
        let team = Team::new(2).expect("threads");
        for _ in 0..2 {
            // Dropped at the end of the turn: whoever looked at it later would be seen.
            let job = Relay::new(&[1]);
            run(&team, &job, &CancelFlag::new(false)).expect("it ends");
            assert_eq!(job.times(0), [1]);
        }
    });
}

#[test]
fn a_cancelled_job_ends_between_phases() {
    model(|| {
        let team = Team::new(2).expect("threads");
        let cancel = Arc::new(CancelFlag::new(false));
        let job = Relay { cancel_in: Some((0, Arc::clone(&cancel))), ..Relay::new(&[2, 2]) };
        assert!(matches!(run(&team, &job, &cancel), Err(Stopped::Cancelled)));
        assert_eq!((job.times(0), job.times(1)), (vec![1, 1], vec![0, 0]));
    });
}

/// Linked units, to be done in their order: whoever comes early puts its unit back.
struct Chain {
    taken: AtomicUsize,
    done: AtomicUsize,
    value: UnsafeCell<usize>,
    len: usize,
}

// SAFETY: loom watches the cell.
unsafe impl Sync for Chain {}

impl Job for Chain {
    fn open(&self, phase: usize) -> Option<Units> {
        (phase == 0).then_some(Units { count: self.len, most: 1, linked: true })
    }

    fn work(&self, _phase: usize, _units: Range<usize>, _thread: usize) -> usize {
        let next = self.done.load(Ordering::Acquire);
        if self.taken.compare_exchange(next, next + 1, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return 0;
        }
        // SAFETY: loom watches.
        self.value.with_mut(|value| unsafe { *value += 1 });
        self.done.store(next + 1, Ordering::Release);
        1
    }
}

#[test]
fn linked_units_that_wait_are_done_in_the_end() {
    model(|| {
        let team = Team::new(2).expect("threads");
        let job = Chain { taken: AtomicUsize::new(0), done: AtomicUsize::new(0), value: UnsafeCell::new(0), len: 2 };
        team.run(&job, &CancelFlag::new(false)).expect("it ends");
        // SAFETY: loom watches.
        assert_eq!(job.value.with(|value| unsafe { *value }), 2);
    });
}

/// A head's memory as stages use it: the whole of it, or a part of its own.
struct HeadMemory {
    whole: UnsafeCell<Vec<Stage>>,
    parts: [UnsafeCell<usize>; 2],
}

// SAFETY: loom watches the cells.
unsafe impl Sync for HeadMemory {}
// SAFETY: as above.
unsafe impl Send for HeadMemory {}

/// One head on two threads.
fn check_schedule(is_long: bool, num_parts: usize) {
    model(move || {
        let mut schedule = DecodeSchedule::default();
        schedule.resize(1);
        schedule.restart(|_| is_long);
        let head = HeadMemory { whole: UnsafeCell::new(Vec::new()), parts: [UnsafeCell::new(0), UnsafeCell::new(0)] };
        let shared = Arc::new((schedule, head));
        let work = move |thread: usize, (schedule, head): &(DecodeSchedule, HeadMemory)| {
            loop {
                match schedule.take(thread, 2, num_parts) {
                    Taken::NothingLeft => return,
                    Taken::NothingReady => loom::thread::yield_now(),
                    Taken::Item(item) => {
                        // SAFETY: loom watches.
                        unsafe {
                            match item.stage {
                                // What comes in parts reads the head and writes its own.
                                Stage::Score | Stage::Weigh | Stage::Attend => {
                                    head.whole.with(|stages| assert!((*stages).last() < Some(&item.stage)));
                                    head.parts[item.part].with_mut(|times| *times += 1);
                                }
                                // Beside the attention: reads the head, writes what attention does not read.
                                Stage::AverageDropped => head.whole.with(|stages| assert!(!(*stages).is_empty())),
                                Stage::Propose | Stage::Select | Stage::Finish => {
                                    head.parts.iter().for_each(|part| part.with(|_| ()));
                                    head.whole.with_mut(|stages| (*stages).push(item.stage));
                                }
                            }
                        }
                        schedule.finish(item);
                    }
                }
            }
        };
        let other = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || work(1, &shared))
        };
        work(0, &shared);
        other.join().expect("no panic");
        // SAFETY: loom watches.
        shared.1.whole.with(|stages| assert_eq!(unsafe { &*stages }, &[Stage::Propose, Stage::Select, Stage::Finish]));
    });
}

#[test]
fn stages_of_a_head_see_what_the_ones_before_wrote() {
    check_schedule(false, 2);
}

#[test]
fn stages_of_a_long_head_see_what_the_ones_before_wrote() {
    check_schedule(true, 1);
}
