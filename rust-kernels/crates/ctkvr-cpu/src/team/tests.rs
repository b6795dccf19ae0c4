//! Jobs whose units sleep, yield and panic, on more threads than this machine has cores.

use super::*;
use std::sync::atomic::AtomicU64;

static NEVER: AtomicBool = AtomicBool::new(false);

/// A small generator (SplitMix64).
fn random(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Now and then loses its time slice, as a thread does whose core somebody else needs.
fn dawdle(state: &AtomicU64) {
    match random(state) % 64 {
        0 => std::thread::sleep(Duration::from_micros(200)),
        1..8 => std::thread::yield_now(),
        _ => {}
    }
}

/// Phases of random sizes; each unit sees that all before it is done.
struct Counting {
    sizes: Vec<Units>,
    /// How often each unit of a phase was done.
    times: Vec<Vec<AtomicUsize>>,
    state: AtomicU64,
}

impl Counting {
    fn new(seed: u64, phases: usize) -> Self {
        let state = AtomicU64::new(seed);
        let sizes: Vec<Units> =
            (0..phases).map(|_| Units::of((random(&state) % 40) as usize, 1 + (random(&state) % 9) as usize)).collect();
        let times = sizes.iter().map(|units| (0..units.count).map(|_| AtomicUsize::new(0)).collect()).collect();
        Self { sizes, times, state }
    }

    fn is_done(&self, phase: usize) -> bool {
        self.times[phase].iter().all(|times| times.load(Ordering::Relaxed) == 1)
    }
}

impl Job for Counting {
    fn open(&self, phase: usize) -> Option<Units> {
        dawdle(&self.state);
        assert!(phase == 0 || self.is_done(phase - 1), "phase {phase} begins before the one before is done");
        self.sizes.get(phase).copied()
    }

    fn work(&self, phase: usize, units: Range<usize>, _thread: usize) -> usize {
        assert!(phase == 0 || self.is_done(phase - 1), "a unit of phase {phase} is early");
        assert!(units.len() <= 9);
        for unit in units.clone() {
            dawdle(&self.state);
            self.times[phase][unit].fetch_add(1, Ordering::Relaxed);
        }
        units.len()
    }
}

#[test]
fn every_unit_is_done_once_and_phases_follow_each_other() {
    for num_threads in [1, 2, 3, 9] {
        let team = Team::new(num_threads).expect("threads");
        assert_eq!(team.num_threads(), num_threads);
        for seed in 0..20 {
            let job = Counting::new(seed, 40);
            team.run(&job, &NEVER).unwrap_or_else(|stopped| panic!("{stopped:?}, {num_threads} threads, seed {seed}"));
            assert!((0..40).all(|phase| job.is_done(phase)), "{num_threads} threads, seed {seed}");
        }
    }
}

/// Chains of links, each to be done after the one before.
struct Chains {
    /// Of each chain, links taken and links done.
    links: Vec<[AtomicUsize; 2]>,
    len: usize,
    state: AtomicU64,
}

impl Chains {
    fn try_one(&self) -> bool {
        self.links.iter().any(|[taken, done]| {
            let link = taken.load(Ordering::Relaxed);
            let is_ready = link < self.len && done.load(Ordering::Acquire) == link;
            if !is_ready || taken.compare_exchange(link, link + 1, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                return false;
            }
            dawdle(&self.state);
            done.fetch_add(1, Ordering::Release);
            true
        })
    }
}

impl Job for Chains {
    fn open(&self, phase: usize) -> Option<Units> {
        (phase == 0).then(|| Units { count: self.links.len() * self.len, most: 1, linked: true })
    }

    fn work(&self, _phase: usize, units: Range<usize>, _thread: usize) -> usize {
        units.take_while(|_| self.try_one()).count()
    }
}

#[test]
fn linked_units_wait_for_each_other() {
    for num_threads in [1, 2, 7] {
        let team = Team::new(num_threads).expect("threads");
        for seed in 0..20 {
            let job = Chains { links: (0..3).map(|_| Default::default()).collect(), len: 30, state: AtomicU64::new(seed) };
            team.run(&job, &NEVER).unwrap_or_else(|stopped| panic!("{stopped:?}"));
            assert!(job.links.iter().all(|[_, done]| done.load(Ordering::Relaxed) == 30));
        }
    }
}

/// Called at the opening of a phase and for its units.
type Stop<'a> = dyn Fn(usize, Option<&Range<usize>>) + Sync + 'a;

/// Stops in the middle: by a panic of a unit or of the opening, or by a cancel.
struct Stopping<'a> {
    counting: Counting,
    how: &'a Stop<'a>,
}

impl Job for Stopping<'_> {
    fn open(&self, phase: usize) -> Option<Units> {
        (self.how)(phase, None);
        self.counting.open(phase)
    }
    fn work(&self, phase: usize, units: Range<usize>, thread: usize) -> usize {
        (self.how)(phase, Some(&units));
        self.counting.work(phase, units, thread)
    }
}

#[test]
fn a_panic_or_a_cancel_ends_the_job_and_the_team_goes_on() {
    let cancel = AtomicBool::new(false);
    let panics_in_unit = |phase: usize, units: Option<&Range<usize>>| {
        assert!(phase != 7 || units.is_none_or(|units| !units.contains(&0)), "asked to, in a unit");
    };
    let panics_at_opening =
        |phase: usize, units: Option<&Range<usize>>| assert!(phase != 7 || units.is_some(), "asked to, at the opening");
    let cancels = |phase: usize, _: Option<&Range<usize>>| {
        if phase == 7 {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    for num_threads in [1, 2, 5] {
        let team = Team::new(num_threads).expect("threads");
        let run = |how: &Stop| {
            let mut counting = Counting::new(3, 40);
            counting.sizes[7] = Units::of(20, 2);
            counting.times[7] = (0..20).map(|_| AtomicUsize::new(0)).collect();
            let job = Stopping { counting, how };
            cancel.store(false, Ordering::Relaxed);
            let outcome = team.run(&job, &cancel);
            assert!(outcome.is_ok() == job.counting.is_done(39));
            // Nothing is begun after the stop.
            assert!(outcome.is_ok() || job.counting.times[8..].iter().flatten().all(|times| times.load(Ordering::Relaxed) == 0));
            outcome
        };
        for _ in 0..10 {
            for (how, text) in [(&panics_in_unit as &Stop, "in a unit"), (&panics_at_opening, "opening")] {
                let Err(Stopped::Panicked(panic)) = run(how) else { panic!("must stop") };
                assert!(panic.downcast_ref::<&str>().is_some_and(|message| message.contains(text)));
            }
            assert!(matches!(run(&cancels), Err(Stopped::Cancelled)));
            assert!(run(&|_, _| ()).is_ok());
        }
    }
}

/// Holds a thread that asks for memory until the flag is set.
static IS_HELD: AtomicBool = AtomicBool::new(false);

unsafe fn hold(_: *const u8, _: usize) {
    while IS_HELD.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_thread_that_does_not_run_is_waited_for_by_nobody() {
    /// Other threads than the first are held once they have done something.
    struct Holding(AtomicUsize);
    impl Job for Holding {
        fn open(&self, phase: usize) -> Option<Units> {
            (phase < 300).then(|| Units::of(8, 1))
        }
        fn work(&self, _phase: usize, units: Range<usize>, thread: usize) -> usize {
            if thread > 0 {
                self.0.fetch_add(1, Ordering::Relaxed);
            } else if self.0.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            units.len()
        }
        fn ahead(&self, _phase: usize, thread: usize) -> Option<Ahead> {
            (thread > 0).then_some(Ahead { start: std::ptr::null(), bytes: 0, ask: hold })
        }
    }
    let team = Team::new(3).expect("threads");
    IS_HELD.store(true, Ordering::Release);
    let job = Holding(AtomicUsize::new(0));
    assert!(team.run(&job, &NEVER).is_ok());
    assert!(job.0.load(Ordering::Relaxed) > 0, "no thread was held: nothing is shown");
    assert!(team.run(&job, &NEVER).is_ok(), "the caller alone");
    IS_HELD.store(false, Ordering::Release);
}

#[test]
fn a_cancelled_job_opens_nothing() {
    let team = Team::new(2).expect("threads");
    let job = Counting::new(1, 3);
    assert!(matches!(team.run(&job, &AtomicBool::new(true)), Err(Stopped::Cancelled)));
    assert!(job.times.iter().flatten().all(|times| times.load(Ordering::Relaxed) == 0));
}
