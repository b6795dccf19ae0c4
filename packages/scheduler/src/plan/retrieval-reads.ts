/** How many keys, values, centroids and clusters of a head a step looks at: the counts that bytes follow from. */
import {
  centroidCount,
  type KvFormat,
  postingListLength,
  resolveSelectorOptions,
  type SelectorOptions,
} from '@ctkvr/core';
import type { ModelShape } from './model-shape.js';

/** Counts of one KV head. */
export interface RetrievalReads {
  /** Sinks and recent window: keys and values that are always read. */
  readonly window: number;
  /** Keys scored, of a head that is no retrieval head. */
  readonly candidates: number;
  /** Values read beside the window's. */
  readonly values: number;
  /** Share of the heads that are retrieval heads. */
  readonly retrievalHeadShare: number;
  /** Share of all keys that they score beside the candidates of other heads; 1 = every key, and no lists. */
  readonly retrievalKeyShare: number;
  /** Centroids, each a pooled vector in 8 bits; 0 = none are counted. */
  readonly centroids: number;
  readonly listLength: number;
  readonly centroidsPerList: number;
  /** Positions of a cluster of the tail; 0 = there is no tail. */
  readonly clusterSize: number;
  /** Of the clusters' mean keys and mean values. */
  readonly clusterFormat: KvFormat;
}

/**
 * widest = the settings of large groups (7 query heads and more), and the candidates that the engine was seen to score with them: an upper bound for
 * all others. group = the engine's defaults for this model's group. paper = 580 keys and values a head and nothing else: the paper's setting, index
 * not counted.
 */
export const readSettings = ['widest', 'group', 'paper'] as const;
export type ReadSetting = (typeof readSettings)[number];

/** Candidates of a head of 7 query heads: Qwen2.5-Coder-0.5B at 16,000 and 32,000 tokens, docs/results/2026-11-27-epyc-zen5-2-cores. */
const WIDEST_CANDIDATES = 3500;
/** What the paper reads of each head. */
const PAPER_TOKENS = 580;
/**
 * Share of a further probed list that the lists before it do not have: SmolLM2 (2 probes) and Qwen2.5-Coder-0.5B (4 probes), the same results.
 */
const NEW_IN_FURTHER_LIST = 1 / 3;

/** A selector's settings that a plan can be made with beside the defaults. */
export type PlannedSelector = Partial<Pick<SelectorOptions, 'clusterFormat' | 'retrievalClusterShare'>>;

export interface RetrievalReadsInput {
  readonly model: ModelShape;
  readonly context: number;
  readonly selector?: PlannedSelector;
}

/** Returns the counts of a setting for a model and a number of stored tokens. Never more than there are positions. */
export function retrievalReads(
  setting: ReadSetting,
  { model, context, selector = {} }: RetrievalReadsInput,
): RetrievalReads {
  if (setting === 'paper') {
    const tokens = Math.min(PAPER_TOKENS, context);
    const nothing = {
      window: 0,
      retrievalHeadShare: 0,
      retrievalKeyShare: 1,
      centroids: 0,
      listLength: 0,
      centroidsPerList: 1,
      clusterSize: 0,
      clusterFormat: 'f16' as const,
    };
    return { ...nothing, candidates: tokens, values: tokens };
  }
  const groupSize = setting === 'widest' ? 7 : Math.ceil(model.numQueryHeads / model.numKvHeads);
  const options = resolveSelectorOptions(selector, { groupSize });
  const { numProbes, clusterProbes, clusterSize, clusterFormat, retrievalHeadShare, centroidsPerList } = options;
  const window = Math.min(context, options.numSinkTokens + options.recentWindow);
  const numKeys = context - window;
  const listLength = postingListLength(options, { numKeys, groupSize });
  const united = listLength * (1 + (numProbes - 1) * NEW_IN_FURTHER_LIST) + clusterProbes * clusterSize;
  const candidates = Math.min(numKeys, setting === 'widest' ? WIDEST_CANDIDATES : Math.round(united));
  const values = Math.min(candidates, options.maxSelected);
  const centroids = Math.min(numKeys, centroidCount(options, numKeys));
  const lists = { centroids, listLength, centroidsPerList };
  const retrieval = { retrievalHeadShare, retrievalKeyShare: options.retrievalClusterShare };
  return { window, candidates, values, ...retrieval, ...lists, clusterSize, clusterFormat };
}

/** Keys that a retrieval head scores. */
export function retrievalKeys(context: number, { retrievalKeyShare, candidates }: RetrievalReads): number {
  return Math.min(context, Math.ceil(retrievalKeyShare * context) + candidates);
}

/** Heads over all layers: retrieval heads, and the others. */
export function splitHeads(
  numHeads: number,
  { retrievalHeadShare }: RetrievalReads,
): { retrieval: number; plain: number } {
  const retrieval = Math.round(numHeads * retrievalHeadShare);
  return { retrieval, plain: numHeads - retrieval };
}
