import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { exitCodes } from '../src/exit-codes.js';
import { formatBytes, formatCount, formatCounted, formatDuration, formatTable } from '../src/format.js';
import { drawNeedle, drawNeedles } from '../src/needles/draw-needle.js';
import { hideFacts } from '../src/needles/hide-facts.js';
import { lighthouseFact, lighthousePlaces, lighthouseQuestion, namesNumber } from '../src/needles/lighthouse.js';
import { duration } from '../src/parse-options.js';
import { downloadState, ProgressLine, prefillState, renderProgress } from '../src/progress-line.js';
import { EXIT_HELP } from '../src/run-cli.js';

describe('format', () => {
  it.each([
    [formatBytes(98_362_432), '93.8 MiB'],
    [formatBytes(0), '0 B'],
    [formatCount(7103), '7,103'],
    [formatCounted(1, 'token'), '1 token'],
    [formatCounted(7103, 'token'), '7,103 tokens'],
    [formatDuration(850.4), '850 ms'],
    [formatDuration(12_340), '12.3 s'],
    [formatDuration(185_000), '3 min 05 s'],
    [
      formatTable(
        [
          ['a', '1'],
          ['bbb', '22'],
        ],
        [1],
      ),
      'a     1\nbbb  22\n',
    ],
  ])('%s', (actual, expected) => {
    expect(actual).toBe(expected);
  });
});

describe('progress', () => {
  it('shows rate and time left, and never wraps the terminal', () => {
    const state = prefillState({ tokensDone: 2000, tokensTotal: 8000, tokensPerSecond: 500, phase: 'prefill' });
    expect(renderProgress(state, 200)).toBe(
      'reading [######------------------] 25%  2,000 of 8,000 tokens  500 tokens/s  12.0 s left',
    );
    expect(renderProgress(state, 30)).toHaveLength(29);
  });
});

describe('progress into a pipe', () => {
  /** What a progress line writes to a stderr that is no terminal. */
  function written(options: { readonly stages?: boolean }): string {
    const stderr = new PassThrough();
    const progress = new ProgressLine({ stdin: process.stdin, stdout: new PassThrough(), stderr, env: {} }, options);
    const download = { name: 'a.gguf', phase: 'download', bytesTotal: 1024 } as const;
    for (const bytesDone of [0, 512]) progress.show(downloadState({ ...download, bytesDone, bytesPerSecond: 0 }));
    progress.clear();
    for (const tokensDone of [2000, 4000]) {
      progress.show(prefillState({ tokensDone, tokensTotal: 8000, tokensPerSecond: 500, phase: 'prefill' }));
    }
    progress.show({ label: 'asking: dense', fraction: null, detail: '' });
    progress.clear();
    return String(stderr.read() ?? '');
  }

  it('is a plain line as each stage begins, where a person waits', () => {
    expect(written({ stages: true })).toBe(
      'fetching a.gguf, 1.0 KiB\nreading, 8,000 tokens, 12.0 s left\nasking: dense\n',
    );
  });

  it('is nothing elsewhere', () => {
    expect(written({})).toBe('');
  });
});

describe('times', () => {
  it.each([
    ['90s', 90_000],
    ['10m', 600_000],
    ['1.5h', 5_400_000],
  ])('%s', (given, ms) => expect(duration(given)).toBe(ms));

  it.each(['10', 'm', '-1m', '0s', '10 min', '600h'])('refuses %j', (given) => {
    expect(() => duration(given)).toThrowError(/90s, 10m or 1h/);
  });
});

describe('exit statuses', () => {
  it.each(Object.entries(exitCodes))('--help names that of %s', (_, code) => {
    expect(EXIT_HELP).toMatch(new RegExp(`\\b${code} \\w`));
  });
});

describe('a hidden fact', () => {
  it('hides the fact between two paragraphs, near the asked depth', () => {
    const text = ['one', 'two', 'three', 'four'].join('\n\n');
    const hidden = hideFacts(text, [{ fact: 'FACT', depth: 0.5 }]);
    expect(hidden.text).toBe('one\n\ntwo\n\nFACT\n\nthree\n\nfour');
    expect(hidden.text.slice(hidden.at[0], hidden.at[0]! + 4)).toBe('FACT');
    expect(hideFacts('only one', [{ fact: 'FACT', depth: 0.5 }]).text).toBe('only one\n\nFACT');
  });

  it('hides several, in whatever order they come, two at one boundary too', () => {
    const facts = [
      { fact: 'LATE', depth: 0.9 },
      { fact: 'EARLY', depth: 0.1 },
      { fact: 'LATER', depth: 0.95 },
    ];
    const { text, at } = hideFacts('one\n\ntwo\n\nthree', facts);
    expect(text).toBe('one\n\nEARLY\n\ntwo\n\nthree\n\nLATE\n\nLATER');
    for (const [i, { fact }] of facts.entries()) expect(text.slice(at[i]).startsWith(fact)).toBe(true);
  });

  it('draws number and depth from the seed, another pair for each trial', () => {
    expect(drawNeedle(7, 0)).toEqual(drawNeedle(7, 0));
    const drawn = Array.from({ length: 200 }, (_, trial) => drawNeedle(7, trial));
    expect(new Set(drawn.map(({ number }) => number)).size).toBeGreaterThan(190);
    for (const { number, depth } of drawn) {
      expect(String(number)).toMatch(/^[1-9]\d{5}$/);
      expect(depth).toBeGreaterThanOrEqual(0.2);
      expect(depth).toBeLessThan(0.8);
    }
  });

  it('draws several for one prompt: one in each part of the text, places and numbers apart', () => {
    const drawn = drawNeedles(7, 0, 20);
    expect(drawNeedles(7, 0, 20)).toEqual(drawn);
    expect(drawNeedles(7, 1, 20)).not.toEqual(drawn);
    expect(drawn.map(({ depth }) => Math.floor(depth * 20))).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(new Set(drawn.map(({ place }) => place)).size).toBe(20);
    expect(new Set(drawn.map(({ number }) => number)).size).toBe(20);
    expect(new Set(lighthousePlaces).size).toBe(lighthousePlaces.length);
  });

  it('says in fact and question whose number it is', () => {
    expect(lighthouseFact(123456)).toContain('number of the lighthouse is 123456');
    expect(lighthouseFact(123456, 'Dunsay')).toContain('number of the Dunsay lighthouse is 123456');
    expect(lighthouseQuestion('Dunsay')).toBe('What is the special magic number of the Dunsay lighthouse?');
  });

  it('recognises the number in an answer', () => {
    expect(namesNumber('It is 123,456.', 123456)).toBe(true);
    expect(namesNumber('It is 123457.', 123456)).toBe(false);
  });
});
