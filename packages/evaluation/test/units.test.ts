import { describe, expect, it } from 'vitest';
import { numCentroidsOf, parseContender, withMaxSelected } from '../src/contender.js';
import { klByStep } from '../src/kl-by-step.js';
import { argmax, klDivergence } from '../src/kl-divergence.js';
import { median } from '../src/median.js';

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

describe('the KL by step', () => {
  it('has the means of both ends, and a curve over all steps', () => {
    const kls = Float64Array.from({ length: 2000 }, (_, step) => (step < 200 ? 1 : step < 1800 ? 2 : 3));
    const { endSteps, first, last, series } = klByStep(kls);
    expect({ endSteps, first, last }).toEqual({ endSteps: 200, first: 1, last: 3 });
    expect(series).toHaveLength(100);
    expect([series[0], series[10], series[99]]).toEqual([
      { step: 0, meanKl: 1 },
      { step: 200, meanKl: 2 },
      { step: 1980, meanKl: 3 },
    ]);
  });

  it('halves a short generation, and counts each step once', () => {
    expect(klByStep([1, 2, 3, 4])).toMatchObject({ endSteps: 2, first: 1.5, last: 3.5 });
    expect(klByStep([7])).toEqual({ endSteps: 1, first: 7, last: 7, series: [{ step: 0, meanKl: 7 }] });
    const uneven = klByStep(Float64Array.from({ length: 250 }, (_, step) => step)).series;
    expect(uneven.map(({ step }) => step)).toEqual(Array.from({ length: 100 }, (_, point) => Math.floor(point * 2.5)));
    expect(uneven[0]!.meanKl).toBe(0.5);
    expect(uneven[1]!.meanKl).toBe(3);
  });
});

describe('a contender', () => {
  it('carries its own settings', () => {
    const { label, choice } = parseContender('ctkvr:numProbes=8:tail=false');
    expect(label).toBe('ctkvr:numProbes=8:tail=false');
    expect(choice).toEqual({ method: 'ctkvr', denseBelow: 0, numProbes: 8, tail: false });
  });

  it.each([
    ['best', /"best" is none of full/],
    ['ctkvr:probes=8', /there is no option probes; did you mean numProbes/],
    ['ctkvr:numProbes=0', /numProbes must be an integer from 1/],
    ['ctkvr:numProbes=', /numProbes must be an integer/],
    ['ctkvr:numProbes', /"numProbes" is not option=value/],
  ])('%s is refused', (text, message) => {
    expect(() => parseContender(text)).toThrow(message);
  });

  it('takes the common limit of values unless it has its own or reads by place', () => {
    const limit = (text: string) => withMaxSelected(parseContender(text), 256).choice.maxSelected;
    const limited = ['ctkvr', 'exactTopK', 'snapkv', 'quest', 'keyClusters', 'ctkvr:maxSelected=64'];
    expect(limited.map(limit)).toEqual([256, 256, 256, 256, 256, 64]);
    expect(['streaming', 'full', 'magicpig'].map(limit)).toEqual([undefined, undefined, undefined]);
  });

  it('says for how many centroids a common state must hold queries', () => {
    expect(numCentroidsOf(['ctkvr:numCentroids=900', 'ctkvr-paper'].map(parseContender))).toBe(900);
    expect(numCentroidsOf(['full', 'ctkvr'].map(parseContender)), 'where the length says how many').toBe(384);
  });
});
