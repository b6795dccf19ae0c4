//! The order in which a step's threads do the decode heads' stages: one list of items, stage after stage over all heads, taken one by
//! one. An item waits for its own head's earlier stages only, so that no thread stands at a barrier while another head has work.
//! Items wait for items before them in the list, and a thread does what it has taken in order: somebody can always go on.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Parts a head's scores and attention are cut into at most.
const MAX_PARTS: usize = 32;
/// Items a stage should have for each thread, so that threads end together.
const ITEMS_PER_THREAD: usize = 4;

/// Stages of one head, in order; `Score` and `Attend` come in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Propose,
    Score,
    Select,
    Attend,
    Finish,
}

const STAGES: [Stage; 5] = [Stage::Propose, Stage::Score, Stage::Select, Stage::Attend, Stage::Finish];

/// One piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) stage: Stage,
    pub(crate) head: usize,
    pub(crate) part: usize,
}

/// How far each head of a step is.
#[derive(Default)]
pub(crate) struct DecodeSchedule {
    /// Items done, of all stages, one counter a head.
    done: Vec<AtomicUsize>,
    num_heads: usize,
}

impl DecodeSchedule {
    /// For `num_heads` heads; never shrinks.
    pub(crate) fn resize(&mut self, num_heads: usize) {
        self.num_heads = num_heads;
        if self.done.len() < num_heads {
            self.done.resize_with(num_heads, AtomicUsize::default);
        }
    }

    /// Begins a layer; the team meets after it.
    pub(crate) fn restart(&self) {
        self.done[..self.num_heads].iter().for_each(|d| d.store(0, Ordering::Relaxed));
    }

    /// Parts to cut a head's work into for so many threads.
    pub(crate) fn num_parts(&self, num_threads: usize) -> usize {
        match num_threads {
            1 => 1,
            n => (ITEMS_PER_THREAD * n).div_ceil(self.num_heads.max(1)).clamp(1, MAX_PARTS),
        }
    }

    /// All items, in order.
    pub(crate) fn items(&self, num_parts: usize) -> impl Iterator<Item = Item> + use<> {
        let num_heads = self.num_heads;
        STAGES.into_iter().flat_map(move |stage| {
            let parts = if in_parts(stage) { num_parts } else { 1 };
            (0..num_heads).flat_map(move |head| (0..parts).map(move |part| Item { stage, head, part }))
        })
    }

    /// Whether the item's head has finished every earlier stage.
    pub(crate) fn is_ready(&self, item: Item, num_parts: usize) -> bool {
        let earlier = STAGES.iter().take_while(|s| **s != item.stage);
        let needed: usize = earlier.map(|s| if in_parts(*s) { num_parts } else { 1 }).sum();
        self.done[item.head].load(Ordering::Acquire) >= needed
    }

    /// Announces an item as done.
    pub(crate) fn finish(&self, item: Item) {
        self.done[item.head].fetch_add(1, Ordering::Release);
    }
}

fn in_parts(stage: Stage) -> bool {
    matches!(stage, Stage::Score | Stage::Attend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::Team;
    use std::sync::Mutex;

    #[test]
    fn stages_of_a_head_follow_each_other_on_any_number_of_threads() {
        for num_threads in [1, 2, 5] {
            let (team, mut schedule) = (Team::default(), DecodeSchedule::default());
            schedule.resize(3);
            let parts = schedule.num_parts(num_threads);
            let log = Mutex::new(Vec::new());
            std::thread::scope(|s| {
                for _ in 0..num_threads {
                    s.spawn(|| {
                        for item in team.share(schedule.items(parts)) {
                            team.wait_until(|| schedule.is_ready(item, parts)).expect("whole");
                            log.lock().expect("no panic").push(item);
                            schedule.finish(item);
                        }
                    });
                }
            });
            let log = log.into_inner().expect("no panic");
            assert_eq!(log.len(), 3 * (3 + 2 * parts));
            for head in 0..3 {
                let stages: Vec<usize> = log.iter().filter(|i| i.head == head).map(|i| i.stage as usize).collect();
                assert!(stages.is_sorted(), "head {head} with {num_threads} threads: {stages:?}");
            }
        }
    }
}
