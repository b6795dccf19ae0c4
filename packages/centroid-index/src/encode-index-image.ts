/** Writes an index image. */
import { crc32 } from './crc32.js';
import { encodeFloat16 } from './float16.js';
import { ImageWriter } from './image-writer.js';
import { type IndexImage, imageCheckedFrom, imageMagic, imageOptionFields, imageVersion } from './index-image.js';
import type { Int8Rows } from './int8-rows.js';
import { encodeGaps } from './position-gaps.js';

/** Returns the bytes of an image. */
export function encodeIndexImage({ row, builtAt, kept, ...shape }: IndexImage): Uint8Array {
  const { options } = shape;
  const segments = row?.segments ?? [];
  const tailSegments = row?.tail?.segments ?? [];
  const out = new ImageWriter();
  out.u8s(new TextEncoder().encode(imageMagic));
  // Checksum and total size come last.
  out.u32s([imageVersion, 0, 0, 0]);
  out.u32s([shape.headDim, shape.groupSize, shape.numTokens, segments.length, row?.numBase ?? 0, row?.knownFrom ?? 0]);
  out.f32s([row?.volatility ?? 0, row?.similarityFloor ?? -1]);
  out.u32s([builtAt.length, kept.positions.length]);
  out.u32s(imageOptionFields.map(([field]) => options[field]));
  out.u32s([options.tail ? 1 : 0, options.centroids === 'spread' ? 1 : 0]);
  out.u32s([options.clusterSize, options.clusterProbes, tailSegments.length]);
  out.align();
  out.u32s(builtAt);
  out.align();
  out.u32s(kept.positions);
  out.align();
  out.f32s(kept.rows);
  out.align();
  const lists = segments.map((segment) => segment.lists.map((list) => encodeGaps(list, segment.start)));
  segments.forEach((segment, s) => {
    const { start, end, madeAt, grownAt, numCentroids } = segment;
    const listBytes = lists[s]!.reduce((sum, list) => sum + list.length, 0);
    out.u32s([start, end, madeAt, grownAt, numCentroids, listBytes]);
    out.align();
  });
  for (const { start, end, madeAt, numClusters } of tailSegments) {
    out.u32s([start, end, madeAt, numClusters]);
    out.align();
  }
  out.f32s(row?.tail?.corrections ?? []);
  out.align();
  segments.forEach((segment, s) => {
    rows(out, segment.pooled);
    let offset = 0;
    out.u32s([0, ...lists[s]!.map((list) => (offset += list.length))]);
    out.align();
    for (const list of lists[s]!) out.u8s(list);
    out.align();
  });
  for (const { clusterOf, keys, values } of tailSegments) {
    for (const numbers of [clusterOf, Uint16Array.from(keys, encodeFloat16), Uint16Array.from(values, encodeFloat16)]) {
      out.u16s(numbers);
      out.align();
    }
  }
  const bytes = out.finish();
  const view = new DataView(bytes.buffer);
  view.setBigUint64(16, BigInt(bytes.length), true);
  view.setUint32(12, crc32(bytes.subarray(imageCheckedFrom)), true);
  return bytes;
}

/** Codes, then scales, each a section. */
function rows(out: ImageWriter, { codes, scales }: Int8Rows): void {
  out.u8s(new Uint8Array(codes.buffer, codes.byteOffset, codes.length));
  out.align();
  out.f32s(scales);
  out.align();
}
