/** Reference and native through one suite. The package's own tests cannot use it: this one depends on that. */
import { RotaryEmbedding } from '@ctkvr/rope-similarity';
import { describe, expect, it } from 'vitest';
import { describeRopeSimilarity } from '../src/index.js';
import { reference, tryNative } from './rope-subjects.js';

describe('reference', () => describeRopeSimilarity(() => reference));

const loaded = tryNative();
if ('reason' in loaded) it.skip(`native (skipped: ${loaded.reason})`, () => {});
else describe('native', () => describeRopeSimilarity(() => loaded.native));

it('native without a binary says how to get one, and an unknown backend is refused', () => {
  const options = { headDim: 4, pairing: 'half' } as const;
  const code = (name: string) => expect.objectContaining({ code: name });
  expect(() => new RotaryEmbedding({ ...options, backend: 'native' })).toThrow(code('CTKVR_NATIVE_UNAVAILABLE'));
  expect(() => new RotaryEmbedding({ ...options, backend: 'gpu' as never })).toThrow(code('CTKVR_INVALID_OPTION'));
  expect(new RotaryEmbedding(options).backend).toBe('reference');
});
