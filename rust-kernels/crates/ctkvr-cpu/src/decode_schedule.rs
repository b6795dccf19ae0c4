//! Which piece of which decode head a thread of a step does next. A head's stages follow each other, each in one piece or in parts; pieces
//! of different heads are independent. A thread takes what is ready: long heads first, whose one-piece stages others' work then fills, then
//! the earliest stage, so that no thread stands at a barrier while another head has work, and its own head before others, whose data is in
//! another core's cache.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Parts a head's scores and attention are cut into at most.
const MAX_PARTS: usize = 32;
/// Items a stage should have for each thread, so that threads end together.
const ITEMS_PER_THREAD: usize = 4;

/// Stages of one head, in order; `Score`, `Weigh` and `Attend` come in parts. Of a head with little to do `Weigh` and `AverageDropped` are part of
/// `Select`. `Attend` does not wait for `AverageDropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Propose,
    Score,
    Weigh,
    Select,
    AverageDropped,
    Attend,
    Finish,
}

const STAGES: &[Stage] = &[Stage::Propose, Stage::Score, Stage::Select, Stage::Attend, Stage::Finish];
const STAGES_OF_LONG: &[Stage] =
    &[Stage::Propose, Stage::Score, Stage::Weigh, Stage::Select, Stage::AverageDropped, Stage::Attend, Stage::Finish];

/// One piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) stage: Stage,
    pub(crate) head: usize,
    pub(crate) part: usize,
    /// Whether the head has far more to do than others of the layer.
    pub(crate) is_long: bool,
}

/// What [`DecodeSchedule::take`] finds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Taken {
    Item(Item),
    /// Whatever is left waits for what other threads are doing.
    NothingReady,
    /// Every item of the layer has been taken.
    NothingLeft,
}

/// Items of one head, counted in the order of stages.
#[derive(Default)]
struct Progress {
    taken: AtomicUsize,
    done: AtomicUsize,
    /// See [`Item`].
    is_long: AtomicBool,
}

/// How far each head of a step is.
#[derive(Default)]
pub(crate) struct DecodeSchedule {
    heads: Vec<Progress>,
    num_heads: usize,
}

impl DecodeSchedule {
    /// For `num_heads` heads; never shrinks.
    pub(crate) fn resize(&mut self, num_heads: usize) {
        self.num_heads = num_heads;
        if self.heads.len() < num_heads {
            self.heads.resize_with(num_heads, Progress::default);
        }
    }

    /// Begins a layer, whose long heads `is_long` tells, before any item is taken.
    pub(crate) fn restart(&self, is_long: impl Fn(usize) -> bool) {
        for (i, head) in self.heads[..self.num_heads].iter().enumerate() {
            head.taken.store(0, Ordering::Relaxed);
            head.done.store(0, Ordering::Relaxed);
            head.is_long.store(is_long(i), Ordering::Relaxed);
        }
    }

    /// Parts to share a head's work out in for so many threads. Scores are the same wherever they are cut, and attention is cut between its
    /// blocks: results do not depend on it.
    pub(crate) fn num_parts(&self, num_threads: usize) -> usize {
        match num_threads {
            1 => 1,
            n => (ITEMS_PER_THREAD * n).div_ceil(self.num_heads.max(1)).clamp(1, MAX_PARTS),
        }
    }

    /// Items of the layer in all.
    pub(crate) fn num_items(&self, num_parts: usize) -> usize {
        let of_head = |head: &Progress| {
            let stages = if head.is_long.load(Ordering::Relaxed) { STAGES_OF_LONG } else { STAGES };
            stages.iter().map(|&stage| if in_parts(stage) { num_parts } else { 1 }).sum::<usize>()
        };
        self.heads[..self.num_heads].iter().map(of_head).sum()
    }

    /// An item for one of `num_threads` threads, which does it and then says so with [`DecodeSchedule::finish`].
    pub(crate) fn take(&self, thread: usize, num_threads: usize, num_parts: usize) -> Taken {
        let first = self.num_heads * thread / num_threads;
        loop {
            let (mut best, mut is_left): (Option<(Item, usize)>, bool) = (None, false);
            for head in (first..self.num_heads).chain(0..first) {
                let progress = &self.heads[head];
                let taken = progress.taken.load(Ordering::Relaxed);
                let is_long = progress.is_long.load(Ordering::Relaxed);
                let Some((stage, part, needed)) = item_of(taken, num_parts, is_long) else { continue };
                is_left = true;
                let is_better = best.is_none_or(|(other, _)| (!is_long, stage) < (!other.is_long, other.stage));
                if is_better && progress.done.load(Ordering::Acquire) >= needed {
                    best = Some((Item { stage, head, part, is_long }, taken));
                }
            }
            let Some((item, taken)) = best else {
                return if is_left { Taken::NothingReady } else { Taken::NothingLeft };
            };
            let counter = &self.heads[item.head].taken;
            if counter.compare_exchange(taken, taken + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Taken::Item(item);
            }
        }
    }

    /// Announces an item as done.
    pub(crate) fn finish(&self, item: Item) {
        self.heads[item.head].done.fetch_add(1, Ordering::Release);
    }
}

/// Stage and part of a head's item `index`, and how many items must be done before it may begin; `None` beyond the last.
fn item_of(index: usize, num_parts: usize, is_long: bool) -> Option<(Stage, usize, usize)> {
    let mut first = 0;
    for &stage in if is_long { STAGES_OF_LONG } else { STAGES } {
        let parts = if in_parts(stage) { num_parts } else { 1 };
        if index < first + parts {
            let needed = if is_long && stage == Stage::Attend { first - 1 } else { first };
            return Some((stage, index - first, needed));
        }
        first += parts;
    }
    None
}

fn in_parts(stage: Stage) -> bool {
    matches!(stage, Stage::Score | Stage::Weigh | Stage::Attend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn stages_of_a_head_follow_each_other_on_any_number_of_threads() {
        for num_threads in [1, 2, 5] {
            let mut schedule = DecodeSchedule::default();
            schedule.resize(3);
            schedule.restart(|head| head == 2);
            let parts = schedule.num_parts(num_threads);
            let log = Mutex::new(Vec::new());
            std::thread::scope(|s| {
                for thread in 0..num_threads {
                    let (schedule, log) = (&schedule, &log);
                    s.spawn(move || {
                        loop {
                            match schedule.take(thread, num_threads, parts) {
                                Taken::NothingLeft => break,
                                Taken::NothingReady => std::thread::yield_now(),
                                Taken::Item(item) => {
                                    log.lock().expect("no panic").push(item);
                                    schedule.finish(item);
                                }
                            }
                        }
                    });
                }
            });
            let log = log.into_inner().expect("no panic");
            assert_eq!(log.len(), 2 * (3 + 2 * parts) + 4 + 3 * parts);
            assert_eq!(log.len(), schedule.num_items(parts));
            for head in 0..3 {
                let of_head = log.iter().filter(|i| i.head == head).map(|i| i.stage);
                // Attention goes on beside the average.
                let others: Vec<Stage> = of_head.clone().filter(|&stage| stage != Stage::AverageDropped).collect();
                assert!(others.is_sorted(), "head {head} with {num_threads} threads: {others:?}");
                let place = |stage| of_head.clone().position(|other| other == stage);
                if head == 2 {
                    assert!(place(Stage::Select) < place(Stage::AverageDropped));
                    assert!(place(Stage::AverageDropped) < place(Stage::Finish));
                }
            }
        }
    }

    #[test]
    fn long_heads_come_first_and_others_by_their_stage() {
        let mut schedule = DecodeSchedule::default();
        schedule.resize(3);
        schedule.restart(|head| head == 1);
        let parts = schedule.num_parts(2);
        let take = |thread| match schedule.take(thread, 2, parts) {
            Taken::Item(item) => item,
            other => panic!("{other:?}"),
        };
        let first = take(0);
        assert_eq!((first.stage, first.head), (Stage::Propose, 1));
        // Until it is done, others' heads have their turn.
        let (second, third) = (take(0), take(1));
        assert_eq!((second.stage, second.head, third.stage, third.head), (Stage::Propose, 0, Stage::Propose, 2));
        [first, second, third].into_iter().for_each(|item| schedule.finish(item));
        for part in 0..parts {
            let item = take(0);
            assert_eq!((item.stage, item.head, item.part), (Stage::Score, 1, part));
        }
        let item = take(0);
        assert_eq!((item.stage, item.head), (Stage::Score, 0), "the long head's selection waits for its scores");
    }
}
