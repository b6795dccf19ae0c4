/** Whether rounding could change an id in a case: then it is no use as golden data with exact ids. */
import { groupsOf, rowsOf } from '../../src/naive.js';
import { naiveTailSegment } from '../../src/naive-clusters.js';
import { naiveGrowth } from '../../src/naive-growth.js';
import { firstLayout, type NaiveHead, naiveHead } from '../../src/naive-head.js';
import type { GoldenInput } from './cases.js';

/** Relative gap between group weights: f32 softmax is good to about 1e-5 at these scores. */
const weightGap = 2e-4;
/** Absolute gap between similarities: an 8-bit code may come out one step off when a ratio lies on a half. */
const similarityGap = 0.012;

/** Absolute gap between likenesses to two centres, in which terms are up to about 1000. */
const likenessGap = 1e-2;

/** Returns whether all lists, clusters, probes and selections of the case are separated by more than the gaps, or are true ties. */
export function isUnambiguous(input: GoldenInput): boolean {
  const { data, options, history } = input;
  const layout = history === undefined ? firstLayout(data, options) : naiveGrowth(data, options, history);
  const rows = { keys: rowsOf(data.keys, data.headDim), values: rowsOf(data.values, data.headDim) };
  const margins = layout.stretches.map((stretch) => naiveTailSegment(rows, stretch, options).margin);
  if (options.tail && margins.some((margin) => margin < likenessGap)) return false;
  const head = naiveHead(data, options, layout);
  const regionTokens = head.region.end - head.region.start;
  if (!head.centroids.every(({ ranking }) => isSeparated(ranking, options.listLength, weightGap, 'relative'))) return false;
  return groupsOf(data.decodes, data.groupSize, data.headDim).every((query) => {
    const step = head.step(query);
    const keep = options.maxSelected === 0 ? regionTokens : options.maxSelected;
    return (
      probesAreSeparated(head, step, options.numProbes) &&
      isSeparated(step.shares, options.clusterProbes, weightGap, 'relative') &&
      isSeparated(step.weights, keep, weightGap, 'relative')
    );
  });
}

/** Whether the `count`-th and the next score differ by more than the gap, or are equal. */
function isSeparated(scores: readonly number[], count: number, gap: number, kind: 'relative' | 'absolute'): boolean {
  if (scores.length <= count) return true;
  const sorted = [...scores].sort((a, b) => b - a);
  const kept = sorted[count - 1]!;
  const next = sorted[count]!;
  if (kept === next) return true;
  // Sums of equal terms in f64 may differ in the last bit although they are ties by definition.
  const difference = (kept - next) / (kind === 'relative' ? kept : 1);
  return difference < 1e-13 || difference > gap;
}

/** The probed lists must be clear of the rest and of each other, their centroids of their neighbours in the same list. */
function probesAreSeparated(head: NaiveHead, step: ReturnType<NaiveHead['step']>, numProbes: number): boolean {
  const lists = new Map<number, number[]>();
  head.centroids.forEach(({ listId }, c) => {
    lists.set(listId, [...(lists.get(listId) ?? []), step.similarity[c]!]);
  });
  const best = [...lists.values()].map((similarities) => Math.max(...similarities));
  const counts = Array.from({ length: Math.min(numProbes, best.length) }, (_, i) => i + 1);
  const between = counts.every((count) => isSeparated(best, count, similarityGap, 'absolute'));
  const within = step.probes.every((c) =>
    isSeparated(lists.get(head.centroids[c]!.listId)!, 1, similarityGap, 'absolute'),
  );
  return between && within;
}
