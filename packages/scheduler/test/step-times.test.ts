import { describe, expect, test } from 'vitest';
import { StepTimes } from '../src/step-times.js';

const decodes = (numDecodes: number, totalMs: number) => ({ numDecodes, numPrefillTokens: 0, totalMs });
const mixed = (numPrefillTokens: number, totalMs: number) => ({ numDecodes: 1, numPrefillTokens, totalMs });

describe('StepTimes', () => {
  test('decodes run alone until it is known how long that takes', () => {
    const times = new StepTimes();
    expect(times.tokensBeside(1, 3)).toBe(0);
    times.observe({ numDecodes: 0, numPrefillTokens: 512, totalMs: 900 });
    expect(times.tokensBeside(1, 3)).toBe(0);
    times.observe(decodes(1, 10));
    expect(times.tokensBeside(1, 3)).toBe(16);
    expect(times.tokensBeside(2, 3), 'more of them than were measured').toBe(0);
  });

  test('tokens fill the time that the slowdown leaves, in fours', () => {
    const times = new StepTimes();
    times.observe(decodes(1, 10));
    times.observe(mixed(16, 18)); // half a millisecond a token
    expect(times.tokensBeside(1, 3)).toBe(40);
    expect(times.tokensBeside(1, 3.3)).toBe(44);
    expect(times.tokensBeside(1, 2)).toBe(20);
    expect(times.tokensBeside(1, 1.01), 'a prompt must end').toBe(3);
  });

  test('the time of a token follows the context', () => {
    const times = new StepTimes();
    times.observe(decodes(1, 10));
    for (let step = 0; step < 20; step++) times.observe(mixed(20, 10 + 20 * 2));
    expect(times.tokensBeside(1, 5)).toBe(20);
  });

  test('a slow step counts more than a fast one', () => {
    const times = new StepTimes();
    times.observe(decodes(1, 10));
    times.observe(mixed(10, 10 + 10 * 1));
    times.observe(mixed(10, 10 + 10 * 2));
    expect(times.tokensBeside(1, 4), '1.5 ms a token').toBe(20);
    times.observe(mixed(10, 10 + 10 * 0.5));
    expect(times.tokensBeside(1, 4), '1.4 ms a token').toBe(20);
    for (let step = 0; step < 40; step++) times.observe(mixed(10, 10 + 10 * 0.5));
    expect(times.tokensBeside(1, 4)).toBe(56);
  });

  test('a decode that was held up makes little room', () => {
    const times = new StepTimes();
    times.observe(decodes(1, 10));
    times.observe(mixed(16, 26));
    expect(times.tokensBeside(1, 3)).toBe(20);
    times.observe(decodes(1, 500));
    expect(times.tokensBeside(1, 3), 'as if it had taken 12').toBe(24);
    times.observe(decodes(1, 10));
    expect(times.tokensBeside(1, 3)).toBe(20);
  });

  test('a step that took no longer than its decodes allows as much as may be', () => {
    const times = new StepTimes();
    times.observe(decodes(1, 10));
    times.observe(mixed(16, 9));
    expect(times.tokensBeside(1, 3)).toBe(Number.POSITIVE_INFINITY);
  });
});
