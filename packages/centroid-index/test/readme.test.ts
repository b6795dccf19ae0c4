import { runReadmeExample } from '@ctkvr/testkit';
import { expect, it } from 'vitest';

it('the example of the README runs', async () => {
  const { candidates, tail } = await runReadmeExample(new URL('../README.md', import.meta.url));
  expect((candidates as Uint32Array).length).toBeGreaterThan(0);
  expect((tail as { lse: Float32Array }).lse.every(Number.isFinite)).toBe(true);
});
