/** Spread centroids by definition (packages/centroid-index, spread-queries.ts). */
import { dot, naivePooled } from './naive.js';

/** Returns `count` of the queries ([groupSize][headDim] each), oldest first: half the last, half farthest-point picks. */
export function naiveSpread<T extends readonly (readonly number[])[]>(queries: readonly T[], count: number): T[] {
  if (queries.length <= count) return [...queries];
  const pooled = queries.map(naivePooled);
  const chosen = queries.map((_, i) => i).slice(-Math.ceil(count / 2));
  const numEarlier = queries.length - chosen.length;
  while (chosen.length < count) {
    const left = queries.map((_, i) => i).filter((i) => i < numEarlier && !chosen.includes(i));
    const nearest = left.map((i) => Math.max(...chosen.map((c) => dot(pooled[i]!, pooled[c]!))));
    chosen.push(left[nearest.indexOf(Math.min(...nearest))]!);
  }
  return chosen.sort((a, b) => a - b).map((i) => queries[i]!);
}
