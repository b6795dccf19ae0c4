/**
 * What one sequence's step reads, by part. One formula a part. Not counted, each below half a percent at 96K: posting lists, members of clusters, the
 * new token's own rows. Not counted either: repairs, up to 1.5 % of the heads' steps, which read every key.
 */
import { fitsKvFormat, type KvFormat } from '@ctkvr/core';
import { countHeads, type ModelShape } from './model-shape.js';
import { type RetrievalReads, retrievalKeys, splitHeads } from './retrieval-reads.js';
import { rowBytes } from './row-bytes.js';

/** Parts of attention and retrieval, in the order in which they are shown. */
export const readParts = ['window', 'candidates', 'values', 'retrievalHeads', 'index'] as const;
export type ReadPart = (typeof readParts)[number];
/** Bytes a sequence and step. */
export type ReadBytes = Readonly<Record<ReadPart, number>>;

export interface ReadBytesInput {
  readonly model: ModelShape;
  /** Tokens stored. */
  readonly context: number;
  readonly kvFormat: KvFormat;
  readonly reads: RetrievalReads;
}

/** An f32 scale of a pooled vector. */
const SCALE_BYTES = 4;
/** Of a cluster, beside its mean key and mean value: two numbers of 4 bytes (positions, norm). */
const CLUSTER_NUMBERS_BYTES = 8;

/** Returns the bytes that a step reads of one sequence, over all layers. */
export function readBytes({ model, context, kvFormat, reads }: ReadBytesInput): ReadBytes {
  const row = rowBytes(model.headDim, kvFormat);
  const heads = countHeads(model);
  const { retrieval, plain } = splitHeads(heads, reads);
  const scored = reads.retrievalKeyShare === 1 ? retrieval : 0;
  const searched = heads - scored;
  const clusters = clusterCount(context, reads);
  const pooled = pooledBytes(model, reads);
  return {
    window: heads * reads.window * 2 * row,
    candidates: plain * reads.candidates * row,
    values: plain * reads.values * row,
    // Keys, and the values of those selected.
    retrievalHeads: retrieval * (retrievalKeys(context, reads) + reads.values) * row,
    // A head that knows every score reads of the clusters the mean values alone.
    index: searched * (pooled + clusters * clusterBytes(model, reads)) + scored * clusters * meanBytes(model, reads),
  };
}

/** Returns the bytes of all keys and values of one sequence: what a dense step reads. */
export function keyValueBytes({ model, context, kvFormat }: Omit<ReadBytesInput, 'reads'>): number {
  return countHeads(model) * context * 2 * rowBytes(model.headDim, kvFormat);
}

/** Returns the sum over the parts. */
export function totalBytes(bytes: Readonly<Record<string, number>>): number {
  return Object.values(bytes).reduce((sum, value) => sum + value, 0);
}

/** Clusters of one head. */
export function clusterCount(context: number, { clusterSize }: RetrievalReads): number {
  return clusterSize === 0 ? 0 : Math.floor(context / clusterSize);
}

/** Bytes of one cluster. */
export function clusterBytes(model: ModelShape, reads: RetrievalReads): number {
  return 2 * meanBytes(model, reads) + CLUSTER_NUMBERS_BYTES;
}

/** Bytes of a mean key, or a mean value. */
function meanBytes({ headDim }: ModelShape, { clusterFormat }: RetrievalReads): number {
  return rowBytes(headDim, fitsKvFormat(headDim, clusterFormat) ? clusterFormat : 'f16');
}

/** Bytes of the pooled vectors of one head. */
export function pooledBytes({ headDim }: ModelShape, { centroids }: RetrievalReads): number {
  return centroids * (headDim + SCALE_BYTES);
}
