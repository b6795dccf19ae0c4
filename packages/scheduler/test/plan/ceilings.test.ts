/** Ceilings and predictions of the project's design of the device path, section 5; speed-ups over dense of 1, 2, 4 and 8 sequences at 96K. */
import { describe, expect, it } from 'vitest';
import { modelShapes, plan } from '../../src/index.js';
import { cardOf, options } from './examples.js';

const sequences = [1, 2, 4, 8];

describe('ceilings, within 1 %', () => {
  it.each([
    ['llama-3-8b', 'f16', 'paper', [1.85, 2.69, 4.35, 7.57]],
    ['llama-3-8b', 'f16', 'widest', [1.72, 2.34, 3.35, 4.77]],
    ['llama-3-8b', 'q4_k_m', 'paper', [3.77, 6.45, 11.6, 20.9]],
    ['llama-3-8b', 'q4_k_m', 'widest', [3.02, 4.34, 5.94, 7.51]],
    ['yi-9b', 'f16', 'widest', [1.48, 1.92, 2.68, 3.86]],
  ] as const)('%s, weights %s, reads %s', (name, weights, reads, expected) => {
    const found = sequences.map((count) => {
      return plan(options({ model: modelShapes[name], weights, reads, sequences: count })).ceiling.speedUp;
    });
    found.forEach((speedUp, i) => {
      expect(Math.abs(speedUp / expected[i]! - 1)).toBeLessThan(0.01);
    });
  });
});

describe('predicted times, within 3 %', () => {
  it('H200, Q4_K_M: dense over resident', () => {
    [2.1, 3.0, 4.3, 5.6].forEach((expected, i) => {
      const found = plan(options({ devices: [cardOf('H200')], weights: 'q4_k_m', sequences: sequences[i]! }));
      expect(found.placement.layers.device).toBe(32);
      expect(Math.abs(found.speedUp / expected - 1)).toBeLessThan(0.03);
    });
  });

  it('RTX 4090, Q4_K_M, one sequence: 21.1 ms dense, 7.7 resident', () => {
    const desktop = { memoryBytes: 64e9, gigabytesPerSecond: 70, cores: 16 };
    const { dense, time } = plan(options({ devices: [cardOf('RTX 4090')], host: desktop, weights: 'q4_k_m' }));
    expect(Math.abs(dense.totalMs / 21.1 - 1)).toBeLessThan(0.03);
    expect(Math.abs(time.totalMs / 7.7 - 1)).toBeLessThan(0.03);
  });

  it("a maker's 80 GB and 3,350 GB/s give the times of the H100's own line", () => {
    for (const weights of ['f16', 'q4_k_m'] as const) {
      for (const count of sequences) {
        const [given, known] = [{ name: '80', memoryBytes: 80e9, gigabytesPerSecond: 3350 }, cardOf('H100 80GB')].map(
          (device) => plan(options({ devices: [device], weights, sequences: count })),
        );
        expect(given!.placement.layers.device).toBe(known!.placement.layers.device);
        expect(Math.abs(given!.time.totalMs / known!.time.totalMs - 1)).toBeLessThan(0.01);
      }
    }
  });

  it('a calibrated bandwidth takes the place of the share that is assumed', () => {
    const [assumed, measured] = [{}, { deviceGigabytesPerSecond: 3350 }].map((calibration) =>
      plan(options({ calibration })),
    );
    expect(assumed!.ceiling.stepMs / measured!.ceiling.stepMs).toBeCloseTo(1 / 0.87, 9);
    expect(measured!.ceiling.stepMs).toBeCloseTo((15e9 + 1.2223e9) / 3350e6, 3);
  });
});
