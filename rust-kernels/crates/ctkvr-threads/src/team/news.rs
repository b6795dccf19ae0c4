//! How a thread waits for something to do: it looks for some microseconds, then sleeps in the kernel.

use std::time::{Duration, Instant};

use crate::sync::{Futex, Ordering};

/// Looks between two readings of the clock.
const LOOKS_PER_READING: u32 = 32;

/// How long a thread looks before it sleeps.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// Longer than most waits for a thread that runs, and about as long as to be woken takes.
    WithinJob,
    /// To sample a token and ask for the next one takes a good part of that.
    BetweenJobs,
}

impl Patience {
    fn duration(self) -> Duration {
        match self {
            Self::WithinJob => Duration::from_micros(20),
            Self::BetweenJobs => Duration::from_micros(300),
        }
    }
}

/// Somebody sleeps, or is about to, until the number changes. In the same word as the number: a flag of its own could be cleared by who
/// told the last news just when a thread sets it again, and that thread would sleep through the next ones.
const IS_AWAITED: u32 = 1;

/// A number that changes whenever there may be something new to do; an even one, but for [`IS_AWAITED`].
pub(super) struct News(Futex);

impl News {
    pub fn new() -> Self {
        Self(Futex::new())
    }

    pub fn number(&self) -> u32 {
        self.0.0.load(Ordering::Acquire) & !IS_AWAITED
    }

    /// Says that there may be something new.
    pub fn tell(&self) {
        let next = |number: u32| Some((number | IS_AWAITED).wrapping_add(1));
        let (Ok(number) | Err(number)) = self.0.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
        if number & IS_AWAITED != 0 {
            self.0.wake_all();
        }
    }

    /// Returns when the number is no longer `seen`, or for no reason.
    pub fn wait(&self, seen: u32, patience: Patience) {
        if self.changes_soon(seen, patience.duration()) {
            return;
        }
        let awaited = seen | IS_AWAITED;
        match self.0.0.compare_exchange(seen, awaited, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => self.0.wait(awaited),
            Err(number) if number == awaited => self.0.wait(awaited),
            Err(_) => {}
        }
    }

    /// Looks for at most `most`; a model checker has no time.
    fn changes_soon(&self, seen: u32, most: Duration) -> bool {
        if cfg!(loom) {
            return false;
        }
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS_PER_READING {
                if self.number() != seen {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= most {
                return false;
            }
        }
    }
}
