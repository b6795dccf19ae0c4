//! The graph's threads, working together inside one attention call: a barrier that spins, and a shared counter of work items.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Spins before a waiting thread gives its time slice away: on a machine with fewer free cores than threads the others must run.
const SPINS_BEFORE_YIELD: u32 = 20_000;

/// A thread of the team panicked; the others leave instead of waiting for it.
#[derive(Debug)]
pub(crate) struct Broken;

/// Meeting point of the threads of one call. Reusable.
#[derive(Default)]
pub(crate) struct Team {
    arrived: AtomicUsize,
    generation: AtomicUsize,
    next_item: AtomicUsize,
    broken: AtomicBool,
}

impl Team {
    /// Waits until `count` threads are here. What each wrote before is visible to all after.
    pub(crate) fn meet(&self, count: usize) -> Result<(), Broken> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Broken);
        }
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.store(0, Ordering::Relaxed);
            self.next_item.store(0, Ordering::Relaxed);
            self.generation.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        self.wait_until(|| self.generation.load(Ordering::Acquire) != generation)
    }

    /// Those of `items` that this thread takes: every item goes to one thread, whichever is free first. All threads pass the same
    /// items, once between two meetings.
    pub(crate) fn share<'a, T>(&'a self, items: impl Iterator<Item = T> + 'a) -> impl Iterator<Item = T> + 'a {
        let mut taken = self.take();
        items.enumerate().filter_map(move |(i, item)| {
            (i == taken).then(|| {
                taken = self.take();
                item
            })
        })
    }

    fn take(&self) -> usize {
        self.next_item.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until `is_ready`: for what other threads are doing.
    pub(crate) fn wait_until(&self, mut is_ready: impl FnMut() -> bool) -> Result<(), Broken> {
        let mut spins = 0;
        while !is_ready() {
            if self.broken.load(Ordering::Acquire) {
                return Err(Broken);
            }
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Lets every waiting thread go; `meet` fails until [`Team::repair`].
    pub(crate) fn break_up(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Makes the team usable again; no thread may be inside.
    pub(crate) fn repair(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.next_item.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_between_meetings() {
        const THREADS: usize = 4;
        const ROUNDS: usize = 200;
        let team = Team::default();
        let counts: Vec<AtomicUsize> = (0..ROUNDS * 7).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|s| {
            for _ in 0..THREADS {
                s.spawn(|| {
                    for round in 0..ROUNDS {
                        assert!(team.meet(THREADS).is_ok());
                        for item in team.share(0..7) {
                            counts[round * 7 + item].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn a_broken_team_lets_the_waiting_go() {
        let team = Team::default();
        std::thread::scope(|s| {
            let waiting = s.spawn(|| team.meet(2).is_err());
            team.break_up();
            assert!(waiting.join().expect("no panic"));
        });
        team.repair();
        assert!(team.meet(1).is_ok());
    }
}
