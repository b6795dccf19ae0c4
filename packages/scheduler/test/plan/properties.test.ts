/** What must hold of every plan, on random models and machines. Replay a failure with CTKVR_TEST_SEED=<the seed it names>. */
import { CtkvrError, kvFormats } from '@ctkvr/core';
import { createRandom, propertyParameters, type Random } from '@ctkvr/testkit';
import { expect, it } from 'vitest';
import { type Plan, type PlanOptions, plan, planCards, readSettings, weightFormats } from '../../src/index.js';
import { placedMemory } from '../../src/plan/placed-memory.js';
import { enumeratePlacements } from '../../src/plan/placement.js';
import { workInput } from '../../src/plan/plan.js';
import { totalBytes } from '../../src/plan/read-bytes.js';
import { stepWork, timePlacement } from '../../src/plan/time-placement.js';

const { seed, numRuns } = propertyParameters(150);
/** Of rounding in sums. */
const EPSILON = 1e-9;

function property(name: string, holds: (options: PlanOptions, random: Random) => void): void {
  it(name, () => {
    for (let run = 0; run < numRuns; run++) {
      const random = createRandom(seed + run);
      const options = draw(random);
      try {
        holds(options, random);
      } catch (error) {
        throw new Error(`CTKVR_TEST_SEED=${seed}, run ${run}, ${JSON.stringify(options)}`, { cause: error });
      }
    }
  });
}

/** Budgets from far too small to more than enough. */
function draw(random: Random): PlanOptions {
  const pick = <T>(values: readonly T[]): T => values[random.integer(0, values.length - 1)]!;
  const numKvHeads = pick([1, 2, 4, 8]);
  const model = {
    name: 'drawn',
    numLayers: random.integer(1, 10),
    numKvHeads,
    numQueryHeads: numKvHeads * pick([1, 3, 4, 8]),
    headDim: pick([64, 96, 128]),
    numParameters: 10 ** (7 + 3 * random.uniform()),
  };
  const bytes = () => 1.5e9 + 10 ** (8 + 3 * random.uniform());
  return {
    model,
    context: random.integer(4096, 120_000),
    sequences: random.integer(1, 9),
    weights: pick(weightFormats),
    kvFormat: pick(kvFormats),
    reads: pick(readSettings),
    devices: [{ name: 'card', memoryBytes: bytes(), gigabytesPerSecond: 100 + 4000 * random.uniform() }],
    host: { memoryBytes: bytes(), gigabytesPerSecond: 20 + 400 * random.uniform(), cores: random.integer(1, 64) },
    calibration: { hopMicroseconds: 100 * random.uniform() },
  };
}

/** null when nothing fits. */
function planOrNull(options: PlanOptions): Plan | null {
  try {
    return plan(options);
  } catch (error) {
    if (CtkvrError.isInstance(error) && error.code === 'CTKVR_OUT_OF_MEMORY') return null;
    throw error;
  }
}

property('the chosen placement fits, and none that fits is faster', (options) => {
  const device = options.devices[0]!;
  const input = workInput(device, options);
  const work = stepWork(options.sequences, input);
  const chosen = planOrNull(options);
  let numFitting = 0;
  for (const placement of enumeratePlacements(options.model.numLayers, options.sequences)) {
    const memory = placedMemory({ ...input, placement, numSequences: options.sequences });
    if (totalBytes(memory.device) > device.memoryBytes || totalBytes(memory.host) > options.host.memoryBytes) continue;
    numFitting++;
    expect(chosen).not.toBeNull();
    const { totalMs } = timePlacement(placement, work);
    expect(chosen!.time.totalMs).toBeLessThanOrEqual(totalMs + EPSILON);
  }
  expect(chosen === null).toBe(numFitting === 0);
  if (chosen === null) return;
  expect(totalBytes(chosen.memory.device)).toBeLessThanOrEqual(device.memoryBytes);
  expect(totalBytes(chosen.memory.host)).toBeLessThanOrEqual(options.host.memoryBytes);
});

property('more bandwidth, cores or memory never make it slower', (options, random) => {
  const before = planOrNull(options);
  const more = (value: number) => value * (1 + random.uniform());
  const device = options.devices[0]!;
  const { host } = options;
  const better: Partial<PlanOptions>[] = [
    { devices: [{ ...device, gigabytesPerSecond: more(device.gigabytesPerSecond) }] },
    { devices: [{ ...device, memoryBytes: more(device.memoryBytes) }] },
    { host: { ...host, gigabytesPerSecond: more(host.gigabytesPerSecond) } },
    { host: { ...host, cores: host.cores! + 1 } },
    { host: { ...host, memoryBytes: more(host.memoryBytes) } },
    { calibration: { hopMicroseconds: options.calibration!.hopMicroseconds! * random.uniform() } },
  ];
  for (const change of better) {
    const after = planOrNull({ ...options, ...change });
    if (before !== null) expect(after!.time.totalMs).toBeLessThanOrEqual(before.time.totalMs + EPSILON);
  }
});

property('more sequences or tokens never take less memory, and where they fit fewer do too', (options, random) => {
  const larger = [
    { ...options, sequences: options.sequences + random.integer(1, 4) },
    { ...options, context: options.context + random.integer(1, 50_000) },
  ];
  const before = planCards(options).needs;
  for (const more of larger) {
    planCards(more).needs.forEach(({ deviceBytes, hostBytes }, i) => {
      expect(deviceBytes).toBeGreaterThanOrEqual(before[i]!.deviceBytes - EPSILON);
      expect(hostBytes).toBeGreaterThanOrEqual(before[i]!.hostBytes - EPSILON);
    });
    if (planOrNull(more) !== null) expect(planOrNull(options)).not.toBeNull();
  }
});

property('no step is faster than its bytes, and its parts fill it', (options) => {
  const found = planOrNull(options);
  if (found === null) return;
  const { time, ceiling, placement, bottleneck, dense, speedUp } = found;
  // Some of the bytes may be the CPU's.
  if (placement.layers.device === options.model.numLayers) expect(time.totalMs).toBeGreaterThan(ceiling.stepMs);
  const sum = (work: object) => Object.values(work).reduce((all: number, ms: number) => all + ms, 0);
  const busy = sum(time.device) + sum(time.host) + time.hopMs;
  expect(sum(time.device)).toBeLessThanOrEqual(time.totalMs + EPSILON);
  if (placement.microBatches === 1) expect(busy).toBeCloseTo(time.totalMs, 6);
  expect(bottleneck.ms).toBeLessThanOrEqual(time.totalMs + EPSILON);
  expect(speedUp).toBeCloseTo(dense.totalMs / time.totalMs, 9);
});
