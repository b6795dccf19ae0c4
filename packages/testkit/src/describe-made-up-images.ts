/** What every index refuses in an image whose checksum is right but whose tail cannot be. Part of `describeCentroidIndex`. */
import { crc32 } from 'node:zlib';
import { expect } from 'vitest';
import type { CentroidIndexMaker } from './centroid-index-subject.js';
import { type ConformanceCase, conformanceCases } from './conformance-data.js';
import { f16Bits } from './f16.js';
import { indexInput } from './head-data.js';

type NamedTest = (name: string, run: () => Promise<void> | void) => void;

/** Where the fields of an image of one segment and one tail segment are (docs/design/retrieval.md): header, `builtAt`, records, corrections. */
const [header, segmentRecord, tailRecord, corrections] = [0, 192, 256, 320];

interface Change {
  readonly what: string;
  readonly field: string;
  /** Changes an image of `numClusters` clusters whose tail's clusters begin at `clusters`, their mean keys at `keys`. */
  readonly change: (view: DataView, at: { numClusters: number; clusters: number; keys: number }) => void;
}

const changes: readonly Change[] = [
  { what: 'no cluster size', field: 'clusterSize', change: (v) => v.setUint32(header + 104, 0, true) },
  { what: 'too many probes', field: 'clusterProbes', change: (v) => v.setUint32(header + 108, 2 ** 31, true) },
  { what: 'too many segments', field: 'numTailSegments', change: (v) => v.setUint32(header + 112, 2 ** 31, true) },
  { what: 'more in the header', field: 'header', change: (v) => v.setUint8(header + 116, 1) },
  { what: 'more in a segment record', field: 'block', change: (v) => v.setUint8(segmentRecord + 24, 1) },
  { what: 'another start', field: 'tail segment start', change: (v) => v.setUint32(tailRecord, 5, true) },
  { what: 'nothing in it', field: 'tail segment end', change: (v) => v.setUint32(tailRecord + 4, 4, true) },
  { what: 'beyond the region', field: 'tail segment end', change: (v) => v.setUint32(tailRecord + 4, 285, true) },
  { what: 'made too late', field: 'tail segment madeAt', change: (v) => v.setUint32(tailRecord + 8, 301, true) },
  { what: 'no clusters', field: 'tail segment numClusters', change: (v) => v.setUint32(tailRecord + 12, 0, true) },
  { what: 'more in its record', field: 'tail segment', change: (v) => v.setUint8(tailRecord + 16, 1) },
  { what: 'a correction above log 2', field: 'tail corrections', change: (v) => v.setFloat32(corrections, 0.7, true) },
  { what: 'no number', field: 'tail corrections', change: (v) => v.setFloat32(corrections, Number.NaN, true) },
  {
    what: 'an unknown cluster',
    field: 'tail clusters',
    change: (v, { numClusters, clusters }) => v.setUint16(clusters, numClusters, true),
  },
  {
    what: 'a cluster without positions',
    field: 'tail clusters',
    change: (v, { clusters, keys }) => {
      for (let at = clusters; at < keys; at += 2) v.setUint16(at, Math.min(1, v.getUint16(at, true)), true);
    },
  },
  { what: 'an infinite mean', field: 'tail keys', change: (v, { keys }) => v.setUint16(keys + 6, f16Bits(1e9), true) },
];

/** Declares the tests with `test`. */
export function describeMadeUpImages(make: CentroidIndexMaker, test: NamedTest): void {
  const [{ data, options }] = conformanceCases() as [ConformanceCase];
  for (const { what, field, change } of changes) {
    test(`an image is refused for its ${field}: ${what}`, async () => {
      const index = await make.build({ ...indexInput(data), options });
      const { start, end } = index.region;
      const image = (await index.save()).slice();
      const view = new DataView(image.buffer);
      const numClusters = view.getUint32(tailRecord + 12, true);
      const sectionBytes = (numbers: number) => Math.ceil((2 * numbers) / 64) * 64;
      const keys = image.length - 2 * sectionBytes(numClusters * data.headDim);
      change(view, { numClusters, clusters: keys - sectionBytes(end - start), keys });
      view.setUint32(12, crc32(image.subarray(16)), true);
      const loading = make.load({ image, keys: data.keys, values: data.values });
      await expect(loading).rejects.toMatchObject({ code: 'CTKVR_BAD_INDEX_IMAGE', fields: { field } });
      index.close();
    });
  }
}
