import { describe, expect, it } from 'vitest';
import { dynamicNtkFactor, ropeFrequencies } from './rope-frequencies.js';
import { type RopeScaling, yarnAttentionFactor } from './rope-scaling.js';

function frequencies(scaling: RopeScaling, rotaryDim = 64, freqBase = 10_000): number[] {
  return Array.from(ropeFrequencies({ rotaryDim, freqBase, scaling }).frequencies);
}

const plain = frequencies({ type: 'none' });

describe('ropeFrequencies', () => {
  it('none: base^(-2i/d)', () => {
    expect(frequencies({ type: 'none' }, 4, 10_000)).toEqual([1, 0.01]);
    expect(plain).toHaveLength(32);
    expect(plain[31]).toBeCloseTo(10_000 ** (-62 / 64), 12);
  });
  it('linear: all divided by the factor', () => {
    expect(frequencies({ type: 'linear', factor: 4 })).toEqual(plain.map((f) => f / 4));
  });
  it('ntk: the fastest stays, the slowest is divided by the factor', () => {
    const scaled = frequencies({ type: 'ntk', factor: 8 });
    expect(scaled[0]).toBe(1);
    expect(scaled[31]).toBeCloseTo(plain[31]! / 8, 12);
    scaled.forEach((f, i) => {
      expect(f).toBeLessThanOrEqual(plain[i]!);
    });
  });
  it('dynamic ntk: factor 1 up to the original context, then growing with the length', () => {
    const at = (numTokens: number) => dynamicNtkFactor({ factor: 2, originalContext: 1000, numTokens });
    expect([at(10), at(1000), at(2000)]).toEqual([1, 1, 3]);
  });
  it('llama3: short wavelengths kept, long ones scaled, a blend between', () => {
    const scaling = { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 8192 } as const;
    const base = frequencies({ type: 'none' }, 128, 500_000);
    const scaled = frequencies(scaling, 128, 500_000);
    const kinds = scaled.map((f, i) => {
      const wavelength = (2 * Math.PI) / base[i]!;
      // The rule as the Llama 3.1 release states it, by wavelength.
      if (wavelength < 8192 / 4) expect(f).toBe(base[i]);
      else if (wavelength > 8192 / 1) expect(f).toBeCloseTo(base[i]! / 8, 14);
      else {
        const smooth = (8192 / wavelength - 1) / (4 - 1);
        expect(f).toBeCloseTo(((1 - smooth) * base[i]!) / 8 + smooth * base[i]!, 14);
        return 'blend';
      }
      return f === base[i] ? 'kept' : 'scaled';
    });
    expect(new Set(kinds)).toEqual(new Set(['kept', 'blend', 'scaled']));
  });
  it('yarn: frequencies of many rotations kept, of few scaled, and longer vectors', () => {
    const scaling = { type: 'yarn', factor: 4, originalContext: 32_768 } as const;
    const { frequencies: scaled, magnitude } = ropeFrequencies({ rotaryDim: 128, freqBase: 1_000_000, scaling });
    const base = frequencies({ type: 'none' }, 128, 1_000_000);
    expect(magnitude).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
    base.forEach((f, i) => {
      const rotations = (32_768 * f) / (2 * Math.PI);
      if (rotations > 40) expect(scaled[i]).toBe(f);
      if (rotations < 0.8) expect(scaled[i]).toBeCloseTo(f / 4, 14);
      expect(scaled[i]! / f).toBeLessThanOrEqual(1);
      expect(scaled[i]! / f).toBeGreaterThanOrEqual(0.25 - 1e-12);
      // The paper's ramp is linear in the index between the two corner dimensions: 23 and 39.2 here, rounded outwards to 23 and 40.
      if (i > 23 && i < 40) expect(scaled[i]! / f).toBeCloseTo(1 - 0.75 * ((i - 23) / (40 - 23)), 12);
    });
  });
  it('yarn without truncation ramps between the corners as they are', () => {
    const scaling = { type: 'yarn', factor: 4, originalContext: 32_768, truncate: false } as const;
    const scaled = frequencies(scaling, 128, 1_000_000);
    const corner = (rotations: number) => (64 * Math.log(32_768 / (2 * Math.PI * rotations))) / Math.log(1_000_000);
    const share = (30 - corner(32)) / (corner(1) - corner(32));
    expect(scaled[30]! / 1_000_000 ** (-60 / 128)).toBeCloseTo(1 - 0.75 * share, 12);
  });
  it('the attention factor of yarn: 0.1 ln(factor) + 1, or a ratio of two', () => {
    expect(yarnAttentionFactor({ factor: 1 })).toBe(1);
    expect(yarnAttentionFactor({ factor: 4 })).toBeCloseTo(0.1 * Math.log(4) + 1, 15);
    expect(yarnAttentionFactor({ factor: 40, mscale: 0.8, mscaleAllDim: 0.8 })).toBe(1);
    const refused = expect.objectContaining({ code: 'CTKVR_INVALID_OPTION' });
    expect(() => yarnAttentionFactor({ factor: 0 })).toThrow(refused);
  });
  it('a factor of 1, for dynamic ntk a short sequence, is no scaling', () => {
    const kinds: RopeScaling[] = [
      { type: 'dynamicNtk', factor: 8, originalContext: 8192, numTokens: 8192 },
      { type: 'linear', factor: 1 },
      { type: 'ntk', factor: 1 },
      { type: 'llama3', factor: 1, originalContext: 8192 },
      { type: 'yarn', factor: 1, originalContext: 8192 },
    ];
    for (const scaling of kinds) {
      frequencies(scaling).forEach((f, i) => {
        expect(f).toBeCloseTo(plain[i]!, 14);
      });
    }
  });
  it.each([
    ['an odd dimension', () => frequencies({ type: 'none' }, 7)],
    ['a factor below 1', () => frequencies({ type: 'linear', factor: 0.5 })],
    ['NaN', () => frequencies({ type: 'yarn', factor: 2, originalContext: Number.NaN })],
    ['an unknown type', () => frequencies({ type: 'longrope', factor: 2 } as never)],
    ['a base of 0', () => frequencies({ type: 'none' }, 8, 0)],
    [
      'llama3 bounds in the wrong order',
      () => frequencies({ type: 'llama3', factor: 2, lowFreqFactor: 4, highFreqFactor: 1, originalContext: 10 }),
    ],
  ])('%s is refused', (_name, run) => {
    expect(run).toThrow(expect.objectContaining({ code: 'CTKVR_INVALID_OPTION' }));
  });
});
