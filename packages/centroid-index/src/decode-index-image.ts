/**
 * Reads an index image, which may be damaged or forged. Its errors name fields as ctkvr-core's do, whoever reads it: there a segment is still
 * called a block.
 */
import { resolveSelectorOptions } from '@ctkvr/core';
import { CentroidSegment } from './centroid-segment.js';
import { crc32 } from './crc32.js';
import { decodeFloat16 } from './float16.js';
import { badImage, ImageReader } from './image-reader.js';
import {
  type ImageShape,
  type IndexImage,
  imageCheckedFrom,
  imageHeaderBytes,
  imageMagic,
  imageOptionFields,
  imageRecordBytes,
  imageVersion,
} from './index-image.js';
import { KeptQueries } from './kept-queries.js';
import { decodeGaps } from './position-gaps.js';
import { SegmentRow } from './segment-row.js';
import { Tail } from './tail.js';
import { TailSegment } from './tail-segment.js';
import { maxCorrection } from './volatility.js';

/** Positions, and `UNBOUNDED` of the options. */
const maxTokens = 0x7fff_ffff;
const maxHeadDim = 65_536;
/** Query heads of a KV head: models have up to 128. */
const maxGroup = 65_536;
/** An index holds at most twice as many centroids as its base, in segments of one or more. */
const maxSegments = 2 ** 20;
const maxCentroids = 2 ** 24;
/** Clusters of a segment are counted by u16. */
const maxClusters = 2 ** 16;

/**
 * Returns the sizes and options of an image; of the rest only magic, version and length are checked.
 * @throws {CtkvrError} CTKVR_BAD_INDEX_IMAGE.
 */
export function imageShape(bytes: Uint8Array): ImageShape {
  const header = openImage(bytes);
  const headDim = header.size('headDim', 24, { least: 1, most: maxHeadDim });
  const groupSize = header.size('groupSize', 28, { least: 1, most: maxGroup });
  const numTokens = header.size('numTokens', 32, { least: 0, most: maxTokens });
  const numbers = imageOptionFields.map(([field, least], i) => [
    field,
    header.size(field, 64 + 4 * i, { least, most: maxTokens }),
  ]);
  const options = resolveSelectorOptions({
    ...Object.fromEntries(numbers),
    tail: header.size('tail', 96, { least: 0, most: 1 }) === 1,
    centroids: header.size('centroids', 100, { least: 0, most: 1 }) === 1 ? 'spread' : 'last',
    clusterSize: header.size('clusterSize', 104, { least: 1, most: maxTokens }),
    clusterProbes: header.size('clusterProbes', 108, { least: 0, most: maxTokens }),
  });
  return { numTokens, headDim, groupSize, options };
}

/** Returns a reader of an image whose magic, version and length are right. */
function openImage(bytes: Uint8Array): ImageReader {
  if (bytes.length < imageHeaderBytes) throw badImage('size', `at least ${imageHeaderBytes} bytes`, bytes.length);
  const found = String.fromCharCode(...bytes.subarray(0, imageMagic.length));
  if (found !== imageMagic) throw badImage('magic', imageMagic, JSON.stringify(found));
  const reader = new ImageReader(bytes, imageHeaderBytes);
  if (reader.u32(8) !== imageVersion) throw badImage('version', imageVersion, reader.u32(8));
  const total = reader.u32(16) + reader.u32(20) * 2 ** 32;
  if (total !== bytes.length) throw badImage('size', `${total} bytes`, bytes.length);
  return reader;
}

/**
 * Returns what an image holds. Everything is checked, and sizes are compared with the image's length before memory is allocated.
 * @throws {CtkvrError} CTKVR_BAD_INDEX_IMAGE with fields field, expected, actual.
 */
export function decodeIndexImage(bytes: Uint8Array): IndexImage {
  const reader = openImage(bytes);
  const checksum = crc32(bytes.subarray(imageCheckedFrom));
  if (checksum !== reader.u32(12)) throw badImage('checksum', hex(reader.u32(12)), hex(checksum));
  const shape = imageShape(bytes);
  const { numTokens, headDim, groupSize } = shape;
  const numSegments = reader.size('numBlocks', 36, { least: 0, most: maxSegments });
  const numBase = reader.size('numBase', 40, { least: Math.min(1, numSegments), most: maxCentroids });
  const knownFrom = reader.size('knownFrom', 44, { least: 0, most: numTokens });
  const volatility = reader.f32(48);
  const similarityFloor = reader.f32(52);
  if (!(volatility >= 0 && volatility <= 1 && Number.isFinite(similarityFloor))) {
    throw badImage('volatility', 'numbers from 0 to 1', `${volatility} and ${similarityFloor}`);
  }
  const numBuilt = reader.size('numBuilt', 56, { least: 0, most: numTokens + 1 });
  const numKept = reader.size('numKept', 60, { least: 0, most: numTokens });
  const numTailSegments = reader.size('numTailSegments', 112, { least: 0, most: numTokens });
  reader.expectZeros('header', 116, imageHeaderBytes);

  const builtAt = reader.u32s('builtAt', [numBuilt]);
  checkAscending('builtAt', builtAt, numTokens + 1);
  const positions = reader.u32s('keptPositions', [numKept]);
  checkAscending('keptPositions', positions, numTokens);
  const keptRows = reader.f32s('keptQueries', [numKept, groupSize, headDim], Number.isFinite);
  const segmentRecords = readRecords(reader, 'blocks', numSegments);
  const tailRecords = readRecords(reader, 'tail segments', numTailSegments);
  const hasTail = shape.options.tail && numSegments > 0;
  const isCorrection = (x: number) => x >= 0 && x <= maxCorrection;
  const corrections = hasTail ? reader.f32s('tail corrections', [groupSize], isCorrection) : null;
  const segments: CentroidSegment[] = [];
  for (const record of segmentRecords)
    segments.push(readSegment({ record, reader, shape, before: segments.at(-1) ?? null }));
  const tailSegments: TailSegment[] = [];
  const region = { start: segments[0]?.start ?? 0, end: segments.at(-1)?.end ?? 0 };
  for (const record of tailRecords) {
    const { end: start, madeAt } = tailSegments.at(-1) ?? { end: region.start, madeAt: 0 };
    tailSegments.push(readTailSegment({ record, reader, shape, start, end: region.end, madeAt }));
  }
  const covered = tailSegments.at(-1)?.end ?? region.start;
  if (hasTail ? covered !== region.end : numTailSegments > 0) {
    throw badImage('numTailSegments', 'as many as cover the region', numTailSegments);
  }
  if (reader.at !== bytes.length) throw badImage('size', `${reader.at} bytes`, bytes.length);
  if ((numSegments === 0) !== (numBuilt === 0)) throw badImage('numBuilt', '0 without blocks, and only then', numBuilt);
  const tail = corrections === null ? null : new Tail(tailSegments, corrections);
  const measures = { volatility, similarityFloor, tail };
  const row = numSegments === 0 ? null : new SegmentRow({ segments, numBase, knownFrom, ...measures });
  const kept = new KeptQueries({ positions, rows: keptRows, rowLength: groupSize * headDim });
  return { ...shape, row, builtAt: Array.from(builtAt), kept };
}

function readRecords(reader: ImageReader, field: string, count: number): ImageReader[] {
  const records = reader.take(field, [count, imageRecordBytes]);
  return Array.from({ length: count }, (_, i) => {
    return new ImageReader(records.subarray(i * imageRecordBytes, (i + 1) * imageRecordBytes));
  });
}

function readSegment(of: {
  readonly record: ImageReader;
  readonly reader: ImageReader;
  readonly shape: ImageShape;
  readonly before: CentroidSegment | null;
}): CentroidSegment {
  const { record, reader, shape, before } = of;
  const { groupSize, headDim, numTokens } = shape;
  const { centroidsPerList } = shape.options;
  const start = record.size('block start', 0, { least: before?.start ?? 0, most: before?.start ?? numTokens });
  const madeAt = record.size('block madeAt', 8, { least: before?.madeAt ?? 0, most: numTokens });
  const end = record.size('block end', 4, { least: before?.end ?? start, most: madeAt });
  const grownAt = record.size('block grownAt', 12, { least: before?.grownAt ?? 0, most: madeAt });
  const numCentroids = record.size('block numCentroids', 16, { least: 1, most: maxCentroids });
  const listBytes = record.size('block listBytes', 20, { least: 0, most: 0xffff_ffff });
  record.expectZeros('block', 24, imageRecordBytes);
  const pooled = reader.rows('pooled vectors', numCentroids, headDim);
  const numLists = Math.ceil(numCentroids / centroidsPerList);
  const offsets = reader.u32s('list offsets', [numLists + 1]);
  const gaps = reader.take('lists', [listBytes]);
  const bounded = offsets[0] === 0 && offsets[numLists] === listBytes;
  const lists = Array.from({ length: numLists }, (_, l) => {
    const [from, to] = [offsets[l]!, offsets[l + 1]!];
    const list = bounded && from <= to ? decodeGaps(gaps.subarray(from, to), { start, end }) : null;
    if (list === null) throw badImage('lists', `ascending positions from ${start} to ${end - 1}`, 'others');
    return list;
  });
  const positions = { start, end, madeAt, grownAt };
  return new CentroidSegment({ ...positions, groupSize, headDim, centroidsPerList, pooled, lists });
}

/** Reads a segment that begins at `start`, ends by `end`, and was not made before `madeAt`. */
function readTailSegment(of: {
  readonly record: ImageReader;
  readonly reader: ImageReader;
  readonly shape: ImageShape;
  readonly start: number;
  readonly end: number;
  readonly madeAt: number;
}): TailSegment {
  const { record, reader, shape } = of;
  const { headDim, numTokens } = shape;
  const start = record.size('tail segment start', 0, { least: of.start, most: of.start });
  const end = record.size('tail segment end', 4, { least: start + 1, most: of.end });
  const madeAt = record.size('tail segment madeAt', 8, { least: of.madeAt, most: numTokens });
  const numClusters = record.size('tail segment numClusters', 12, { least: 1, most: maxClusters });
  record.expectZeros('tail segment', 16, imageRecordBytes);
  const clusterOf = reader.u16s('tail clusters', [end - start]);
  const means = (field: string) => {
    const numbers = Float32Array.from(reader.u16s(field, [numClusters, headDim]), decodeFloat16);
    const other = numbers.find((x) => !Number.isFinite(x));
    if (other !== undefined) throw badImage(field, 'finite numbers', other);
    return numbers;
  };
  const [keys, values] = [means('tail keys'), means('tail values')];
  if (clusterOf.some((cluster) => cluster >= numClusters) || new Set(clusterOf).size !== numClusters) {
    throw badImage('tail clusters', `below ${numClusters}, and each at least once`, 'others');
  }
  return new TailSegment({ start, madeAt, clusterOf, keys, values, headDim });
}

function checkAscending(field: string, values: Uint32Array, end: number): void {
  const ascends = values.every((value, i) => value < end && (i === 0 || values[i - 1]! < value));
  if (!ascends) throw badImage(field, `ascending and below ${end}`, 'others');
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
