import { runReadmeExample } from '@ctkvr/testkit';
import { expect, it } from 'vitest';
import type { AttentionOutput } from '../src/index.js';

it('the example of the README runs', async () => {
  const example = await runReadmeExample(new URL('../README.md', import.meta.url));
  const out = example.out as AttentionOutput;
  for (const mass of out.mass) {
    expect(mass).toBeGreaterThan(0);
    expect(mass).toBeLessThan(1);
  }
});
