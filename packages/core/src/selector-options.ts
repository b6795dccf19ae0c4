/**
 * What decides which keys a decode step reads. Defaults, bounds and presets live here and nowhere else on the TypeScript side;
 * the Rust side (ctkvr-core options.rs) receives resolved values only. Source: docs/design/retrieval.md and selectors.md.
 */
import { CtkvrError } from './errors.js';
import { type KvFormat, kvFormats } from './kv-format.js';
import { checkKnownKeys } from './option-checks.js';

/**
 * full = dense; exactTopK = the oracle; streaming = sinks + window; ctkvr = centroid then token indexing. The baselines, from their papers
 * (docs/design/selectors.md): snapkv = positions that the prompt's last queries attend to; quest = pages with the highest bound on their scores;
 * magicpig = a sample by locality-sensitive hashing; keyClusters = clusters of keys, the best read and the next estimated, as in RetroInfer.
 */
export const selectorMethods = [
  'full',
  'exactTopK',
  'streaming',
  'snapkv',
  'quest',
  'magicpig',
  'keyClusters',
  'ctkvr',
] as const;
export type SelectorMethod = (typeof selectorMethods)[number];

/** balanced = the default; paper = last-C centroids, one probe, no tail; exact = everything is read (must equal `full`). */
export const presetNames = ['balanced', 'paper', 'exact'] as const;
export type PresetName = (typeof presetNames)[number];

/** last = the newest queries (the paper); spread = half of them, and half of the earlier ones that lie farthest from those chosen. */
export const centroidChoices = ['last', 'spread'] as const;
export type CentroidChoice = (typeof centroidChoices)[number];

/** Settings of a selector: which retrieval method it uses, and how. A method ignores the fields that it does not use. */
export interface SelectorOptions {
  /** The retrieval method. Default 'ctkvr'. */
  readonly method: SelectorMethod;
  /** First positions of the sequence, always attended. Default 16. */
  readonly numSinkTokens: number;
  /** Last positions of the sequence, always attended. Default 256. */
  readonly recentWindow: number;
  /** Centroids per KV head: the last queries of the prefill; 0 (the default) = as `centroidCount` says. */
  readonly numCentroids: number;
  /** Which queries become centroids of a stand-alone index that gets more than it needs; the runner always takes the last. Default 'last'. */
  readonly centroids: CentroidChoice;
  /** Neighbouring centroids that share one posting list: half the lists for little error. Default 2. */
  readonly centroidsPerList: number;
  /** Generated tokens after which a head's index grows by their queries, and over their keys. Default 256. */
  readonly appendSize: number;
  /** Positions kept in each centroid's posting list; 0 (the default) = as `postingListLength` says. */
  readonly listLength: number;
  /** Centroids visited per decode step. Default 4, or as `groupDefaults` says. */
  readonly numProbes: number;
  /**
   * Candidates whose values are read, per KV head; 0 = all of them. Default 1024, or as `groupDefaults` says. snapkv, quest
   * and keyClusters score no others; quest reads whole pages and keyClusters whole clusters, as many as fit and at least one. magicpig's sample
   * is as large as its hashes make it.
   */
  readonly maxSelected: number;
  /**
   * Share of the candidates' weight, summed over the group, that the selection must reach: the heaviest until it is reached, at most
   * `maxSelected`. Above 0; 1 (the default) = off.
   */
  readonly topP: number;
  /** Whether clusters of keys stand for what is not read, each with its mean key and mean value. Default true. */
  readonly tail: boolean;
  /** Mean number of positions of a tail cluster: fewer make the estimate closer, the index larger and steps slower. Default 32. */
  readonly clusterSize: number;
  /**
   * How an index keeps mean keys and mean values: f16, or q8 (8-bit codes with an f32 scale for each 32 values) where that takes no more
   * memory: from some 140 clusters on, and where the head dimension is a multiple of 32. A stand-alone index has f16. Default 'f16'.
   */
  readonly clusterFormat: KvFormat;
  /**
   * How many of the tail's heaviest clusters add their positions to the candidates: they hold keys that no past query attended to. Default
   * 16, or as `groupDefaults` says.
   */
  readonly clusterProbes: number;
  /**
   * Share of all KV heads, over the layers, that are treated as retrieval heads. The build picks the heads whose attention to far keys is
   * sharpest, since a missed key hurts them most. 0 to 1, default 0.08. Used by the runner, not by one head's index.
   */
  readonly retrievalHeadShare: number;
  /**
   * What `clusterProbes` is of other heads, of a retrieval head as a share of its clusters. 0 to 1; 1 (the default) = every key is scored, and
   * no lists are kept, as without a tail. Used by the runner.
   */
  readonly retrievalClusterShare: number;
  /**
   * Share of the heads' decode steps that may be repaired: where no centroid is similar enough to the query, the step reads every key, and
   * the query becomes a centroid. 0 to 1, default 0.015. Used by the runner.
   */
  readonly repairShare: number;
  /** Sequences shorter than this many tokens decode densely: retrieval cannot win there. Default 4096. */
  readonly denseBelow: number;
  /**
   * Whether each decode step also measures the true attention mass of one (layer, KV head), another one each step, so that the estimate's
   * error is known at run time. That head reads all of its keys. Default false.
   */
  readonly massSampling: boolean;
  /** magicpig: hash functions of one table, 1 to 15: with more, fewer keys share a bucket. Default 10. */
  readonly hashBits: number;
  /** magicpig: hash tables, 1 to 1500: with more, more keys share two buckets with a query. Default 150. */
  readonly hashTables: number;
  /**
   * Whether the layers that a selector's authors leave dense are: quest the first two, magicpig every 16th from the first, the others none.
   * Default true.
   */
  readonly denseLayers: boolean;
}

const balanced: SelectorOptions = {
  method: 'ctkvr',
  numSinkTokens: 16,
  recentWindow: 256,
  numCentroids: 0,
  centroids: 'last',
  centroidsPerList: 2,
  appendSize: 256,
  listLength: 0,
  numProbes: 4,
  maxSelected: 1024,
  topP: 1,
  tail: true,
  clusterSize: 32,
  clusterFormat: 'f16',
  clusterProbes: 16,
  retrievalHeadShare: 0.08,
  retrievalClusterShare: 1,
  repairShare: 0.015,
  denseBelow: 4096,
  massSampling: false,
  hashBits: 10,
  hashTables: 150,
  denseLayers: true,
};

/** What can be set, the preset included. */
export const selectorOptionNames: readonly string[] = ['preset', ...Object.keys(balanced)];

/** Stands for "no bound": lists and selections as long as the indexed region. */
export const UNBOUNDED = 0x7fff_ffff;

const presets: Record<PresetName, SelectorOptions> = {
  balanced,
  paper: {
    ...balanced,
    numCentroids: 256,
    centroidsPerList: 1,
    listLength: 1024,
    numProbes: 1,
    maxSelected: 1024,
    tail: false,
    retrievalHeadShare: 0,
    repairShare: 0,
  },
  exact: {
    ...balanced,
    numCentroids: 8,
    centroidsPerList: 1,
    listLength: UNBOUNDED,
    numProbes: 8,
    maxSelected: 0,
    tail: false,
    retrievalHeadShare: 0,
    repairShare: 0,
    denseBelow: 0,
  },
};

/**
 * Returns the least and the most centroids that one segment of an index may have: `numCentroids` both, or for 0 as `centroidCount` bounds them.
 */
export function centroidBounds({ numCentroids }: Pick<SelectorOptions, 'numCentroids'>): {
  readonly least: number;
  readonly most: number;
} {
  return numCentroids === 0 ? { least: 128, most: 384 } : { least: numCentroids, most: numCentroids };
}

/**
 * Returns how many queries, if there are so many, become centroids of a segment over `numKeys` indexed positions: `numCentroids`, or for 0 a
 * fortieth of the positions, at least 128 and at most 384. More would cost a short prompt time and memory and save it nothing
 * (docs/decisions/2026-11-25-defaults-from-the-study.md).
 */
export function centroidCount(options: Pick<SelectorOptions, 'numCentroids'>, numKeys: number): number {
  const { least, most } = centroidBounds(options);
  return Math.min(most, Math.max(least, Math.floor(numKeys / 40)));
}

/**
 * Returns how many positions a posting list over `numKeys` indexed positions keeps: `listLength`, or for 0, 220 for each of the group's
 * `groupSize` query heads, at least 512, and at most 1536 and a fifth of the positions (but 512). Never more than `numKeys` (docs/decisions/2026-11-25-defaults-from-the-study.md).
 */
export function postingListLength(
  { listLength }: Pick<SelectorOptions, 'listLength'>,
  { numKeys, groupSize }: { readonly numKeys: number; readonly groupSize: number },
): number {
  const ofGroup = Math.min(1536, 220 * groupSize, Math.floor(numKeys / 5));
  return Math.min(listLength === 0 ? Math.max(512, ofGroup) : listLength, numKeys);
}

/**
 * Returns what preset `balanced` has for a KV head of `groupSize` query heads, as small groups need fewer positions: 160 values a query head,
 * 512 to 1024 in all; one probe fewer than query heads, 2 to 4; four clusters a probe
 * (docs/decisions/2026-11-25-defaults-from-the-study.md).
 */
export function groupDefaults(groupSize: number): Pick<SelectorOptions, 'maxSelected' | 'numProbes' | 'clusterProbes'> {
  const numProbes = Math.min(balanced.numProbes, Math.max(2, groupSize - 1));
  const maxSelected = Math.min(balanced.maxSelected, Math.max(512, 160 * groupSize));
  return { maxSelected, numProbes, clusterProbes: 4 * numProbes };
}

/**
 * Returns complete, checked settings: preset first, then the given fields. With the query heads of a KV head known, preset `balanced` goes by
 * their `groupDefaults`. @throws {CtkvrError} CTKVR_INVALID_OPTION naming the field.
 */
export function resolveSelectorOptions(
  options: Partial<SelectorOptions> & { readonly preset?: PresetName } = {},
  { groupSize }: { readonly groupSize?: number } = {},
): SelectorOptions {
  checkKnownKeys('selector', options, selectorOptionNames);
  const { preset = 'balanced', ...given } = options;
  const ofGroup = preset === 'balanced' && groupSize !== undefined ? groupDefaults(groupSize) : {};
  const base = { ...presets[preset], ...ofGroup };
  if (!Object.hasOwn(presets, preset)) throw invalid('preset', `one of ${presetNames.join(', ')}`, preset);
  const resolved = { ...base, ...withoutUndefined(given) };
  if (!selectorMethods.includes(resolved.method)) {
    throw invalid('method', `one of ${selectorMethods.join(', ')}`, resolved.method);
  }
  if (!centroidChoices.includes(resolved.centroids)) {
    throw invalid('centroids', `one of ${centroidChoices.join(', ')}`, resolved.centroids);
  }
  if (!kvFormats.includes(resolved.clusterFormat)) {
    throw invalid('clusterFormat', `one of ${kvFormats.join(', ')}`, resolved.clusterFormat);
  }
  for (const [field, min, max = UNBOUNDED] of integerFields) checkInteger(field, resolved[field], { min, max });
  for (const field of ['retrievalHeadShare', 'retrievalClusterShare', 'repairShare'] as const) {
    const share = resolved[field];
    if (typeof share !== 'number' || !(share >= 0 && share <= 1)) throw invalid(field, 'a number from 0 to 1', share);
  }
  const { topP } = resolved;
  if (typeof topP !== 'number' || !(topP > 0 && topP <= 1)) throw invalid('topP', 'above 0 and at most 1', topP);
  for (const field of ['tail', 'massSampling', 'denseLayers'] as const) {
    if (typeof resolved[field] !== 'boolean') throw invalid(field, 'true or false', resolved[field]);
  }
  return resolved;
}

const integerFields = [
  ['numSinkTokens', 0],
  ['recentWindow', 1],
  ['numCentroids', 0],
  ['centroidsPerList', 1],
  ['appendSize', 1],
  ['listLength', 0],
  ['numProbes', 1],
  ['maxSelected', 0],
  ['clusterSize', 1],
  ['clusterProbes', 0],
  ['denseBelow', 0],
  ['hashBits', 1, 15],
  ['hashTables', 1, 1500],
] as const;

function checkInteger(field: string, value: unknown, { min, max }: { min: number; max: number }): void {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(field, `an integer from ${min} to ${max}`, value);
  }
}

function invalid(field: string, expected: string, actual: unknown): CtkvrError {
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `${field} must be ${expected}, got ${typeof actual === 'string' ? JSON.stringify(actual) : String(actual)}`,
    {
      fields: { option: field, expected, actual: String(actual) },
    },
  );
}

function withoutUndefined<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as Partial<T>;
}
