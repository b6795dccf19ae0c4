import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { root } from '../lib/paths.mjs';
import { entryOf, parseHistory, regressions } from './history.mjs';

/** @param {number} stepMs */
function report(stepMs, device = 'NVIDIA H200') {
  return {
    run: [{ rehearsal: 'no', begun: '2026-12-02T00:00:00Z', bundle: 'abc' }],
    tests: { kernels: { allRight: true } },
    steps: {
      facts: [{ note: '580' }, { device }],
      decode: [
        { read_gb_s: 4000 },
        { sequences: 1, reads: 'ctkvr', step_ms: stepMs, attention_ms: 1 },
        { sequences: 8, note: 'does not fit' },
      ],
      kernels: [{ sequences: 1, kernel: 'score', us: 12.5 }],
      prefill: [{ piece: 512, ms: 3000 }],
      index: [
        { on: 'CPU', ms_of_a_head: 200 },
        { on: 'device', ms_of_a_head: 9 },
        { on: 'device', ms_of_a_head: 5 },
      ],
    },
  };
}

const options = { last: 5, threshold: 0.1 };

test('the times of a report have names, and lines without a time have none', () => {
  expect(entryOf(report(4))).toEqual({
    card: 'NVIDIA H200',
    begun: '2026-12-02T00:00:00Z',
    bundle: 'abc',
    times: {
      'decode 1 ctkvr: step, ms': 4,
      'decode 1 ctkvr: attention, ms': 1,
      'kernel 1 score, us': 12.5,
      'prefill in pieces of 512, ms': 3000,
      'index on the device, ms a head': 5,
    },
  });
});

test('rehearsals and runs with wrong answers do not count', () => {
  const rehearsal = { ...report(4), run: [{ rehearsal: 'yes' }] };
  expect(() => entryOf(rehearsal)).toThrow('rehearsal');
  const wrong = { ...report(4), tests: { kernels: { allRight: false } } };
  expect(() => entryOf(wrong)).toThrow('not right');
});

test('slower than the median of the last runs by more than the threshold is a regression', () => {
  const history = [9, 4, 4.2, 3.8, 4, 40].map((ms) => entryOf(report(ms)));
  const slower = (/** @type {number} */ ms) =>
    regressions(history, entryOf(report(ms)), options).map(({ name }) => name);
  // Of the last five, 4, 4.2, 3.8, 4 and 40, the median is 4: neither the 9 nor the 40 moves it.
  expect(slower(4.39)).toEqual([]);
  expect(slower(4.41)).toEqual(['decode 1 ctkvr: step, ms']);
});

test('an even number of runs has a median between the two in the middle', () => {
  const history = [4, 6].map((ms) => entryOf(report(ms)));
  expect(regressions(history, entryOf(report(5.6)), options)).toMatchObject([{ before: 5, now: 5.6 }]);
  expect(regressions(history, entryOf(report(5.4)), options)).toEqual([]);
});

test('another card’s runs, and names that are new, are held against nothing', () => {
  const history = [entryOf(report(1, 'NVIDIA L4'))];
  expect(regressions(history, entryOf(report(100)), options)).toEqual([]);
  const entry = entryOf(report(4));
  expect(regressions([{ ...entry, times: {} }], entry, options)).toEqual([]);
});

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ctkvr-history-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** @param {number} stepMs @param {string[]} more */
function main(stepMs, ...more) {
  writeFileSync(join(dir, 'report.json'), JSON.stringify(report(stepMs)));
  const args = [join(root, 'scripts/gpu/history.mjs'), join(dir, 'history.jsonl'), join(dir, 'report.json'), ...more];
  return spawnSync(process.execPath, args, { encoding: 'utf8' });
}

test('the command adds each run and fails for a slower one', () => {
  expect(main(4)).toMatchObject({ status: 0, stdout: 'NVIDIA H200: 5 times, beside 0 runs\n' });
  const slower = main(5);
  expect(slower.status).toBe(1);
  expect(slower.stdout).toContain('slower: decode 1 ctkvr: step, ms: 5 where it was 4 (25.0 % more)');
  expect(main(5, '--threshold', '0.3').status).toBe(0);
  expect(parseHistory(readFileSync(join(dir, 'history.jsonl'), 'utf8'))).toHaveLength(3);
  expect(main(4, '--threshold', 'much').status).toBe(69);
});
