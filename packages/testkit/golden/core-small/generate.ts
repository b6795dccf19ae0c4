/**
 * Makes the golden file from the TypeScript reference. Used by test/golden.test.ts, which compares it with golden.json and, with
 * CTKVR_UPDATE_GOLDEN=1, writes it.
 *
 * The two packages are imported by path: declared as dependencies they would close a cycle, since they test with this package.
 */
import { type BuildCentroidIndexInput, buildCentroidIndex } from '../../../centroid-index/src/index.js';
import { TokenRefiner } from '../../../token-refiner/src/index.js';
import { f16Bits } from '../../src/f16.js';
import { type GoldenInput, goldenInputs } from './cases.js';
import { isUnambiguous } from './unambiguous.js';

/** Raised whenever a field changes its meaning. */
const formatVersion = 1;

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
  readonly keys: readonly number[];
  readonly values: readonly number[];
  readonly queries: readonly number[];
  readonly centroids: readonly {
    readonly list: readonly number[];
    readonly tailLse: readonly (number | null)[];
    readonly tailValue: readonly number[];
    readonly tailKey: readonly number[];
  }[];
  readonly decodes: readonly {
    readonly query: readonly number[];
    readonly probes: readonly number[];
    readonly similarities: readonly number[];
    readonly candidates: readonly number[];
    readonly scores: readonly number[];
    readonly selected: readonly number[];
    readonly tailLse: readonly (number | null)[];
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

async function goldenCase({ name, why, seed, data, options }: GoldenInput): Promise<GoldenCase> {
  const { keys, values, queries, headDim, groupSize } = data;
  const index = await buildCentroidIndex({ keys, values, queries, headDim, groupSize, options, backend: 'reference' });
  const { numSinkTokens, recentWindow, maxSelected, topP } = options;
  const layout = { headDim, groupSize, numSinkTokens, recentWindow };
  const refiner = new TokenRefiner({ keys, values, ...layout, maxSelected, topP });
  const rowLength = groupSize * headDim;

  const centroids = Array.from({ length: index.numCentroids }, (_, centroid) => {
    const tail = index.tail(centroid);
    return {
      list: Array.from(index.list(centroid)),
      tailLse: numbers(tail.lse),
      tailValue: options.tail ? finite(tail.value) : [],
      tailKey: options.tail ? finite(tail.key) : [],
    };
  });
  const decodes = Array.from({ length: data.decodes.length / rowLength }, (_, i) => {
    const query = data.decodes.subarray(i * rowLength, (i + 1) * rowLength);
    const probes = new Uint32Array(index.numProbed);
    const similarities = new Float32Array(index.numProbed);
    index.probe({ query, centroids: probes, similarities });
    const union = new Uint32Array(index.maxCandidates);
    const candidates = union.subarray(0, index.candidates({ centroids: probes, out: union }));
    const scores = new Float32Array(groupSize * candidates.length);
    refiner.scores({ query, candidates, out: scores });
    const chosen = new Uint32Array(candidates.length);
    const selected = chosen.subarray(0, refiner.select({ query, candidates, out: chosen }));
    const tail = { lse: new Float32Array(groupSize), value: new Float32Array(rowLength) };
    index.tailAt({ centroid: probes[0]!, query, ...tail });
    const out = {
      output: new Float32Array(rowLength),
      lse: new Float32Array(groupSize),
      mass: new Float32Array(groupSize),
    };
    refiner.attend({ query, candidates, ...(options.tail ? { tail } : {}), out });
    return {
      query: bits(query),
      probes: Array.from(probes),
      similarities: finite(similarities),
      candidates: Array.from(candidates),
      scores: finite(scores),
      selected: Array.from(selected),
      tailLse: numbers(tail.lse),
      output: finite(out.output),
      lse: finite(out.lse),
      mass: finite(out.mass),
    };
  });
  const inputs = { keys: bits(keys), values: bits(values), queries: bits(queries) };
  return { name, why, seed, headDim, groupSize, options, ...inputs, centroids, decodes };
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
