import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { watchHeartbeat } from '../src/isolation/heartbeat.js';

const never = new Promise<void>(() => {});

describe('a process that is watched', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const watch = (ask: () => Promise<void>, silenceMs = 60_000) => {
    const onSilence = vi.fn();
    return { onSilence, end: watchHeartbeat({ ask, silenceMs, onSilence }) };
  };

  test('and answers, slowly too, is left alone', async () => {
    const ask = vi.fn(() => new Promise<void>((resolve) => void setTimeout(resolve, 55_000)));
    const { onSilence } = watch(ask);
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(onSilence).not.toHaveBeenCalled();
    expect(ask.mock.calls.length).toBeGreaterThan(40);
  });

  test('and falls silent is told of once, after the time that it may be silent', async () => {
    let answers = true;
    const { onSilence } = watch(async () => (answers ? undefined : never));
    await vi.advanceTimersByTimeAsync(600_000);
    answers = false;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(onSilence).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(16_000);
    expect(onSilence).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(onSilence).toHaveBeenCalledTimes(1);
  });

  test.each([
    [60_000, 300_000],
    [1000, 300_000],
    [600_000, 3_000_000],
  ])('and has never answered has longer: with %i ms of silence, %i ms', async (silenceMs, startMs) => {
    const { onSilence } = watch(() => never, silenceMs);
    await vi.advanceTimersByTimeAsync(startMs - 1);
    expect(onSilence).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(silenceMs);
    expect(onSilence).toHaveBeenCalledTimes(1);
  });

  test('and is gone, or no longer watched, or never to be killed, is not', async () => {
    const gone = vi.fn(() => Promise.reject(new Error('gone')));
    let answers = true;
    const silent = async () => (answers ? undefined : never);
    const watches = [watch(gone), watch(silent), watch(silent, 0)];
    await vi.advanceTimersByTimeAsync(100_000);
    answers = false;
    watches[1]!.end();
    await vi.advanceTimersByTimeAsync(1_000_000);
    for (const { onSilence } of watches) expect(onSilence).not.toHaveBeenCalled();
    expect(gone).toHaveBeenCalledTimes(1);
  });
});
