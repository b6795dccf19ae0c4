/** Heads of a real model, from golden/smollm2-heads (its README says which, and how they were made). */
import { readFileSync } from 'node:fs';
import { f16Value } from './f16.js';
import type { HeadData } from './head-data.js';

interface Manifest {
  readonly numTokens: number;
  readonly numCentroids: number;
  readonly numDecodes: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly heads: readonly { readonly layer: number; readonly kvHead: number }[];
}

const folder = new URL('../golden/smollm2-heads/', import.meta.url);

/** Returns fresh data of every head, with a name each. */
export function realHeads(): { readonly name: string; readonly data: HeadData }[] {
  const manifest = JSON.parse(readFileSync(new URL('heads.json', folder), 'utf8')) as Manifest;
  const bytes = readFileSync(new URL('heads.bin', folder));
  const { numTokens, numCentroids, numDecodes, headDim, groupSize } = manifest;
  let at = 0;
  const next = (count: number) =>
    Float32Array.from({ length: count }, () => {
      at += 2;
      return f16Value(bytes.readUInt16LE(at - 2));
    });
  const row = groupSize * headDim;
  return manifest.heads.map(({ layer, kvHead }) => ({
    name: `SmolLM2, layer ${layer}, KV head ${kvHead}`,
    data: {
      keys: next(numTokens * headDim),
      values: next(numTokens * headDim),
      queries: next(numCentroids * row),
      decodes: next(numDecodes * row),
      headDim,
      groupSize,
    },
  }));
}
