import { expect, test } from 'vitest';
import { toSharedCoresRows } from '../src/suites/shared-cores.js';

test('rows compare medians with those of a process alone, and count both of two', () => {
  const rows = toSharedCoresRows(
    {
      nothing: [[4], [5], [9]],
      another: [
        [10, 12],
        [11, 13],
      ],
      'busy loops': [[15]],
    },
    2,
  );
  expect(rows.map(({ beside, threads, ratioToAlone }) => [beside, threads, ratioToAlone])).toEqual([
    ['nothing', 2, 1],
    ['another', 2, 2.3],
    ['busy loops', 2, 3],
  ]);
  expect(rows[1]!.msPerToken).toMatchObject({ median: 11.5, numSamples: 4 });
});
