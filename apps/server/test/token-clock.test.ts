import { expect, test, vi } from 'vitest';
import { TokenClock } from '../src/token-clock.js';

const timings = (linearMs: number) => ({ linearMs, retrievalMs: 2, attentionMs: 1.5, samplingMs: 0.5, indexMs: 0 });
const step = (linearMs: number) => ({ counters: null, timings: timings(linearMs) });

test('stages are means over the tokens after the first, which belongs to the prompt', () => {
  const clock = new TokenClock(3);
  for (const linearMs of [1000, 4, 6, 8]) clock.tick(step(linearMs));
  expect(clock.statistics().ms_by_stage).toEqual({
    linear: 6,
    retrieval: 2,
    attention: 1.5,
    sampling: 0.5,
    index: 0,
  });
});

test('nothing is said of answers too short for it', () => {
  const clock = new TokenClock(3);
  expect(clock.statistics()).toMatchObject({ time_to_first_token_ms: null, ms_per_token: null, ms_by_stage: null });
  clock.tick(step(5));
  expect(clock.statistics()).toMatchObject({ ms_per_token: null, ms_by_stage: null });
});

test('times are those between tokens, and what was read is that of the last step that tells it', () => {
  const now = vi.spyOn(performance, 'now');
  try {
    now.mockReturnValue(100);
    const clock = new TokenClock(3);
    const counters = { heads: 2, keysTotal: 4000, keysRead: 1000, estimatedMass: 5.4 };
    for (const [at, counted] of [
      [150, null],
      [160, counters],
      [180, null],
    ] as const) {
      now.mockReturnValue(at);
      clock.tick({ counters: counted, timings: timings(1) });
    }
    expect(clock.statistics()).toMatchObject({
      time_to_first_token_ms: 50,
      ms_per_token: 15,
      keys_read_per_head: 500,
      keys_per_head: 2000,
      attention_mass: 0.9,
    });
  } finally {
    now.mockRestore();
  }
});
