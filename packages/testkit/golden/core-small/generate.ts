/**
 * Makes the golden file from the TypeScript reference. Used by test/golden.test.ts, which compares it with golden.json and, with
 * CTKVR_UPDATE_GOLDEN=1, writes it.
 *
 * The two packages are imported by path: declared as dependencies they would close a cycle, since they test with this package.
 */
import { type BuildCentroidIndexInput, buildCentroidIndex, loadCentroidIndex } from '../../../centroid-index/src/index.js';
import { TokenRefiner } from '../../../token-refiner/src/index.js';
import { buildCase } from '../../src/centroid-index-subject.js';
import { f16Bits } from '../../src/f16.js';
import type { GrowthHistory } from '../../src/naive-growth.js';
import { type GoldenInput, goldenInputs } from './cases.js';
import { isUnambiguous } from './unambiguous.js';

/** Raised whenever a field changes its meaning. */
const formatVersion = 4;

export interface GoldenFile {
  readonly formatVersion: number;
  readonly cases: readonly GoldenCase[];
}

/** Fields: README.md beside this file. */
export interface GoldenCase {
  readonly name: string;
  readonly why: string;
  readonly seed: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: BuildCentroidIndexInput['options'];
  readonly history?: GrowthHistory;
  readonly keys: readonly number[];
  readonly values: readonly number[];
  readonly queries: readonly number[];
  readonly centroids: readonly {
    readonly list: readonly number[];
  }[];
  readonly tail: {
    readonly corrections: readonly number[];
    readonly segments: readonly {
      readonly start: number;
      readonly madeAt: number;
      readonly clusterOf: readonly number[];
      readonly keys: readonly number[];
      readonly values: readonly number[];
    }[];
  } | null;
  readonly decodes: readonly {
    readonly query: readonly number[];
    readonly probes: readonly number[];
    readonly similarities: readonly number[];
    readonly candidates: readonly number[];
    readonly scores: readonly number[];
    readonly selected: readonly number[];
    readonly tailLse: readonly (number | null)[];
    readonly tailValue: readonly number[];
    readonly output: readonly number[];
    readonly lse: readonly number[];
    readonly mass: readonly number[];
  }[];
}

/** Returns the golden file's content. */
export async function generateGolden(): Promise<GoldenFile> {
  const cases: GoldenCase[] = [];
  for (const input of goldenInputs(isUnambiguous)) cases.push(await goldenCase(input));
  return { formatVersion, cases };
}

async function goldenCase({ name, why, seed, data, options, history }: GoldenInput): Promise<GoldenCase> {
  const { keys, values, queries, headDim, groupSize } = data;
  const index = await buildCase(
    {
      build: (input) => buildCentroidIndex({ ...input, backend: 'reference' }),
      load: (input) => loadCentroidIndex({ ...input, backend: 'reference' }),
    },
    { data, options, ...(history ? { history } : {}) },
  );
  const { numSinkTokens, maxSelected, topP } = options;
  // What is not indexed is read always: of an index that grew, more than the window.
  const recentWindow = history === undefined ? options.recentWindow : keys.length / headDim - index.region.end;
  const layout = { headDim, groupSize, numSinkTokens, recentWindow };
  const refiner = new TokenRefiner({ keys, values, ...layout, maxSelected, topP });
  const rowLength = groupSize * headDim;

  const centroids = Array.from({ length: index.numCentroids }, (_, centroid) => {
    return { list: Array.from(index.list(centroid)) };
  });
  const stored = index.tail();
  const tail = stored && {
    corrections: finite(stored.corrections),
    segments: stored.segments.map(({ start, madeAt, clusterOf, keys, values }) => {
      return { start, madeAt, clusterOf: Array.from(clusterOf), keys: finite(keys), values: finite(values) };
    }),
  };
  const decodes = Array.from({ length: data.decodes.length / rowLength }, (_, i) => {
    const query = data.decodes.subarray(i * rowLength, (i + 1) * rowLength);
    const room = { centroids: new Uint32Array(index.numProbed), similarities: new Float32Array(index.numProbed) };
    const count = index.probe({ query, ...room });
    const probes = room.centroids.subarray(0, count);
    const similarities = room.similarities.subarray(0, count);
    const union = new Uint32Array(index.maxCandidates);
    const listed = union.subarray(0, index.candidates({ centroids: probes, out: union }));
    const candidates = union.subarray(0, index.widen({ query, candidates: listed, out: union }));
    const scores = new Float32Array(groupSize * candidates.length);
    refiner.scores({ query, candidates, out: scores });
    const chosen = new Uint32Array(candidates.length);
    const selected = chosen.subarray(0, refiner.select({ query, candidates, out: chosen }));
    const rest = { lse: new Float32Array(groupSize), value: new Float32Array(rowLength) };
    index.tailAt({ query, candidates, ...rest });
    const out = {
      output: new Float32Array(rowLength),
      lse: new Float32Array(groupSize),
      mass: new Float32Array(groupSize),
    };
    refiner.attend({ query, candidates, ...(options.tail ? { tail: rest } : {}), out });
    return {
      query: bits(query),
      probes: Array.from(probes),
      similarities: finite(similarities),
      candidates: Array.from(candidates),
      scores: finite(scores),
      selected: Array.from(selected),
      tailLse: numbers(rest.lse),
      tailValue: finite(rest.value),
      output: finite(out.output),
      lse: finite(out.lse),
      mass: finite(out.mass),
    };
  });
  const inputs = { keys: bits(keys), values: bits(values), queries: bits(queries) };
  const grown = history ? { history } : {};
  return { name, why, seed, headDim, groupSize, options, ...grown, ...inputs, centroids, tail, decodes };
}

function bits(values: Float32Array): number[] {
  return Array.from(values, f16Bits);
}

/** Six digits: an error of 5e-7 of the number, below every budget it is compared by. */
function finite(values: Float32Array): number[] {
  return Array.from(values, (x) => Number(x.toPrecision(6)));
}

function numbers(values: Float32Array): (number | null)[] {
  return Array.from(values, (x) => (x === Number.NEGATIVE_INFINITY ? null : Number(x.toPrecision(6))));
}
