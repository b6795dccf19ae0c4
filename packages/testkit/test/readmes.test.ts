/** READMEs of the packages that this one depends on, and which therefore cannot use it in their own tests. */
import type { OverlapCurve, RotaryEmbedding } from '@ctkvr/rope-similarity';
import { expect, it } from 'vitest';
import { runReadmeExample } from '../src/index.js';
import { tryNative } from './rope-subjects.js';

const ropeReadme = new URL('../../rope-similarity/README.md', import.meta.url);

it('the example of @ctkvr/rope-similarity runs, and says what its comment says', async () => {
  const { mean, curve } = await runReadmeExample(ropeReadme);
  const [near, , far] = mean as Float64Array;
  expect(near!).toBeGreaterThan(0.9);
  expect(far!).toBeLessThan(near!);
  const { overlap, count } = curve as OverlapCurve;
  expect(count[9]! + count[8]!).toBeGreaterThan(0);
  expect(overlap.findLast((_, bin) => count[bin]! > 0)).toBeGreaterThan(overlap.find((_, bin) => count[bin]! > 0)!);
});

const loaded = tryNative();
const noBinary = 'reason' in loaded ? ` (skipped: ${loaded.reason})` : '';
it.skipIf(noBinary !== '')(`its example with the native binary runs${noBinary}`, async () => {
  const { rope } = await runReadmeExample(ropeReadme, 1);
  expect((rope as RotaryEmbedding).backend).toBe('native');
});

it('the example of @ctkvr/core runs', async () => {
  await runReadmeExample(new URL('../../core/README.md', import.meta.url));
});
