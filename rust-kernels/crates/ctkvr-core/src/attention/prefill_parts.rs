//! The prefill rows of a step, cut into work items: by KV head and by tokens; and by spans of keys too where that would leave threads
//! without work, as it does with the few tokens that ride with decodes. Spans lie at fixed positions and merge in order, by log-sum-exp,
//! whoever works on them.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::attention::partial::Partial;
use crate::attention::prefill::{MIN_BF16_POSITION, SPAN, tokens_per_item};

/// Items of a layer for each thread, at least: the last one to end keeps the others waiting for a small part of the time only.
const ITEMS_PER_THREAD: usize = 4;

/// Some tokens of one KV head of prefill rows.
pub struct PrefillPart {
    /// Which of the step's rows.
    pub rows: usize,
    pub kv_head: usize,
    pub first_token: usize,
    pub num_tokens: usize,
    /// Where the keys begin that its tokens see: a span.
    first_key: usize,
    /// Where they end.
    num_keys: usize,
    /// Of each span of the keys, the softmax of all the part's rows; none where one item takes all spans.
    pieces: Vec<UnsafeCell<Partial>>,
    /// Spans that are done in the layer that runs.
    num_done: AtomicUsize,
}

// SAFETY: a piece is its item's alone until the item is counted as done, and whoever counts the last one has them all.
unsafe impl Sync for PrefillPart {}

impl PrefillPart {
    /// Some tokens `of` the rows.
    fn new(rows: usize, kv_head: usize, tokens: Range<usize>, of: PrefillRows) -> Self {
        let (first_token, num_tokens, num_keys) = (tokens.start, tokens.len(), of.position + tokens.end);
        let first_key = (of.position + first_token + 1).saturating_sub(of.window) / SPAN * SPAN;
        Self { rows, kv_head, first_token, num_tokens, first_key, num_keys, pieces: Vec::new(), num_done: AtomicUsize::new(0) }
    }

    /// Keys from the first span on that its tokens see.
    fn keys_read(&self) -> usize {
        self.num_keys - self.first_key
    }

    fn num_pieces(&self) -> usize {
        self.pieces.len().max(1)
    }

    /// Positions of a piece: a span, or all of them.
    fn keys(&self, piece: usize) -> Range<usize> {
        let first = self.first_key + piece * SPAN;
        if self.pieces.is_empty() { first..self.num_keys } else { first..self.num_keys.min(first + SPAN) }
    }

    /// Hands in what an item found over its piece; whoever hands in the last one gets them all as one.
    pub fn hand_in(&self, piece: usize, found: &mut Partial) -> bool {
        let Some(slot) = self.pieces.get(piece) else { return true };
        // SAFETY: see `Sync`.
        unsafe { std::ptr::swap(slot.get(), found) };
        if self.num_done.fetch_add(1, Ordering::AcqRel) + 1 < self.pieces.len() {
            return false;
        }
        self.num_done.store(0, Ordering::Relaxed);
        // In their order, so that the result does not depend on who was last.
        for (i, slot) in self.pieces.iter().enumerate() {
            // SAFETY: see `Sync`.
            let part = unsafe { &mut *slot.get() };
            if i == 0 { std::mem::swap(found, part) } else { found.merge(part) }
        }
        true
    }
}

/// Rows of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct PrefillRows {
    /// Of the first one.
    pub position: usize,
    pub num_tokens: usize,
    /// Query heads of a KV head.
    pub group: usize,
    /// Positions that a row sees, its own included; `usize::MAX`: all.
    pub window: usize,
}

/// Of one step; the same for each layer that sees as much.
#[derive(Default)]
pub struct PrefillParts {
    /// Heaviest first: the last tokens of a prefill see the most keys.
    parts: Vec<PrefillPart>,
}

impl PrefillParts {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn clear(&mut self) {
        self.parts.clear();
    }

    /// Adds one KV head of so many rows.
    pub fn push(&mut self, rows: usize, kv_head: usize, of: PrefillRows) {
        let PrefillRows { position, num_tokens, group, .. } = of;
        let mut first = 0;
        while first < num_tokens {
            // A part's products are all of one kind.
            let same_kind = MIN_BF16_POSITION.checked_sub(position + first).filter(|n| *n > 0).unwrap_or(num_tokens);
            let end = num_tokens.min(first + tokens_per_item(group).min(same_kind));
            self.parts.push(PrefillPart::new(rows, kv_head, first..end, of));
            first = end;
        }
    }

    /// Once all parts are there: orders them, and makes items of spans where so many threads need them.
    pub fn arrange(&mut self, num_threads: usize) {
        self.parts.sort_by_key(|part| std::cmp::Reverse(part.keys_read() * part.num_tokens));
        if num_threads == 1 || self.parts.len() >= ITEMS_PER_THREAD * num_threads {
            return;
        }
        for part in self.parts.iter_mut().filter(|part| part.keys_read() > SPAN) {
            part.pieces.resize_with(part.keys_read().div_ceil(SPAN), UnsafeCell::default);
        }
    }

    /// Every item: its part, which piece of it, and the positions of the keys it attends to.
    pub fn items(&self) -> impl Iterator<Item = (&PrefillPart, usize, Range<usize>)> {
        self.parts.iter().flat_map(|part| (0..part.num_pieces()).map(move |piece| (part, piece, part.keys(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_cover_all_keys_in_whole_spans_and_are_enough_for_all_threads() {
        let cases = [(1, 1, 4), (500, 8, 2), (7003, 8, 2), (7003, 8, 16), (70_000, 300, 1), (2300, 700, 2)];
        for (num_keys, num_tokens, threads) in cases {
            let mut parts = PrefillParts::default();
            let rows = PrefillRows { position: num_keys - num_tokens, num_tokens, group: 3, window: usize::MAX };
            (0..3).for_each(|head| parts.push(0, head, rows));
            parts.arrange(threads);
            let items: Vec<_> = parts.items().collect();
            for head in 0..3 {
                let of_head = || items.iter().filter(|(part, ..)| part.kv_head == head);
                let mut tokens: Vec<_> = of_head().map(|(part, ..)| part.first_token..part.first_token + part.num_tokens).collect();
                tokens.sort_by_key(|tokens| tokens.start);
                tokens.dedup();
                assert!(tokens.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert_eq!((tokens[0].start, tokens[tokens.len() - 1].end), (0, num_tokens));
                for tokens in tokens {
                    let position = num_keys - num_tokens + tokens.start;
                    let last = num_keys - num_tokens + tokens.end - 1;
                    assert!(
                        position >= MIN_BF16_POSITION || last < MIN_BF16_POSITION,
                        "{position} to {last}: products of one kind"
                    );
                    let mut end = 0;
                    for (_, _, keys) in of_head().filter(|(part, ..)| part.first_token == tokens.start) {
                        assert!(keys.start == end && !keys.is_empty() && keys.start.is_multiple_of(SPAN));
                        end = keys.end;
                    }
                    assert_eq!(end, last + 1);
                }
            }
            let most = 3 * num_keys.div_ceil(SPAN);
            assert!(items.len() >= most.min(if threads == 1 { 3 } else { ITEMS_PER_THREAD * threads }));
        }
    }

    #[test]
    fn of_a_window_only_spans_that_are_seen_are_dealt_out() {
        for threads in [1, 8] {
            let mut parts = PrefillParts::default();
            parts.push(0, 0, PrefillRows { position: 9000, num_tokens: 40, group: 1, window: 3000 });
            parts.arrange(threads);
            let keys: Vec<[usize; 2]> = parts.items().map(|(.., keys)| [keys.start, keys.end]).collect();
            let spans = [[4096, 6144], [6144, 8192], [8192, 9040]];
            assert!(if threads == 1 { keys == [[4096, 9040]] } else { keys == spans }, "{keys:?}");
        }
    }

    #[test]
    fn the_last_piece_to_come_gets_the_whole_whatever_the_order() {
        let found = |max: f32| Partial { max: vec![max], sum: vec![2.0], values: vec![max, 4.0] };
        let whole = |order: [usize; 3]| {
            let rows = PrefillRows { position: 10_000, num_tokens: 1, group: 1, window: usize::MAX };
            let mut part = PrefillPart::new(0, 0, 0..1, rows);
            part.pieces.resize_with(3, UnsafeCell::default);
            let results = order.map(|piece| {
                let mut result = found(piece as f32);
                part.hand_in(piece, &mut result).then_some((result.max, result.sum, result.values))
            });
            assert!(results[0].is_none() && results[1].is_none());
            results[2].clone()
        };
        assert!(whole([0, 1, 2]).is_some());
        assert_eq!(whole([0, 1, 2]), whole([2, 0, 1]));
    }
}
