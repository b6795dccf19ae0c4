/** How many keys, values, centroids and clusters of a head a step looks at: the counts that bytes follow from. */
import { centroidCount, postingListLength, resolveSelectorOptions } from '@ctkvr/core';
import type { ModelShape } from './model-shape.js';

/** Counts of one KV head. */
export interface RetrievalReads {
  /** Sinks and recent window: keys and values that are always read. */
  readonly window: number;
  /** Keys scored, of a head that is no retrieval head. */
  readonly candidates: number;
  /** Values read beside the window's. */
  readonly values: number;
  /** Share of the heads that are retrieval heads: they score every key. */
  readonly retrievalHeadShare: number;
  /** Centroids, each a pooled vector in 8 bits; 0 = none are counted. */
  readonly centroids: number;
  readonly listLength: number;
  readonly centroidsPerList: number;
  /** Positions of a cluster of the tail; 0 = there is no tail. */
  readonly clusterSize: number;
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

/** Returns the counts of a setting for a model and a number of stored tokens. Never more than there are positions. */
export function retrievalReads(
  setting: ReadSetting,
  { model, context }: { readonly model: ModelShape; readonly context: number },
): RetrievalReads {
  if (setting === 'paper') {
    const tokens = Math.min(PAPER_TOKENS, context);
    const nothing = {
      window: 0,
      retrievalHeadShare: 0,
      centroids: 0,
      listLength: 0,
      centroidsPerList: 1,
      clusterSize: 0,
    };
    return { ...nothing, candidates: tokens, values: tokens };
  }
  const groupSize = setting === 'widest' ? 7 : Math.ceil(model.numQueryHeads / model.numKvHeads);
  const options = resolveSelectorOptions({}, { groupSize });
  const { numProbes, clusterProbes, clusterSize, retrievalHeadShare, centroidsPerList } = options;
  const window = Math.min(context, options.numSinkTokens + options.recentWindow);
  const numKeys = context - window;
  const listLength = postingListLength(options, { numKeys, groupSize });
  const united = listLength * (1 + (numProbes - 1) * NEW_IN_FURTHER_LIST) + clusterProbes * clusterSize;
  const candidates = Math.min(numKeys, setting === 'widest' ? WIDEST_CANDIDATES : Math.round(united));
  const values = Math.min(candidates, options.maxSelected);
  const centroids = Math.min(numKeys, centroidCount(options, numKeys));
  return { window, candidates, values, retrievalHeadShare, centroids, listLength, centroidsPerList, clusterSize };
}

/** Heads over all layers: retrieval heads, and the others. */
export function splitHeads(
  numHeads: number,
  { retrievalHeadShare }: RetrievalReads,
): { retrieval: number; plain: number } {
  const retrieval = Math.round(numHeads * retrievalHeadShare);
  return { retrieval, plain: numHeads - retrieval };
}
