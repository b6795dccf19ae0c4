import { expect, it } from 'vitest';
import { runReadmeExample } from '../../testkit/src/readme-example.js'; // by path: testkit depends on this package
import { noBinding } from './test-binding.js';

it.skipIf(noBinding !== '')(`the example of the README runs${noBinding}`, async () => {
  const { output, threads } = await runReadmeExample(new URL('../README.md', import.meta.url));
  expect(output).toHaveLength(2 * 64);
  expect(threads).toBeGreaterThan(0);
});
