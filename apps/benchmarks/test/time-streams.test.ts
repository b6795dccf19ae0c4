import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { endless, gapsDuring, gapsOf, timeTogether } from '../src/contenders/time-streams.js';

async function* numbers(count: number, taken: number[] = []): AsyncGenerator<number, void, undefined> {
  for (let i = 0; i < count; i++) {
    await sleep(1);
    taken.push(i);
    yield i;
  }
}

test('every stream gives one item before the clock starts, and then as many as asked for', async () => {
  const taken: number[][] = [[], []];
  const streams = taken.map((each) => numbers(10, each));
  expect(await timeTogether(streams, 3)).toBeGreaterThan(0);
  expect(taken).toEqual([
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ]);
});

test('the wait for the first item is not a gap', async () => {
  expect(await gapsOf(numbers(4))).toHaveLength(3);
  expect(await gapsOf(numbers(1))).toEqual([]);
});

test('gaps go on until the work beside them is done, over the ends of streams, and the last stream is closed', async () => {
  let [opened, closed] = [0, 0];
  async function* counted() {
    opened++;
    try {
      yield* numbers(3);
    } finally {
      closed++;
    }
  }
  const { gapsMs, workMs } = await gapsDuring(endless(counted), () => sleep(60));
  expect(workMs).toBeGreaterThanOrEqual(59);
  expect(gapsMs.length).toBeGreaterThan(3);
  expect(gapsMs.reduce((sum, gap) => sum + gap, 0)).toBeGreaterThanOrEqual(workMs - 1);
  expect(closed).toBe(opened);
});

test('what the work throws is thrown', async () => {
  const failing = gapsDuring(
    endless(() => numbers(3)),
    async () => {
      throw new RangeError('no room');
    },
  );
  await expect(failing).rejects.toThrow('no room');
});
