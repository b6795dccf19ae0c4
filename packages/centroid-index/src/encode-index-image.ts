/** Writes an index image. */
import { crc32 } from './crc32.js';
import { ImageWriter } from './image-writer.js';
import { type IndexImage, imageCheckedFrom, imageMagic, imageOptionFields, imageVersion } from './index-image.js';
import type { Int8Rows } from './int8-rows.js';
import { encodeGaps } from './position-gaps.js';

/** Returns the bytes of an image. */
export function encodeIndexImage({ row, builtAt, kept, ...shape }: IndexImage): Uint8Array {
  const { options } = shape;
  const blocks = row?.blocks ?? [];
  const out = new ImageWriter();
  out.u8s(new TextEncoder().encode(imageMagic));
  // Checksum and total size come last.
  out.u32s([imageVersion, 0, 0, 0]);
  out.u32s([shape.headDim, shape.groupSize, shape.numTokens, blocks.length, row?.numFirst ?? 0, row?.knownFrom ?? 0]);
  out.f32s([row?.volatility ?? 0, row?.similarityFloor ?? -1]);
  out.u32s([builtAt.length, kept.positions.length]);
  out.u32s(imageOptionFields.map(([field]) => options[field]));
  out.u32s([options.tail ? 1 : 0, options.centroids === 'spread' ? 1 : 0]);
  out.align();
  out.u32s(builtAt);
  out.align();
  out.u32s(kept.positions);
  out.align();
  out.f32s(kept.rows);
  out.align();
  const lists = blocks.map((block) => block.lists.map((list) => encodeGaps(list, block.start)));
  blocks.forEach((block, b) => {
    const { start, end, madeAt, grownAt, numCentroids, tail } = block;
    const listBytes = lists[b]!.reduce((sum, list) => sum + list.length, 0);
    out.u32s([start, end, madeAt, grownAt, numCentroids, listBytes, tail === null ? 0 : 1]);
    out.align();
  });
  blocks.forEach((block, b) => {
    rows(out, block.pooled);
    rows(out, block.unit);
    let offset = 0;
    out.u32s([0, ...lists[b]!.map((list) => (offset += list.length))]);
    out.align();
    for (const list of lists[b]!) out.u8s(list);
    out.align();
    if (block.tail === null) return;
    out.f32s(block.tail.base);
    out.align();
    rows(out, block.tail.value);
    rows(out, block.tail.key);
  });
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
