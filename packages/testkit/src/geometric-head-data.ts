/**
 * Data with the geometry of a trained head, without a model: what a query wants drifts slowly, both sides turn with position through a real
 * rotary embedding, the first tokens are sinks that draw weight from everywhere, and a few heavy keys matter to many queries.
 * Independent random vectors have none of this: a nearest neighbour is hardly nearer than any other vector, so they cannot test an index.
 */
import { RotaryEmbedding } from '@ctkvr/rope-similarity';
import type { HeadData, HeadDataSizes } from './head-data.js';
import { createRandom, type Random } from './random.js';

/**
 * Returns geometric data; the centroid queries are those of the last numCentroids tokens, the decode queries those of the tokens that
 * follow the sequence. Values are topic vectors plus noise. Not rounded: use `roundToF16` for data that goes to the native side too.
 */
export function geometricHeadData(sizes: HeadDataSizes): HeadData {
  const { seed, numTokens, headDim, groupSize, numCentroids, numDecodes } = sizes;
  const random = createRandom(seed);
  const rope = new RotaryEmbedding({ headDim, pairing: 'half' });
  const total = numTokens + numDecodes;

  // Topics: directions that tokens of a stretch share and that later queries come back to.
  const topics = Array.from({ length: 12 }, () => gaussian(random, headDim, 1));
  // The mean query of each head, mostly in the slow (last) frequencies: it survives rotation and is what sinks answer.
  const means = Array.from({ length: groupSize }, () =>
    gaussian(random, headDim, 0.4).map((x, d) => (isSlow(d, headDim) ? 1.5 + x : x)),
  );
  const keys = new Float32Array(numTokens * headDim);
  const values = new Float32Array(numTokens * headDim);
  const queries = new Float32Array(total * groupSize * headDim);
  let topic = topics[0]!;
  let mood = gaussian(random, headDim, 1);
  for (let token = 0; token < total; token++) {
    if (random.uniform() < 0.04) topic = topics[random.integer(0, topics.length - 1)]!;
    mood = mood.map((x) => 0.97 * x + 0.25 * random.normal());
    for (let head = 0; head < groupSize; head++) {
      for (let d = 0; d < headDim; d++) {
        const wanted = means[head]![d]! + 0.9 * topic[d]! + 0.6 * mood[d]! + 0.25 * random.normal();
        queries[(token * groupSize + head) * headDim + d] = wanted;
      }
    }
    if (token >= numTokens) continue;
    const isSink = token < 2;
    const isHeavy = random.uniform() < 0.01;
    for (let d = 0; d < headDim; d++) {
      const slow = isSlow(d, headDim);
      const content = 1.1 * topic[d]! + 0.7 * random.normal();
      keys[token * headDim + d] = isSink ? (slow ? 3 : 0.1 * content) : content + (slow ? (isHeavy ? 1.4 : -0.6) : 0);
      values[token * headDim + d] = isSink ? 0.05 * random.normal() : topic[d]! + 0.5 * random.normal();
    }
  }
  rope.rotate({ vectors: keys, numHeads: 1, out: keys });
  rope.rotate({ vectors: queries, numHeads: groupSize, out: queries });
  const row = groupSize * headDim;
  return {
    keys,
    values,
    queries: queries.slice((numTokens - numCentroids) * row, numTokens * row),
    decodes: queries.slice(numTokens * row),
    headDim,
    groupSize,
  };
}

/** The last quarter of the frequencies of the half pairing: dimensions that hardly turn within a few thousand positions. */
function isSlow(d: number, headDim: number): boolean {
  return d % (headDim / 2) >= (headDim / 2) * 0.75;
}

function gaussian(random: Random, length: number, deviation: number): number[] {
  return Array.from({ length }, () => deviation * random.normal());
}
