/**
 * The tail's clusters, what is found in them and what they stand for, by definition (docs/design/retrieval.md), in f64. Shares no code with
 * the implementations.
 */
import type { SelectorOptions, TailInfo } from '@ctkvr/core';
import { f16Bits, f16Value } from './f16.js';
import type { HeadData } from './head-data.js';
import { dot, naiveAttention, naiveScores, rankedIds, rowsOf } from './naive.js';

/** Positions [start, end) that are clustered at one time. */
export interface NaiveStretch {
  readonly start: number;
  readonly end: number;
  /** Tokens stored then. */
  readonly madeAt: number;
}

export interface NaiveTailSegment extends NaiveStretch {
  /** [positions] */
  readonly clusterOf: readonly number[];
  /** [numClusters][headDim], f16 numbers. */
  readonly keys: readonly (readonly number[])[];
  readonly values: readonly (readonly number[])[];
}

export interface NaiveTail {
  /** [groupSize] */
  readonly corrections: readonly number[];
  readonly segments: readonly NaiveTailSegment[];
}

/** What a query makes of a tail when some positions are known better. */
export interface NaiveWeighedTail {
  /** [numClusters]: sum over heads of the share of all weight that is left in each cluster. */
  readonly shares: readonly number[];
  /** The positions of a cluster, ascending. */
  positionsOf(cluster: number): number[];
  /** [groupSize] and [groupSize][headDim]: log-sum-exp, corrected, and mean value of what is left; -Infinity and zeros for nothing. */
  readonly lse: readonly number[];
  readonly value: readonly (readonly number[])[];
}

/** What `CentroidIndex.tail` gives, as rows. */
export function tailOfRows(tail: TailInfo, headDim: number): NaiveTail {
  const segments = tail.segments.map(({ start, madeAt, clusterOf, keys, values }) => {
    const [end, rows] = [start + clusterOf.length, { keys: rowsOf(keys, headDim), values: rowsOf(values, headDim) }];
    return { start, end, madeAt, clusterOf: Array.from(clusterOf), ...rows };
  });
  return { corrections: Array.from(tail.corrections), segments };
}

/**
 * Returns the clusters of a stretch, and the smallest difference in likeness (see `nearest`), ties apart, that decided between two centres:
 * where that is within rounding, others are as good.
 */
export function naiveTailSegment(
  { keys, values }: { readonly keys: readonly (readonly number[])[]; readonly values: readonly (readonly number[])[] },
  stretch: NaiveStretch,
  { clusterSize }: Pick<SelectorOptions, 'clusterSize'>,
): NaiveTailSegment & { readonly margin: number } {
  const own = (rows: readonly (readonly number[])[]) => rows.slice(stretch.start, stretch.end);
  const n = stretch.end - stretch.start;
  const joint = jointRows(own(keys), own(values));
  const size = Math.max(clusterSize, Math.ceil(n / 32768));
  const parts = Math.max(1, Math.round(n / 1024));
  const gaps: number[] = [];
  const assigned: number[] = [];
  let clusters = 0;
  for (let part = 0; part < parts; part++) {
    const rows = joint.slice(Math.floor((n * part) / parts), Math.floor((n * (part + 1)) / parts));
    const count = Math.ceil(rows.length / size);
    const spread = Array.from({ length: count }, (_, c) => rows[Math.floor(((c + 0.5) * rows.length) / count)]!);
    const centres = moved(rows, spread, gaps);
    assigned.push(...rows.map((row) => clusters + nearest(row, centres, gaps)));
    clusters += count;
  }
  const used = [...new Set(assigned)].sort((a, b) => a - b);
  const clusterOf = assigned.map((c) => used.indexOf(c));
  const means = (rows: readonly (readonly number[])[]) =>
    used.map((_, c) =>
      mean(
        rows.filter((_, i) => clusterOf[i] === c),
        (sum, count) => f16Value(f16Bits(sum / count)),
      ),
    );
  return { ...stretch, clusterOf, keys: means(own(keys)), values: means(own(values)), margin: Math.min(...gaps) };
}

/** Each key, then its value times the power of two that makes both spread about equally far. */
export function jointRows(keys: readonly (readonly number[])[], values: readonly (readonly number[])[]): number[][] {
  const [keySpread, valueSpread] = [spread(keys), spread(values)];
  const exponent = 0.5 * Math.log2(keySpread / valueSpread);
  const weight = keySpread > 0 && valueSpread > 0 ? 2 ** (Math.sign(exponent) * Math.round(Math.abs(exponent))) : 1;
  return keys.map((key, i) => [...key, ...values[i]!.map((x) => x * weight)]);
}

/** Returns the tail of these stretches, corrected by nothing. */
export function naiveTail(
  data: Pick<HeadData, 'keys' | 'values' | 'headDim' | 'groupSize'>,
  stretches: readonly NaiveStretch[],
  options: Pick<SelectorOptions, 'clusterSize'>,
): NaiveTail {
  const rows = { keys: rowsOf(data.keys, data.headDim), values: rowsOf(data.values, data.headDim) };
  const segments = stretches.map((stretch) => naiveTailSegment(rows, stretch, options));
  return { corrections: Array(data.groupSize).fill(0), segments };
}

/** Weighs what `taken` leaves of a tail. @param query [groupSize][headDim]. */
export function naiveWeigh(
  { segments, corrections }: NaiveTail,
  query: readonly (readonly number[])[],
  taken: readonly number[],
): NaiveWeighedTail {
  const isTaken = new Set(taken);
  const clusters = segments.flatMap(({ start, clusterOf, keys, values }) =>
    keys.map((key, c) => {
      const positions = clusterOf.flatMap((of, i) => (of === c ? [start + i] : []));
      return { key, value: values[c]!, positions, left: positions.filter((p) => !isTaken.has(p)).length };
    }),
  );
  const keys = clusters.map(({ key }) => key);
  const sum = (numbers: readonly number[]) => numbers.reduce((total, x) => total + x, 0);
  const heads = query.map((q, head) => {
    const scores = naiveScores(q, keys);
    const highest = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - highest));
    const total = sum(weights.map((weight, c) => weight * clusters[c]!.positions.length));
    // A cluster of n keys that are left weighs as one whose score is higher by log n.
    const left = clusters.map((_, c) => c).filter((c) => clusters[c]!.left > 0);
    const { mean: value, lse } = naiveAttention(
      left.map((c) => scores[c]! + Math.log(clusters[c]!.left)),
      left.map((c) => clusters[c]!.value),
      q.length,
    );
    const shares = weights.map((weight, c) => (weight * clusters[c]!.left) / total);
    return { shares, lse: lse + corrections[head]!, value };
  });
  return {
    shares: clusters.map((_, c) => sum(heads.map(({ shares }) => shares[c]!))),
    positionsOf: (cluster) => clusters[cluster]!.positions,
    lse: heads.map(({ lse }) => lse),
    value: heads.map(({ value }) => value),
  };
}

/** `taken` and the positions of the heaviest clusters, ascending. */
export function naiveWiden(
  tail: NaiveTail,
  query: readonly (readonly number[])[],
  { taken, clusterProbes }: { readonly taken: readonly number[]; readonly clusterProbes: number },
): number[] {
  const { shares, positionsOf } = naiveWeigh(tail, query, taken);
  const found = rankedIds(shares, clusterProbes).flatMap(positionsOf);
  return [...new Set([...taken, ...found])].sort((a, b) => a - b);
}

/** The centre of largest row . centre - |centre|^2 / 2, which is the nearest; ties to the smaller id. Notes how close the next ones are. */
function nearest(row: readonly number[], centres: readonly (readonly number[])[], gaps: number[]): number {
  const likeness = centres.map((centre) => dot(row, centre) - dot(centre, centre) / 2);
  const most = Math.max(...likeness);
  gaps.push(most - Math.max(...likeness.filter((of) => of < most)));
  return likeness.indexOf(most);
}

/** Every centre moved to the mean of its rows; one without rows stays. */
function moved(rows: readonly (readonly number[])[], centres: readonly (readonly number[])[], gaps: number[]) {
  const assigned = rows.map((row) => nearest(row, centres, gaps));
  return centres.map((centre, c) => {
    const own = rows.filter((_, i) => assigned[i] === c);
    return own.length === 0 ? centre : mean(own, (sum, count) => sum / count);
  });
}

function mean(rows: readonly (readonly number[])[], divide: (sum: number, count: number) => number): number[] {
  return rows[0]!.map((_, d) =>
    divide(
      rows.reduce((total, row) => total + row[d]!, 0),
      rows.length,
    ),
  );
}

/** Sum of the squared distances of rows from their mean. */
function spread(rows: readonly (readonly number[])[]): number {
  const centre = mean(rows, (sum, count) => sum / count);
  return rows.reduce((total, row) => total + row.reduce((squares, x, d) => squares + (x - centre[d]!) ** 2, 0), 0);
}
