//! Threads that do the work of a step together and share the machine's cores politely.
//!
//! A [`Job`] is a sequence of phases, each of so many units that any thread may do. A phase ends when its units are done, not when all
//! threads have come: a thread that the system does not run, and that holds no units, is waited for by nobody, and the caller alone can do
//! everything. Whoever does the last units opens the next phase. Who finds nothing to do looks for it for some microseconds and then sleeps
//! in the kernel until somebody has news.
//!
//! Each thread has its own share of a phase's units, a run of neighbours, and takes it from the front, in large pieces first; what others
//! have left is taken from its end. A share is one word of two counters. Taking from it pins the phase: until those units are done no other
//! phase begins, nor does the job end, so that only who holds units may look at the job.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread looks for the next units before it sleeps: longer than most waits for a thread that runs, and about as long as to be
/// woken takes.
const SPIN: Duration = Duration::from_micros(20);
/// The same between jobs: to sample a token and ask for the next one takes a good part of that.
const SPIN_BETWEEN_JOBS: Duration = Duration::from_micros(300);
/// Looks between two readings of the clock.
const LOOKS_PER_READING: u32 = 32;

/// The units of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    pub count: usize,
    /// Most that a thread takes at once.
    pub most: usize,
    /// Units wait for each other: [`Job::work`] may leave some for later, and whoever does one tells the others.
    pub linked: bool,
}

impl Units {
    /// Of a phase that has nothing to do.
    pub const NONE: Self = Self { count: 0, most: 1, linked: false };

    /// Units that do not wait for each other, dealt out in pieces of at most `most`.
    pub const fn of(count: usize, most: usize) -> Self {
        Self { count, most, linked: false }
    }
}

/// Memory worth asking for before a phase's units can be had.
#[derive(Debug, Clone, Copy)]
pub struct Ahead {
    pub start: *const u8,
    pub bytes: usize,
    /// Asks for it; must bear any address.
    pub ask: unsafe fn(*const u8, usize),
}

/// What a team does.
pub trait Job: Sync {
    /// Begins a phase: one thread calls it, when all before is done. `None`: the job is at its end.
    fn open(&self, phase: usize) -> Option<Units>;

    /// Does some of the phase's units and returns how many; only of linked units may it be fewer than all: then others wait to be done first.
    /// Linked units are not told apart: any will do.
    fn work(&self, phase: usize, units: Range<usize>, thread: usize) -> usize;

    /// What the thread will read first in a later phase.
    fn ahead(&self, _phase: usize, _thread: usize) -> Option<Ahead> {
        None
    }
}

/// Why a job did not come to its end.
pub enum Stopped {
    Cancelled,
    /// What a thread panicked with.
    Panicked(Box<dyn Any + Send>),
}

impl std::fmt::Debug for Stopped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Cancelled => "Cancelled",
            Self::Panicked(_) => "Panicked",
        })
    }
}

/// Threads that live as long as this, together with whoever calls [`Team::run`].
pub struct Team {
    shared: Arc<Shared>,
    /// One job at a time.
    running: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

/// A thread's share of the open phase: units `first..end` that nobody has taken, `end << 32 | first`. On lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Share(AtomicU64);

/// What the open job is.
struct Current {
    job: *const dyn Job,
    cancel: *const AtomicBool,
}

struct Shared {
    shares: Vec<Share>,
    /// Changes whenever there may be something new to do; what the waiting look at.
    news: AtomicU32,
    /// Somebody sleeps until it changes, or is about to.
    is_awaited: AtomicBool,
    is_running: AtomicBool,
    is_ending: AtomicBool,
    /// A unit panicked: what is taken now is counted and not done.
    is_broken: AtomicBool,
    /// Written by who opens a phase, while nobody holds units; read by who holds some.
    current: UnsafeCell<Current>,
    phase: AtomicUsize,
    count: AtomicUsize,
    most: AtomicUsize,
    is_linked: AtomicBool,
    done: AtomicUsize,
    stopped: Mutex<Option<Stopped>>,
}

// SAFETY: `current` points to a job and a flag that may be shared, and is reached by one thread alone or by those that hold units (see the
// module), which the shares' atomics order after its writing.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Team {
    /// Starts `num_threads - 1` threads: the caller of [`Team::run`] is the first one.
    ///
    /// # Errors
    /// What the system says when it has no more threads.
    pub fn new(num_threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(num_threads.max(1)));
        let mut team = Self { shared: Arc::clone(&shared), running: Mutex::new(()), workers: Vec::new() };
        for thread in 1..num_threads {
            let shared = Arc::clone(&shared);
            let worker = std::thread::Builder::new().name(format!("ctkvr-{thread}"));
            team.workers.push(worker.spawn(move || shared.serve(thread, || shared.is_ending.load(Ordering::Acquire)))?);
        }
        Ok(team)
    }

    pub fn num_threads(&self) -> usize {
        self.shared.shares.len()
    }

    /// Does a job, phase by phase; `cancel` is looked at between phases. Returns when no thread looks at the job any more.
    ///
    /// # Errors
    /// See [`Stopped`].
    pub fn run(&self, job: &dyn Job, cancel: &AtomicBool) -> Result<(), Stopped> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: no job runs, so nobody looks at `current`; the lifetime is forgotten until this call returns, before which the job ends.
        unsafe { *shared.current.get() = Current { job: std::mem::transmute::<&dyn Job, &'static dyn Job>(job), cancel } };
        shared.is_broken.store(false, Ordering::Relaxed);
        shared.is_running.store(true, Ordering::Relaxed);
        shared.open_from(0);
        shared.serve(0, || !shared.is_running.load(Ordering::Acquire));
        match shared.stopped.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(stopped) => Err(stopped),
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.tell();
        // A worker's panics are caught; there is nothing to hear from it.
        self.workers.drain(..).for_each(|worker| drop(worker.join()));
    }
}

/// No job.
struct Nothing;

impl Job for Nothing {
    fn open(&self, _phase: usize) -> Option<Units> {
        None
    }
    fn work(&self, _phase: usize, units: Range<usize>, _thread: usize) -> usize {
        units.len()
    }
}

static NOT_CANCELLED: AtomicBool = AtomicBool::new(false);

impl Shared {
    fn new(num_threads: usize) -> Self {
        Self {
            shares: (0..num_threads).map(|_| Share::default()).collect(),
            news: AtomicU32::new(0),
            is_awaited: AtomicBool::new(false),
            is_running: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            current: UnsafeCell::new(Current { job: &Nothing, cancel: &NOT_CANCELLED }),
            phase: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            most: AtomicUsize::new(1),
            is_linked: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            stopped: Mutex::new(None),
        }
    }

    /// One thread's life: does what there is until nothing is left and `is_over`.
    fn serve(&self, thread: usize, is_over: impl Fn() -> bool) {
        let mut ahead = None;
        loop {
            let seen = self.news.load(Ordering::Acquire);
            if let Some(units) = self.take(thread) {
                let is_all = self.work(units, thread, &mut ahead);
                if is_all {
                    continue;
                }
            } else if is_over() {
                return;
            }
            if let Some(Ahead { start, bytes, ask }) = ahead.take() {
                // SAFETY: whoever made it says that any address will do.
                unsafe { ask(start, bytes) };
            }
            self.wait_for_news(seen);
        }
    }

    /// Takes units: of the thread's own share from the front, most of what is left, so that the rest, which others may take too, evens out who
    /// ends first; of another's from the end.
    fn take(&self, thread: usize) -> Option<Range<usize>> {
        // A size that belongs to another phase is only a worse choice.
        let most = self.most.load(Ordering::Relaxed).max(1);
        let own = self.shares[thread].take(|left| (left - left / 4).min(most), true);
        own.or_else(|| {
            let others = (1..self.shares.len()).map(|i| (thread + i) % self.shares.len());
            others.into_iter().find_map(|other| self.shares[other].take(|left| left.div_ceil(2).min(most), false))
        })
    }

    /// Does units that were taken; whether all of them were done.
    fn work(&self, units: Range<usize>, thread: usize, ahead: &mut Option<Ahead>) -> bool {
        let (phase, count) = (self.phase.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed));
        let is_linked = self.is_linked.load(Ordering::Relaxed);
        // SAFETY: the units pin the job.
        let job = unsafe { &*(*self.current.get()).job };
        let mut done = units.len();
        if !self.is_broken.load(Ordering::Relaxed) {
            let worked = catch_unwind(AssertUnwindSafe(|| {
                let done = job.work(phase, units.clone(), thread);
                *ahead = job.ahead(phase, thread);
                done
            }));
            match worked {
                Ok(worked) => done = worked,
                Err(panic) => self.break_up(panic),
            }
        }
        let left = units.len() - done;
        if left > 0 {
            self.shares[thread].put_back(left);
        }
        // From here on the job is pinned no longer, unless these were the phase's last.
        if done > 0 {
            if self.done.fetch_add(done, Ordering::AcqRel) + done == count {
                self.open_from(phase + 1);
            } else if is_linked {
                self.tell();
            }
        }
        left == 0
    }

    fn break_up(&self, panic: Box<dyn Any + Send>) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.get_or_insert(Stopped::Panicked(panic));
        self.is_broken.store(true, Ordering::Release);
    }

    /// Opens the first phase from `phase` on that has units, or ends the job. Nobody holds units.
    fn open_from(&self, mut phase: usize) {
        // SAFETY: the job has not ended, and only this thread can end it.
        let (job, cancel) = unsafe { (&*(*self.current.get()).job, &*(*self.current.get()).cancel) };
        let units = loop {
            if self.is_broken.load(Ordering::Acquire) {
                break None;
            }
            if cancel.load(Ordering::Relaxed) {
                *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopped::Cancelled);
                break None;
            }
            match catch_unwind(AssertUnwindSafe(|| job.open(phase))) {
                Ok(Some(units)) if units.count == 0 => phase += 1,
                Ok(units) => break units,
                Err(panic) => self.break_up(panic),
            }
        };
        if let Some(Units { count, most, linked }) = units {
            self.phase.store(phase, Ordering::Relaxed);
            self.count.store(count, Ordering::Relaxed);
            self.most.store(most, Ordering::Relaxed);
            self.is_linked.store(linked, Ordering::Relaxed);
            self.done.store(0, Ordering::Relaxed);
            let num_threads = self.shares.len();
            for (thread, share) in self.shares.iter().enumerate() {
                share.set(count * thread / num_threads..count * (thread + 1) / num_threads);
            }
        } else {
            self.is_running.store(false, Ordering::Release);
        }
        self.tell();
    }

    /// Says that there may be something new.
    fn tell(&self) {
        self.news.fetch_add(1, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) && self.is_awaited.swap(false, Ordering::SeqCst) {
            atomic_wait::wake_all(&self.news);
        }
    }

    fn wait_for_news(&self, seen: u32) {
        let most = if self.is_running.load(Ordering::Relaxed) { SPIN } else { SPIN_BETWEEN_JOBS };
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS_PER_READING {
                if self.news.load(Ordering::Acquire) != seen {
                    return;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= most {
                break;
            }
        }
        // Either who tells sees this, or this sees what was told.
        self.is_awaited.store(true, Ordering::SeqCst);
        if self.news.load(Ordering::SeqCst) == seen {
            atomic_wait::wait(&self.news, seen);
        }
    }
}

impl Share {
    fn set(&self, units: Range<usize>) {
        self.0.store(packed(units), Ordering::Release);
    }

    /// Takes `some` of what is left, from the front or from the end.
    fn take(&self, some: impl Fn(usize) -> usize, from_front: bool) -> Option<Range<usize>> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let left = unpacked(word);
            if left.is_empty() {
                return None;
            }
            let some = some(left.len()).clamp(1, left.len());
            let (taken, rest) = if from_front {
                (left.start..left.start + some, left.start + some..left.end)
            } else {
                (left.end - some..left.end, left.start..left.end - some)
            };
            match self.0.compare_exchange_weak(word, packed(rest), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(now) => word = now,
            }
        }
    }

    /// Gives `count` linked units back, which are not told apart.
    fn put_back(&self, count: usize) {
        self.0.fetch_add((count as u64) << 32, Ordering::Release);
    }
}

fn packed(units: Range<usize>) -> u64 {
    (units.end as u64) << 32 | units.start as u64
}

fn unpacked(word: u64) -> Range<usize> {
    (word & u64::from(u32::MAX)) as usize..(word >> 32) as usize
}

#[cfg(test)]
mod tests;
