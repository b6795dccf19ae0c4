/**
 * When a session's index is built or built again. Every selector but `full` has one, if only to fix what lies between sinks and window.
 * Between builds, what was appended is read exactly (it counts as recent window), so a late build costs time, not quality; but a question
 * asked after the build is answered better when its own queries are centroids.
 */
import { indexedRegion, type SelectorOptions } from '@ctkvr/core';
import type { NativeSequence } from '@ctkvr/native';

/** A prefill of fewer tokens than this does not build ctkvr's index again: a scan of all keys would cost more than it gives. */
export const MIN_PREFILL_FOR_BUILD = 8;

/** Generated tokens beyond the recent window after which ctkvr's index is built again: reading them exactly begins to cost. */
export const MAX_UNINDEXED_TOKENS = 1024;

/** The same for selectors whose index is only the region: a build costs next to nothing. */
export const MAX_UNINDEXED_TOKENS_OF_REGION = 32;

export interface IndexState {
  readonly sequence: Pick<NativeSequence, 'length' | 'indexedRange'>;
  readonly selector: SelectorOptions;
}

/** Whether a selector uses an index at this length. */
export function needsIndex({ sequence, selector }: IndexState): boolean {
  const { start, end } = indexedRegion(sequence.length, selector);
  return selector.selector !== 'full' && sequence.length >= selector.denseBelow && end > start;
}

/** Whether to build after a prefill that stored `numTokens` tokens. */
export function shouldBuildAfterPrefill(state: IndexState, numTokens: number): boolean {
  return needsIndex(state) && (numTokens >= MIN_PREFILL_FOR_BUILD || hasNone(state) || !scansKeys(state));
}

/** Whether to build before the next decode step: there is no index yet, or much has been appended since it was built. */
export function shouldBuildBeforeDecode(state: IndexState): boolean {
  const maxUnindexed = scansKeys(state) ? MAX_UNINDEXED_TOKENS : MAX_UNINDEXED_TOKENS_OF_REGION;
  return needsIndex(state) && (hasNone(state) || unindexed(state) > maxUnindexed);
}

/**
 * Whether a build would have too few centroids: fewer queries are held than half of what the selector wants. So it is after a truncation
 * (a short one leaves enough) and after a cancelled prefill.
 */
export function missesQueries(state: IndexState, numHeld: number): boolean {
  const wanted = Math.min(state.selector.numCentroids, state.sequence.length);
  return needsIndex(state) && scansKeys(state) && numHeld < wanted / 2;
}

function scansKeys({ selector }: IndexState): boolean {
  return selector.selector === 'ctkvr';
}

function hasNone({ sequence }: IndexState): boolean {
  return sequence.indexedRange[1] === 0;
}

/** Tokens that are neither indexed nor sinks nor in the recent window. */
function unindexed({ sequence, selector }: IndexState): number {
  const end = Math.max(sequence.indexedRange[1], selector.numSinkTokens);
  return sequence.length - selector.recentWindow - end;
}
