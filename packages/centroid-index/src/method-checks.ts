/** What the methods of an index take, the same for every backend. */
import { type OptionChecks, takes } from '@ctkvr/core';
import type { AppendInput } from './centroid-index.js';

export const methodChecks = {
  probe: { query: takes.float32, centroids: takes.uint32, similarities: takes.float32 },
  candidates: { centroids: takes.uint32, out: takes.uint32 },
  widen: { query: takes.float32, candidates: takes.uint32, out: takes.uint32 },
  tailAt: { query: takes.float32, candidates: takes.uint32, lse: takes.float32, value: takes.float32 },
  extend: { signal: takes.optional(takes.abortSignal) },
};

export const appendChecks: OptionChecks<AppendInput> = {
  keys: takes.float32,
  values: takes.float32,
  queries: takes.float32,
  phase: takes.anything,
  signal: takes.optional(takes.abortSignal),
};
