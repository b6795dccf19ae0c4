import { expect, it } from 'vitest';
import { cosineByDistance } from './cosine-by-distance.js';
import { RotaryEmbedding } from './rotary-embedding.js';

/** Enough work for several slices of 20 ms on any machine. */
const numTokens = 20_000;
const queries = new Float32Array(numTokens * 2 * 64).fill(1);

it('a long reference run lets timers fire and can be stopped between slices', async () => {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 1);
  const distances = Uint32Array.from({ length: 200 }, (_, i) => i);
  const running = cosineByDistance({ queries, groupSize: 2, headDim: 64, distances, signal: stop.signal });
  await expect(running).rejects.toThrow(expect.objectContaining({ code: 'CTKVR_ABORTED' }));
});

it('a rotation in slices gives what one at once gives', async () => {
  const rope = new RotaryEmbedding({ headDim: 64, pairing: 'half' });
  const [now, later] = [new Float32Array(queries.length), queries.slice()];
  rope.rotate({ vectors: queries, numHeads: 2, out: now });
  await rope.rotateAsync({ vectors: later, numHeads: 2, out: later });
  // Bytes: a comparison number by number takes vitest seconds.
  expect(Buffer.compare(Buffer.from(later.buffer), Buffer.from(now.buffer))).toBe(0);
});
