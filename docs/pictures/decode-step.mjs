// One decode step of a dumped head, stage by stage, with the algorithm packages: what the pictures show.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildCentroidIndex } from '../../packages/centroid-index/dist/index.js';
import { createAttentionOutput, scoreCandidates, TokenRefiner } from '../../packages/token-refiner/dist/index.js';

/** First and last positions that are always read; the packages' defaults. */
export const [NUM_SINKS, WINDOW] = [16, 256];

/** Reads a head of the folder that dump-head.mjs wrote. @param {string} folder @param {string} name layer:KV head */
export function readHead(folder, name) {
  const sizes = JSON.parse(readFileSync(join(folder, 'heads.json'), 'utf8'));
  const { numTokens, numCentroids, numDecodes, headDim, groupSize } = sizes;
  const which = sizes.heads.findIndex(({ layer, kvHead }) => `${layer}:${kvHead}` === name);
  if (which < 0) throw new Error(`${folder} has no head ${name}`);
  const row = groupSize * headDim;
  const counts = [numTokens * headDim, numTokens * headDim, numCentroids * row, numDecodes * row];
  let at = which * counts.reduce((a, b) => a + b) * 2;
  const bytes = readFileSync(join(folder, 'heads.bin'));
  const [keys, values, queries, decodes] = counts.map((count) => {
    const numbers = Float32Array.from({ length: count }, (_, i) => fromHalf(bytes.readUInt16LE(at + 2 * i)));
    at += 2 * count;
    return numbers;
  });
  const tokens = JSON.parse(readFileSync(join(folder, 'tokens.json'), 'utf8'));
  return { keys, values, queries, decodes, headDim, groupSize, numTokens, tokens };
}

/** Builds the head's index and takes one decode step. @param {ReturnType<typeof readHead>} head @param {number} which decode query */
export async function decodeStep({ keys, values, queries, decodes, headDim, groupSize, numTokens }, which) {
  const row = groupSize * headDim;
  const query = decodes.slice(which * row, (which + 1) * row);
  const index = await buildCentroidIndex({ keys, values, queries, headDim, groupSize });
  const refiner = new TokenRefiner({ keys, values, headDim, groupSize });

  const probed = new Uint32Array(index.numProbed);
  const similarities = new Float32Array(index.numProbed);
  index.probe({ query, centroids: probed, similarities });
  const lists = Array.from(probed, (centroid) => index.list(centroid));
  const union = new Uint32Array(index.maxCandidates);
  const listed = union.slice(0, index.candidates({ centroids: probed, out: union }));
  const candidates = union.slice(0, index.widen({ query, candidates: listed, out: union }));
  const selected = new Uint32Array(refiner.maxSelected);
  const numSelected = refiner.select({ query, candidates, out: selected });
  const tail = { lse: new Float32Array(groupSize), value: new Float32Array(row) };
  index.tailAt({ query, candidates, ...tail });

  const exact = attentionOverAll({ query, keys, values, headDim, groupSize, numTokens });
  const windowOnly = attend(refiner, { query, candidates: new Uint32Array(0) }, row, groupSize);
  const withTail = attend(refiner, { query, candidates, tail }, row, groupSize);
  const withoutTail = attend(refiner, { query, candidates }, row, groupSize);
  return {
    probed,
    similarities: similaritiesToAll({ query, queries, headDim, groupSize }),
    lists,
    fromClusters: candidates.filter((position) => !listed.includes(position)),
    candidates,
    selected: selected.slice(0, numSelected),
    weights: exact.weights,
    error: relativeErrors(exact.output, { windowOnly, withoutTail, withTail }, groupSize, headDim),
  };
}

/** Cosine of the pooled query and every centroid's pooled query, in f32; the index compares 8-bit codes of them. */
function similaritiesToAll({ query, queries, headDim, groupSize }) {
  const row = groupSize * headDim;
  const own = pooled(query, headDim);
  return Array.from({ length: queries.length / row }, (_, centroid) => {
    const other = pooled(queries.subarray(centroid * row, (centroid + 1) * row), headDim);
    return own.reduce((sum, x, i) => sum + x * other[i], 0);
  });
}

/** The normalised sum of the heads' normalised queries. @param {Float32Array} query f32 [groupSize, headDim] */
function pooled(query, headDim) {
  const sum = new Float32Array(headDim);
  for (let at = 0; at < query.length; at += headDim) {
    const head = query.subarray(at, at + headDim);
    const size = norm(head);
    for (let i = 0; i < headDim; i++) sum[i] += head[i] / size;
  }
  const size = norm(sum);
  return sum.map((x) => x / size);
}

const norm = (/** @type {Float32Array} */ numbers) => Math.sqrt(numbers.reduce((sum, x) => sum + x * x, 0));

/** @param {TokenRefiner} refiner */
function attend(refiner, step, row, groupSize) {
  const out = createAttentionOutput(groupSize, row / groupSize);
  refiner.attend({ ...step, out });
  return out.output;
}

/** Dense attention: `weights` f32 [numTokens], the mean of the query heads' softmax; `output` f32 [groupSize, headDim]. */
function attentionOverAll({ query, keys, values, headDim, groupSize, numTokens }) {
  const positions = Uint32Array.from({ length: numTokens }, (_, position) => position);
  const scores = new Float32Array(groupSize * numTokens);
  scoreCandidates({ query, keys, candidates: positions, headDim, groupSize, out: scores });
  const weights = new Float32Array(numTokens);
  const output = new Float32Array(groupSize * headDim);
  for (let head = 0; head < groupSize; head++) {
    const ofHead = scores.subarray(head * numTokens, (head + 1) * numTokens);
    const largest = ofHead.reduce((a, b) => Math.max(a, b));
    const sum = ofHead.reduce((total, score) => total + Math.exp(score - largest), 0);
    for (let position = 0; position < numTokens; position++) {
      const weight = Math.exp(ofHead[position] - largest) / sum;
      weights[position] += weight / groupSize;
      for (let i = 0; i < headDim; i++) output[head * headDim + i] += weight * values[position * headDim + i];
    }
  }
  return { weights, output };
}

/** |approximation - exact| / |exact| of every query head. */
function relativeErrors(exact, outputs, groupSize, headDim) {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, output]) => [
      name,
      Array.from({ length: groupSize }, (_, head) => {
        const part = exact.subarray(head * headDim, (head + 1) * headDim);
        return norm(part.map((x, i) => output[head * headDim + i] - x)) / norm(part);
      }),
    ]),
  );
}

/** @param {number} bits of an f16 */
function fromHalf(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}
