/** READMEs of the packages that this one depends on, and which therefore cannot use it in their own tests. */
import { expect, it } from 'vitest';
import { runReadmeExample } from '../src/index.js';

it('the example of @ctkvr/rope-similarity runs, and says what its comment says', async () => {
  const { mean } = await runReadmeExample(new URL('../../rope-similarity/README.md', import.meta.url));
  const [near, , far] = mean as Float64Array;
  expect(near!).toBeGreaterThan(0.95);
  expect(far!).toBeLessThan(near!);
});

it('the example of @ctkvr/core runs', async () => {
  await runReadmeExample(new URL('../../core/README.md', import.meta.url));
});
