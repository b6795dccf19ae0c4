/**
 * When a session's index is built or brought up to date. Every method but `full` has one, if only to set the region between sinks and
 * window. What was appended since the build is read exactly, as part of the recent window, so a late build costs time, not quality. But a
 * question asked after the build is answered better when its own queries are centroids. While tokens are generated, ctkvr's index grows by
 * itself inside the engine's steps.
 */
import { centroidCount, indexedRegion, type SelectorOptions } from '@ctkvr/core';
import type { NativeSequence } from '@ctkvr/native';

/** A prefill of fewer tokens than this does not add to an index of keys at once: ctkvr's next growth takes their queries. */
export const MIN_PREFILL_FOR_BUILD = 8;

/** Generated tokens beyond the recent window after which a baseline's index of keys is built again: reading them exactly begins to cost. */
export const MAX_UNINDEXED_TOKENS = 1024;

/** The same for selectors whose index is only the region: a build costs next to nothing. */
export const MAX_UNINDEXED_TOKENS_OF_REGION = 32;

/** The prompt's last queries that snapkv looks at (arXiv 2404.14469). */
const SNAPKV_QUERIES = 32;

export interface IndexState {
  readonly sequence: Pick<NativeSequence, 'length' | 'indexedRange' | 'numRecentQueries'>;
  readonly selector: SelectorOptions;
}

/** Whether a selector uses an index at this length. */
export function needsIndex({ sequence, selector }: IndexState): boolean {
  const { start, end } = indexedRegion(sequence.length, selector);
  return selector.method !== 'full' && sequence.length >= selector.denseBelow && end > start;
}

/** Whether to build after a prefill that stored `numTokens` tokens. */
export function shouldBuildAfterPrefill(state: IndexState, numTokens: number): boolean {
  return needsIndex(state) && (numTokens >= MIN_PREFILL_FOR_BUILD || hasNone(state) || !scansKeys(state));
}

/** Whether to build before the next decode step: there is no index yet, or one that does not grow by itself has fallen behind. */
export function shouldBuildBeforeDecode(state: IndexState): boolean {
  const growsByItself = state.selector.method === 'ctkvr';
  const maxUnindexed = scansKeys(state) ? MAX_UNINDEXED_TOKENS : MAX_UNINDEXED_TOKENS_OF_REGION;
  return needsIndex(state) && (hasNone(state) || (!growsByItself && unindexed(state) > maxUnindexed));
}

/** How many of the last queries a build looks at: ctkvr's centroids, what snapkv observes; the others' indexes are of keys alone. */
export function queriesWanted({ selector, sequence }: IndexState): number {
  const { start, end } = indexedRegion(sequence.length, selector);
  const held = Math.min(centroidCount(selector, end - start), sequence.length);
  if (selector.method === 'ctkvr') return held;
  return selector.method === 'snapkv' ? Math.min(SNAPKV_QUERIES, held) : 0;
}

/**
 * Whether a first build would have too few queries: fewer are held than half of what the selector wants. So it is after a truncation
 * beyond what the index remembers (a short one leaves enough) and after a cancelled prefill.
 */
export function missesQueries(state: IndexState): boolean {
  return needsIndex(state) && hasNone(state) && state.sequence.numRecentQueries < queriesWanted(state) / 2;
}

/** Whether a build looks at every key; that of `streaming` and `exactTopK` only fixes the region. */
function scansKeys({ selector: { method } }: IndexState): boolean {
  return method !== 'streaming' && method !== 'exactTopK';
}

function hasNone({ sequence }: IndexState): boolean {
  return sequence.indexedRange.end === 0;
}

/** Tokens that are neither indexed nor sinks nor in the recent window. */
function unindexed({ sequence, selector }: IndexState): number {
  const end = Math.max(sequence.indexedRange.end, selector.numSinkTokens);
  return sequence.length - selector.recentWindow - end;
}
