import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { currentCommit } from '../src/machine.js';
import { threadCounts } from '../src/suites/tune-peer.js';

test('the commit is known in a checkout and null elsewhere', async () => {
  expect(await currentCommit()).toMatch(/^[0-9a-f]{12}\+?$/);
  expect(await currentCommit(tmpdir())).toBeNull();
});

test.each([
  [1, [1]],
  [3, [3, 2, 1]],
  [8, [8, 7, 6, 5, 4, 3, 2, 1]],
  [24, [24, 16, 8, 7, 6, 5, 4, 3, 2, 1]],
])('the peer is tried on up to %i threads', (maxThreads, expected) => {
  expect(threadCounts(maxThreads)).toEqual(expected);
});
