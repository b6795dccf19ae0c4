/** Which of a prompt's queries become the centroids of a new index. */
import type { ResolvedBuildInput } from './build-input.js';
import { pickSpreadQueries } from './spread-queries.js';

/** Returns at most `count` of the input's queries: the last, or those that lie spread out. Yields as `pickSpreadQueries` does. */
export function* firstQueries(input: ResolvedBuildInput, count: number): Generator<void, Float32Array> {
  const rowLength = input.groupSize * input.headDim;
  const numQueries = input.queries.length / rowLength;
  const queries = input.queries.slice(Math.max(0, numQueries - count) * rowLength);
  if (input.options.centroids !== 'spread') return queries;
  const chosen = yield* pickSpreadQueries({ ...input, count });
  chosen.forEach((from, c) => {
    queries.set(input.queries.subarray(from * rowLength, (from + 1) * rowLength), c * rowLength);
  });
  return queries;
}
