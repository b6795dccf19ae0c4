/** The simulation against the closed forms: serial g + c + 2 hop; two micro-batches max(2g, 2c, g + c + 2 hop), of g and c of one of them. */
import { describe, expect, it } from 'vitest';
import type { LayerWork } from '../../src/plan/layer-work.js';
import { simulateStep, type TimelineEvent } from '../../src/plan/simulate-step.js';

const layer = (deviceMs: number, hostMs: number): LayerWork => ({
  ...{ device: { weights: deviceMs }, deviceMs, host: { candidates: hostMs }, hostMs },
});
const step = (numLayers: number, microBatches: readonly LayerWork[], hop: number) =>
  simulateStep(
    Array.from({ length: numLayers }, () => microBatches),
    hop,
  );

const cases = [
  ['the device is busiest', 5, 2, 0.1],
  ['the CPU is busiest', 2, 5, 0.1],
  ['hops are longest', 1, 1, 3],
  ['all are equal', 2, 2, 1],
  ['no hop takes time', 3, 3, 0],
] as const;

describe.each(cases)('%s: device %d ms, CPU %d ms, hop %d ms a layer', (_, g, c, hop) => {
  it('one micro-batch', () => {
    for (const numLayers of [1, 2, 32]) {
      expect(step(numLayers, [layer(g, c)], hop)).toBeCloseTo(numLayers * (g + c + 2 * hop), 9);
    }
  });

  it('two micro-batches, each further layer', () => {
    const halves = [layer(g, c), layer(g, c)];
    const perLayer = (step(128, halves, hop) - step(64, halves, hop)) / 64;
    expect(perLayer).toBeCloseTo(Math.max(2 * g, 2 * c, g + c + 2 * hop), 9);
    // The first layer and the last have nothing beside them.
    const ends = step(64, halves, hop) - 64 * perLayer;
    expect(ends).toBeGreaterThanOrEqual(-1e-9);
    expect(ends).toBeLessThanOrEqual(g + c + 1e-9);
  });
});

it('layers on the device have neither hops nor work of the CPU', () => {
  const onDevice: LayerWork = { device: { weights: 2 }, deviceMs: 2, host: null, hostMs: 0 };
  const events: TimelineEvent[] = [];
  expect(simulateStep([[onDevice], [onDevice], [layer(3, 4)]], 0.5, (event) => events.push(event))).toBe(4 + 3 + 1 + 4);
  expect(events.map(({ resource, layer: at, startMs, endMs }) => [resource, at, startMs, endMs])).toEqual([
    ['device', 0, 0, 2],
    ['device', 1, 2, 4],
    ['device', 2, 4, 7],
    ['toHost', 2, 7, 7.5],
    ['host', 2, 7.5, 11.5],
    ['toDevice', 2, 11.5, 12],
  ]);
});

it('neither device nor CPU does two things at once', () => {
  const events: TimelineEvent[] = [];
  simulateStep(
    Array.from({ length: 5 }, () => [layer(2, 3), layer(1, 4)]),
    0.25,
    (event) => events.push(event),
  );
  for (const resource of ['device', 'host']) {
    const own = events.filter((event) => event.resource === resource);
    expect(own).toHaveLength(10);
    own.slice(1).forEach(({ startMs }, i) => {
      expect(startMs).toBeGreaterThanOrEqual(own[i]!.endMs);
    });
  }
});
