//! The prefill rows of a step, cut into work items: by KV head and by tokens; and by keys too where that would leave threads without work,
//! as it does with the few tokens that ride with decodes. Parts over different keys merge exactly by log-sum-exp.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::panels::BLOCK;
use crate::partial::Partial;

/// Items of a layer for each thread, at least: the last one to end keeps the others waiting for a small part of the time only.
const ITEMS_PER_THREAD: usize = 4;
/// Keys of an item at least: an item has a start and an end of its own.
const MIN_KEYS: usize = 4 * BLOCK;

/// Some tokens of one KV head of prefill rows.
pub(crate) struct PrefillPart {
    /// Which of the step's rows.
    pub(crate) rows: usize,
    pub(crate) kv_head: usize,
    pub(crate) first_token: usize,
    pub(crate) num_tokens: usize,
    /// Keys that the last of its tokens sees.
    num_keys: usize,
    /// Of each piece of the keys, the softmax of all the part's rows; one piece needs none.
    pieces: Vec<UnsafeCell<Partial>>,
    /// Pieces that are done in the layer that runs.
    num_done: AtomicUsize,
}

// SAFETY: a piece is its item's alone until the item is counted as done, and whoever counts the last one has them all.
unsafe impl Sync for PrefillPart {}

impl PrefillPart {
    /// `position`: of the first token of the rows.
    pub(crate) fn new(rows: usize, kv_head: usize, tokens: Range<usize>, position: usize) -> Self {
        let (first_token, num_tokens, num_keys) = (tokens.start, tokens.len(), position + tokens.end);
        Self { rows, kv_head, first_token, num_tokens, num_keys, pieces: Vec::new(), num_done: AtomicUsize::new(0) }
    }

    fn num_pieces(&self) -> usize {
        self.pieces.len().max(1)
    }

    /// Positions of a piece of the keys: whole blocks.
    fn keys(&self, piece: usize) -> Range<usize> {
        let blocks = self.num_keys.div_ceil(BLOCK);
        let edge = |i: usize| (blocks * i / self.num_pieces() * BLOCK).min(self.num_keys);
        edge(piece)..edge(piece + 1)
    }

    /// Hands in what an item found over its piece; whoever hands in the last one gets them all as one.
    pub(crate) fn hand_in(&self, piece: usize, found: &mut Partial) -> bool {
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

/// Of one step; the same for each layer.
#[derive(Default)]
pub(crate) struct PrefillParts {
    /// Heaviest first: the last tokens of a prefill see the most keys.
    parts: Vec<PrefillPart>,
}

impl PrefillParts {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.parts.clear();
    }

    pub(crate) fn push(&mut self, part: PrefillPart) {
        self.parts.push(part);
    }

    /// Once all parts are there: orders them, and cuts their keys for so many threads.
    pub(crate) fn arrange(&mut self, num_threads: usize) {
        self.parts.sort_by_key(|part| std::cmp::Reverse(part.num_keys * part.num_tokens));
        let wanted = (ITEMS_PER_THREAD * num_threads).div_ceil(self.parts.len().max(1));
        for part in &mut self.parts {
            let pieces = wanted.min(part.num_keys / MIN_KEYS);
            if pieces > 1 && num_threads > 1 {
                part.pieces.resize_with(pieces, UnsafeCell::default);
            }
        }
    }

    /// Every item: its part, which piece of it, and the positions of the keys it attends to.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&PrefillPart, usize, Range<usize>)> {
        self.parts.iter().flat_map(|part| (0..part.num_pieces()).map(move |piece| (part, piece, part.keys(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_cover_all_keys_in_whole_blocks_and_are_enough_for_all_threads() {
        for (num_keys, num_tokens, threads) in [(1, 1, 4), (500, 8, 2), (7003, 8, 2), (7003, 8, 16), (70_000, 300, 1)] {
            let mut parts = PrefillParts::default();
            (0..3).for_each(|head| parts.push(PrefillPart::new(0, head, 0..num_tokens, num_keys - num_tokens)));
            parts.arrange(threads);
            let items: Vec<_> = parts.items().collect();
            for head in 0..3 {
                let mut end = 0;
                for (_, _, keys) in items.iter().filter(|(part, ..)| part.kv_head == head) {
                    assert!(keys.start == end && !keys.is_empty() && keys.start.is_multiple_of(BLOCK));
                    end = keys.end;
                }
                assert_eq!(end, num_keys);
            }
            let most = 3 * (num_keys / MIN_KEYS).max(1);
            assert!(items.len() >= most.min(if threads == 1 { 3 } else { ITEMS_PER_THREAD * threads }));
        }
    }

    #[test]
    fn the_last_piece_to_come_gets_the_whole_whatever_the_order() {
        let found = |max: f32| Partial { max: vec![max], sum: vec![2.0], values: vec![max, 4.0] };
        let whole = |order: [usize; 3]| {
            let mut part = PrefillPart::new(0, 0, 0..1, 10_000);
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
