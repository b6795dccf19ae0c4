import { runReadmeExample } from '@ctkvr/testkit';
import { expect, it } from 'vitest';

it('the example of the README runs and gives what it says', async () => {
  const { first, second } = await runReadmeExample(new URL('../README.md', import.meta.url));
  expect(first).toMatchObject({ tokenId: 1000 });
  expect(second).toMatchObject({ tokenId: 1, numSequences: 1 });
});

it('the example of a plan too', async () => {
  const { placement, bottleneck } = await runReadmeExample(new URL('../README.md', import.meta.url), 1);
  expect(placement).toMatchObject({ layers: { host: 0 }, microBatches: 2 });
  expect(bottleneck).toMatchObject({ resource: 'device' });
});
