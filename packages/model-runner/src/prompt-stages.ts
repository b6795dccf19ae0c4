/**
 * Where a prompt's index is made when prompts may begin from a kept one. What the index holds must be the same whether the beginning was kept
 * or read anew, or answers would depend on who asked before. So it depends on the prompt's length alone: a first build at a length on a
 * grid, and one extension by the queries since. Prompts that are not much longer share the first build.
 */
import { indexedRegion, type SelectorOptions } from '@ctkvr/core';
import { MIN_PREFILL_FOR_BUILD, needsIndex, queriesWanted } from './index-policy.js';

/** Tokens are whole prompts' rows: none was generated. */
export interface KeptBeginning {
  /** Tokens of it that are the same. */
  readonly length: number;
  /** Tokens that were stored when its index was built; null = it has none. */
  readonly indexedAt: number | null;
  /** Its queries are held from this position on. */
  readonly queriesFrom: number;
}

export interface PromptStages {
  /** Tokens of the kept beginning that stay. */
  readonly from: number;
  /** Whether an index that stays behind is of another length than wanted. */
  readonly dropsIndex: boolean;
  /** Tokens at which the index is first built; null = at the end, or not at all. */
  readonly base: number | null;
  /** Whether the base is still to be built. */
  readonly buildsBase: boolean;
  /** Whether the index is built, or extended, when all tokens are stored. */
  readonly buildsEnd: boolean;
}

/** Generated positions that are multiples of this keep their query (DECODE_STRIDE of the engine). */
const DECODE_STRIDE = 4;

const nothingKept: KeptBeginning = { length: 0, indexedAt: null, queriesFrom: 0 };

/** Returns how to come from a kept beginning to `numTokens` stored tokens and their index. */
export function planStages(
  numTokens: number,
  selector: SelectorOptions,
  kept: KeptBeginning = nothingKept,
): PromptStages {
  const base = baseLength(numTokens, selector);
  const buildsEnd = needsAt(numTokens, selector) && (base === null || numTokens - base >= MIN_PREFILL_FOR_BUILD);
  const buildsBase = base !== null && !(kept.indexedAt === base && kept.length >= base);
  const end = buildsBase ? base : numTokens;
  const least = buildsBase || base === null ? 0 : base;
  const queriesFrom = Math.max(least, end - numQueries(end, selector));
  const length = Math.min(kept.length, end);
  const heldFrom = Math.min(kept.queriesFrom, length);
  const from = heldFrom <= queriesFrom ? length : Math.min(length, queriesFrom);
  const dropsIndex = buildsBase && kept.indexedAt !== null && from >= kept.indexedAt;
  return { from, dropsIndex, base, buildsBase, buildsEnd };
}

/** The grid: quarters of the power of two below, so that what is added to a base is always less than a quarter of it. */
function baseLength(numTokens: number, selector: SelectorOptions): number | null {
  if (selector.method !== 'ctkvr' || !needsAt(numTokens, selector)) return null;
  const step = Math.max(1, 2 ** Math.floor(Math.log2(numTokens)) / 4);
  const base = Math.max(selector.denseBelow, Math.floor(numTokens / step) * step);
  return needsAt(base, selector) ? base : null;
}

function needsAt(length: number, selector: SelectorOptions): boolean {
  return needsIndex({ sequence: { length, indexedRange: { start: 0, end: 0 }, numRecentQueries: 0 }, selector });
}

/** Queries before `length` that an index will be made of: there, or where the answer makes the sequence long enough for one. */
function numQueries(length: number, selector: SelectorOptions): number {
  const wantedAt = (at: number) =>
    queriesWanted({ sequence: { length: at, indexedRange: { start: 0, end: 0 }, numRecentQueries: 0 }, selector });
  if (needsAt(length, selector)) return wantedAt(length);
  if (selector.method === 'full') return 0;
  const { numSinkTokens, recentWindow, denseBelow } = selector;
  const later = Math.max(denseBelow, numSinkTokens + recentWindow + 1);
  const { start, end } = indexedRegion(later, selector);
  return end > start ? Math.max(0, wantedAt(later) - Math.floor((later - length) / DECODE_STRIDE)) : 0;
}
