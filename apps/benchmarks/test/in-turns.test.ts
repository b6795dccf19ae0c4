import { expect, test } from 'vitest';
import { inTurns } from '../src/suites/in-turns.js';

test('everyone has one uncounted turn and then one a round, and the first changes', async () => {
  const order: string[] = [];
  const turn = (name: string) => async () => {
    order.push(name);
    return order.length;
  };
  const samples = await inTurns({ a: turn('a'), b: turn('b') }, { rounds: 3, warmUp: true, onProgress: () => {} });
  expect(order.join('')).toBe('abbaabba');
  expect(samples).toEqual({ a: [4, 5, 8], b: [3, 6, 7] });
});

test('without a warm-up every turn counts', async () => {
  const samples = await inTurns({ a: async () => 1 }, { rounds: 2, warmUp: false, onProgress: () => {} });
  expect(samples).toEqual({ a: [1, 1] });
});
