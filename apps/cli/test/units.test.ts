import { describe, expect, it } from 'vitest';
import { parseContender, withMaxSelected } from '../src/fidelity/fidelity-selectors.js';
import { argmax, klDivergence } from '../src/fidelity/kl-divergence.js';
import { median } from '../src/fidelity/median.js';
import { formatBytes, formatCount, formatDuration, formatTable } from '../src/format.js';
import { drawNeedle } from '../src/needles/draw-needle.js';
import { hideFact } from '../src/needles/hide-fact.js';
import { namesNumber } from '../src/needles/lighthouse.js';
import { prefillState, renderProgress } from '../src/progress-line.js';
import { commonPrefixLength, documentTurn } from '../src/prompt.js';

describe('klDivergence', () => {
  it('is that of the two distributions, whatever the shift of the logits', () => {
    // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): KL = 1/2 ln 2 - 1/4 ln 2.
    const p = Float32Array.of(Math.log(2), 0, 0);
    const q = Float32Array.of(100, 100, 100 + Math.log(2));
    expect(klDivergence(p, q)).toBeCloseTo(0.25 * Math.log(2), 5);
    expect(klDivergence(p, p)).toBe(0);
  });

  it('is finite where one of them is all but certain', () => {
    expect(klDivergence(Float32Array.of(1000, 0), Float32Array.of(0, 0))).toBeCloseTo(Math.log(2), 12);
  });

  it('refuses different vocabularies', () => {
    expect(() => klDivergence(new Float32Array(2), new Float32Array(3))).toThrow(RangeError);
  });
});

it('argmax takes the smaller id of a tie', () => {
  expect(argmax(Float32Array.of(1, 3, 3, 2))).toBe(1);
});

it('median', () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
});

describe('format', () => {
  it.each([
    [formatBytes(98_362_432), '93.8 MiB'],
    [formatBytes(0), '0 B'],
    [formatCount(7103), '7,103'],
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

describe('prompt', () => {
  it('puts the question last, or first and last', () => {
    expect(documentTurn({ document: ' text\n', question: 'q?' })).toBe('text\n\nq?');
    expect(documentTurn({ document: 'text', question: 'q?', questionFirst: true })).toBe('q?\n\ntext\n\nq?');
  });

  it('finds the common beginning', () => {
    expect(commonPrefixLength(Int32Array.of(1, 2, 3), Int32Array.of(1, 2, 4, 5))).toBe(2);
    expect(commonPrefixLength(Int32Array.of(1, 2), Int32Array.of(1, 2, 3))).toBe(2);
  });
});

describe('a hidden fact', () => {
  it('hides the fact between two paragraphs, near the asked depth', () => {
    const text = ['one', 'two', 'three', 'four'].join('\n\n');
    const hidden = hideFact(text, 'FACT', 0.5);
    expect(hidden.text).toBe('one\n\ntwo\n\nFACT\n\nthree\n\nfour');
    expect(hidden.text.slice(hidden.at, hidden.at + 4)).toBe('FACT');
    expect(hideFact('only one', 'FACT', 0.5).text).toBe('only one\n\nFACT');
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

  it('recognises the number in an answer', () => {
    expect(namesNumber('It is 123,456.', 123456)).toBe(true);
    expect(namesNumber('It is 123457.', 123456)).toBe(false);
  });
});

describe('a contender of `fidelity`', () => {
  it('carries its own settings', () => {
    const { label, choice } = parseContender('ctkvr:numProbes=8:tail=false');
    expect(label).toBe('ctkvr:numProbes=8:tail=false');
    expect(choice).toEqual({ preset: 'balanced', denseBelow: 0, numProbes: 8, tail: false });
  });

  it.each([
    ['best', /"best" is none of full/],
    ['ctkvr:probes=8', /probes is not a selector option/],
    ['ctkvr:numProbes=0', /numProbes must be an integer from 1/],
    ['ctkvr:numProbes=', /numProbes must be an integer/],
    ['ctkvr:numProbes', /"numProbes" is not option=value/],
  ])('%s is refused', (text, message) => {
    expect(() => parseContender(text)).toThrow(message);
  });

  it('takes the common limit of values unless it has its own or reads by place', () => {
    const limit = (text: string) => withMaxSelected(parseContender(text), 256).choice.maxSelected;
    expect(['ctkvr', 'exactTopK', 'ctkvr:maxSelected=64', 'streaming', 'full'].map(limit)).toEqual([
      256,
      256,
      64,
      undefined,
      undefined,
    ]);
  });
});
