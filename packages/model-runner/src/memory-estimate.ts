/**
 * What a session will need at most, so that a context that memory cannot hold is refused before anything is allocated. Keys and values
 * are exact; the index is an upper bound from its layout (docs/design/retrieval.md: lists coded as gaps, 8-bit centroids, clusters for what
 * is not read; docs/design/selectors.md for the others).
 */
import {
  CtkvrError,
  centroidBounds,
  checkOptions,
  indexedRegion,
  type KvFormat,
  kvFormats,
  type OptionChecks,
  postingListLength,
  type SelectorOptions,
  takes,
} from '@ctkvr/core';
import type { NativeModelInfo } from '@ctkvr/native';
import { groupSizeOf } from './group-size.js';

/** What it takes of a model; `model.info` has it. */
export type AttentionSizes = Pick<
  NativeModelInfo,
  'numLayers' | 'numQueryHeads' | 'numKvHeads' | 'headDim' | 'kvBytesPerToken'
>;

export interface MemoryEstimate {
  readonly kvBytes: number;
  readonly indexBytes: number;
}

/** While tokens are generated, an index holds up to so many times the most centroids it may begin with (ctkvr-core, centroid_index.rs). */
const MAX_GROWTH = 2;

/** Generated tokens of which one keeps its query. */
const DECODE_STRIDE = 4;

export interface MemoryEstimateInput {
  readonly info: AttentionSizes;
  /** Tokens of the full context. */
  readonly contextLength: number;
  /** Default 'f16'. */
  readonly kvFormat?: KvFormat;
  readonly selector: SelectorOptions;
}

const memoryEstimateChecks: OptionChecks<MemoryEstimateInput> = {
  info: takes.object,
  contextLength: takes.integer(0, 0x7fff_ffff),
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  selector: takes.object,
};

/** Returns bytes of keys, values and index of one session whose context is full. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function estimateMemory(input: MemoryEstimateInput): MemoryEstimate {
  checkOptions('estimateMemory', input, memoryEstimateChecks);
  const { info, contextLength, kvFormat, selector } = input;
  return {
    kvBytes: kvBytesPerToken(info, kvFormat) * contextLength,
    indexBytes: indexBytes(info, contextLength, selector),
  };
}

/** Returns the bytes of one token's keys and values, all layers. */
export function kvBytesPerToken({ kvBytesPerToken }: AttentionSizes, kvFormat: KvFormat = 'f16'): number {
  // 32 codes and a scale, where f16 takes 64 bytes.
  return kvFormat === 'q8' ? (kvBytesPerToken * 36) / 64 : kvBytesPerToken;
}

function indexBytes(info: AttentionSizes, contextLength: number, selector: SelectorOptions): number {
  const numHeads = info.numLayers * info.numKvHeads;
  const groupSize = groupSizeOf(info);
  const { least, most } = centroidBounds(selector);
  // The recent queries from which centroids are made, f16: kept from the first token on, whatever the selector (it may change).
  const queryBytes = (count: number) => numHeads * Math.min(count, contextLength) * groupSize * info.headDim * 2;
  const recentBytes = queryBytes(most);
  if (contextLength < selector.denseBelow) return recentBytes;
  const region = indexedRegion(contextLength, selector);
  const numKeys = region.end - region.start;
  if (selector.method !== 'ctkvr') return recentBytes + numHeads * baselineHeadBytes(info, numKeys, selector);
  // As tokens are generated, those are kept that a cut needs to grow again, and those of two growths (sequence.rs).
  const growthBytes = queryBytes(MAX_GROWTH * most - least + 2 * Math.ceil(selector.appendSize / DECODE_STRIDE));
  const numCentroids = Math.min(most, contextLength);
  const numLists = Math.ceil(numCentroids / selector.centroidsPerList);
  // A gap to the position before is one byte, and one more for every 255 that are passed over.
  const listBytes = postingListLength(selector, { numKeys, groupSize }) + Math.ceil(numKeys / 255);
  // A centroid's pooled vector: 8-bit codes and a scale.
  const vectorBytes = info.headDim + 4;
  const centroidBytes = MAX_GROWTH * (numLists * listBytes + numCentroids * vectorBytes);
  return (
    Math.max(recentBytes, growthBytes) +
    numHeads * (centroidBytes + (selector.tail ? tailBytes(info, numKeys, selector) : 0))
  );
}

/** One KV head's clusters. */
function tailBytes({ headDim }: AttentionSizes, numKeys: number, selector: SelectorOptions): number {
  // Each time the index grows, by tokens or by a repair, a cluster may be smaller than it should, and one more for 4096 positions.
  const numSegments = numKeys / selector.appendSize + numKeys * selector.repairShare + numKeys / 4096 + 2;
  const numClusters = Math.ceil(numKeys / selector.clusterSize + numSegments);
  // A mean key and a mean value, f16, and where its positions begin; each position's cluster, u16, and the positions in that order, u32.
  return numClusters * (2 * headDim * 2 + 4) + numKeys * (2 + 4);
}

/** One KV head's index of a selector other than ctkvr; dense layers, which have none, are counted too. */
function baselineHeadBytes({ headDim }: AttentionSizes, numKeys: number, selector: SelectorOptions): number {
  // Keys and values f16 in pages of 256 rows, as the KV store has them: summaries of 16 keys each.
  const summaryBytes = Math.ceil(numKeys / 16 / 256) * 256 * 2 * headDim * 2;
  switch (selector.method) {
    case 'snapkv':
      return 4 * (selector.maxSelected === 0 ? numKeys : Math.min(selector.maxSelected, numKeys));
    case 'quest':
      return summaryBytes;
    case 'magicpig':
      // A position in every table, where each bucket begins, the mean key, each key's length.
      return 4 * (selector.hashTables * (numKeys + 2 ** selector.hashBits + 1) + headDim + numKeys);
    case 'keyClusters':
      // Every position, and where each cluster begins; several segments may have a cluster more each.
      return (
        summaryBytes + 256 * 2 * headDim * 2 + 4 * (numKeys + Math.ceil(numKeys / 16) + Math.ceil(numKeys / 8192) + 1)
      );
    default:
      return 0;
  }
}

/**
 * Passes when a session fits in memory beside what other sessions may still allocate.
 * @throws {CtkvrError} CTKVR_OUT_OF_MEMORY with the numbers and the longest context that fits.
 */
export function checkMemory(
  input: MemoryEstimateInput & { readonly availableBytes: number; readonly reservedBytes: number },
): void {
  const { availableBytes, reservedBytes, ...need } = input;
  const { contextLength, info, kvFormat } = need;
  const { kvBytes, indexBytes } = estimateMemory(need);
  const freeBytes = Math.max(0, availableBytes - reservedBytes);
  if (kvBytes + indexBytes <= freeBytes) return;
  const fits = Math.max(0, Math.floor((freeBytes - indexBytes) / kvBytesPerToken(info, kvFormat)));
  throw new CtkvrError(
    'CTKVR_OUT_OF_MEMORY',
    `a context of ${contextLength} tokens needs ${mib(kvBytes)} of keys and values and up to ${mib(indexBytes)} of index; ` +
      `${mib(freeBytes)} are free${reservedBytes > 0 ? ` (beside ${mib(reservedBytes)} promised to open sessions)` : ''}. ` +
      (fits > 0 ? `A context of ${fits} tokens would fit.` : 'Free some memory or choose a smaller model.'),
    {
      fields: {
        contextLength,
        neededBytes: kvBytes + indexBytes,
        kvBytes,
        indexBytes,
        availableBytes,
        reservedBytes,
        fittingContextLength: fits,
      },
    },
  );
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
