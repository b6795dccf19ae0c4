/**
 * What every index promises as its tokens go on: chunks make no difference, a cut leaves what never having appended would, forks do not
 * see each other, an image comes back bit for bit. Part of `describeCentroidIndex`.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import { buildCase, type CentroidIndexMaker, type CentroidIndexSubject, live } from './centroid-index-subject.js';
import { type GrowthCase, growthCases } from './conformance-data.js';
import { expectCode } from './expectations.js';
import { type HeadData, integerHeadData } from './head-data.js';
import { type GrowthEvent, type GrowthHistory, prefixOf } from './naive-growth.js';
import { propertyParameters } from './property-seed.js';

type NamedTest = (name: string, run: () => Promise<void> | void) => void;

/** Declares the tests with `test`. */
export function describeIndexGrowth(make: CentroidIndexMaker, test: NamedTest): void {
  const build = (of: GrowthCase) => buildCase(make, of);
  const [typical, secondTurn] = growthCases() as [GrowthCase, GrowthCase];

  test('how appends are cut changes nothing', async () => {
    await fc.assert(
      fc.asyncProperty(histories, fc.integer({ min: 1, max: 30 }), async (events, piece) => {
        const whole = await build(historyCase(events));
        const cut = await buildCase(make, { ...historyCase([]), history: { builtAt, events: [] } });
        for (const event of events) await live(cut, historyCase(events).data, event, piece);
        expectSameBytes(await cut.save(), await whole.save());
      }),
      propertyParameters(12),
    );
  });

  test('a cut leaves what never having appended would, and goes on alike', async () => {
    await fc.assert(
      fc.asyncProperty(histories, fc.double({ min: 0, max: 1, noNaN: true }), async (events, at) => {
        const total = events.reduce((sum, event) => sum + (event.kind === 'append' ? event.count : 0), 0);
        const length = builtAt + Math.floor(at * total);
        const cut = await build(historyCase(events));
        cut.truncate(length);
        expect(cut.numTokens).toBe(length);
        // What is not remembered any more leaves no index rather than another one.
        if (cut.segments.length === 0) return;
        const kept = await build(historyCase(eventsUntil(events, length)));
        expect(visible(cut)).toEqual(visible(kept));
        for (const index of [cut, kept]) {
          await live(index, other, { kind: 'append', count: 25, phase: 'decode' });
          await live(index, other, { kind: 'append', count: 5, phase: 'prefill' });
          await index.extend();
        }
        expect(visible(cut)).toEqual(visible(kept));
      }),
      propertyParameters(12),
    );
  });

  test('a cut right after the build leaves what the build made', async () => {
    const index = await build({ ...typical, history: { ...typical.history, events: [] } });
    const image = await index.save();
    for (const event of typical.history.events) await live(index, typical.data, event);
    expect((await index.save()).length).toBeGreaterThan(image.length);
    index.truncate(typical.history.builtAt);
    expectSameBytes(await index.save(), image);
  });

  test('forks do not see each other', async () => {
    const index = await build(secondTurn);
    const [image, seen] = [await index.save(), visible(index)];
    const fork = index.fork();
    expect(visible(fork)).toEqual(seen);
    await live(fork, other, { kind: 'append', count: 33, phase: 'decode' });
    await fork.insert(other.decodes.slice(0, 32));
    expectSameBytes(await index.save(), image);
    const continued = index.fork();
    for (const one of [index, continued]) await live(one, secondTurn.data, { kind: 'extend' });
    fork.truncate(secondTurn.history.builtAt);
    fork.close();
    expect(visible(index)).toEqual(visible(continued));
  });

  for (const growth of growthCases()) {
    test(`${growth.name}: an image comes back bit for bit and goes on alike`, async () => {
      const index = await build(growth);
      const image = await index.save();
      expect(image.length % 64).toBe(0);
      const { keys, values } = prefixOf(growth.data, index.numTokens);
      const loaded = await make.load({ image, keys, values });
      expectSameBytes(await loaded.save(), image);
      expect(visible(loaded)).toEqual(visible(index));
      for (const one of [index, loaded]) {
        await live(one, other, { kind: 'append', count: 0, phase: 'decode' });
        await one.insert(growth.data.decodes.slice(0, 32));
        await one.extend();
      }
      expectSameBytes(await loaded.save(), await index.save());
    });
  }

  test('a damaged image is refused with CTKVR_BAD_INDEX_IMAGE', async () => {
    const index = await build(typical);
    const image = await index.save();
    const { keys, values } = prefixOf(typical.data, index.numTokens);
    const load = (bytes: Uint8Array) => make.load({ image: bytes, keys, values });
    await fc.assert(
      fc.asyncProperty(fc.nat(image.length - 1), fc.integer({ min: 0, max: 7 }), async (at, bit) => {
        const damaged = image.slice();
        damaged[at]! ^= 1 << bit;
        await expectCode('CTKVR_BAD_INDEX_IMAGE', () => load(damaged));
      }),
      propertyParameters(60),
    );
    for (let at = 0; at < 128; at++) {
      const damaged = image.slice();
      damaged[at]! ^= 4;
      await expectCode('CTKVR_BAD_INDEX_IMAGE', () => load(damaged));
    }
    for (const length of [0, 7, 127, 128, image.length - 64, image.length - 1]) {
      await expectCode('CTKVR_BAD_INDEX_IMAGE', () => load(image.slice(0, length)));
    }
    await expectCode('CTKVR_BAD_INDEX_IMAGE', () => load(Uint8Array.of(...image, ...new Uint8Array(64))));
    for (const version of [2, 4]) {
      const other = image.slice();
      other[8] = version;
      const fields = { field: 'version', expected: '3', actual: String(version) };
      await expect(load(other)).rejects.toMatchObject({ code: 'CTKVR_BAD_INDEX_IMAGE', fields });
    }
    const foreign = new TextEncoder().encode('GGUF'.padEnd(256));
    await expect(load(foreign)).rejects.toMatchObject({ fields: { field: 'magic', expected: 'CTKVRIDX' } });
    const fewer = prefixOf(typical.data, index.numTokens - 1);
    const short = { keys: fewer.keys, values: fewer.values, image };
    await expectCode('CTKVR_SHAPE_MISMATCH', () => make.load(short));
  });

  test('an inserted query finds itself', async () => {
    const index = await build(typical);
    const query = typical.data.decodes.slice(32, 64);
    const before = index.numCentroids;
    await index.insert(query);
    expect(index.numCentroids).toBe(before + 1);
    const centroids = new Uint32Array(index.numProbed);
    const similarities = new Float32Array(index.numProbed);
    index.probe({ query, centroids, similarities });
    expect(centroids[0]).toBe(before);
    expect(similarities[0]!).toBeGreaterThan(0.99);
  });

  test('old segments are dropped, and a cut beyond them leaves no index until the next turn', async () => {
    const dropped = growthCases().find(({ name }) => name === 'old segments dropped')!;
    const { data, history } = dropped;
    const index = await build(dropped);
    expect(index.numCentroids).toBeLessThanOrEqual(15);
    index.truncate(history.builtAt + 30);
    expect(index.segments).toEqual([]);
    expect([index.numCentroids, index.numProbed, index.region.end]).toEqual([0, 0, index.region.start]);
    expect(
      index.probe({
        query: data.decodes.slice(0, 32),
        centroids: new Uint32Array(0),
        similarities: new Float32Array(0),
      }),
    ).toBe(0);
    await expectCode('CTKVR_INVALID_OPTION', () => index.insert(data.decodes.slice(0, 32)));
    await live(index, data, { kind: 'append', count: 40, phase: 'decode' });
    expect(index.segments).toEqual([]);
    await index.extend();
    expect(index.segments).toEqual([{ end: 160 - 16, madeAt: 160, numCentroids: 10 }]);
  });

  test('appends are checked, and a refused one changes nothing', async () => {
    const index = await build(typical);
    const image = await index.save();
    const row = (length: number) => new Float32Array(length).fill(1);
    const good = { keys: row(32), values: row(32), queries: row(64), phase: 'decode' as const };
    const append = (changed: object) => () => index.append({ ...good, ...changed });
    await expectCode('CTKVR_SHAPE_MISMATCH', append({ keys: row(31) }));
    await expectCode('CTKVR_SHAPE_MISMATCH', append({ values: row(16) }));
    await expectCode('CTKVR_SHAPE_MISMATCH', append({ queries: row(32) }));
    for (const what of ['keys', 'values', 'queries']) {
      const length = what === 'queries' ? 64 : 32;
      await expectCode('CTKVR_NON_FINITE', append({ [what]: row(length).fill(Number.NaN, 5, 6) }));
    }
    await expectCode('CTKVR_INVALID_OPTION', append({ phase: 'both' }));
    await expectCode('CTKVR_SHAPE_MISMATCH', () => index.insert(row(31)));
    await expectCode('CTKVR_INVALID_OPTION', async () => index.truncate(index.numTokens + 1));
    await expectCode('CTKVR_INVALID_OPTION', async () => index.truncate(0.5));
    expectSameBytes(await index.save(), image);
  });

  test('it can be closed while it changes', async () => {
    const index = await build(typical);
    const appending = live(index, other, { kind: 'append', count: 200, phase: 'decode' });
    index.close();
    // Whether that change still ends or is refused is an implementation's own.
    await Promise.allSettled([appending]);
    await expectCode('CTKVR_CLOSED', async () => index.list(0));
  });

  test('while it changes, other calls are CTKVR_BUSY', async () => {
    const index = await build(typical);
    const appending = live(index, other, { kind: 'append', count: 200, phase: 'decode' });
    const refused = [
      expectCode('CTKVR_BUSY', () => index.extend()),
      expectCode('CTKVR_BUSY', async () => index.list(0)),
      expectCode('CTKVR_BUSY', async () => index.truncate(1)),
    ];
    await Promise.all([appending, ...refused]);
    expect(index.numTokens).toBe(165 + 200);
  });
}

const builtAt = 70;
const sizes = { headDim: 16, groupSize: 2, numDecodes: 4 };
const other = integerHeadData({ ...sizes, seed: 42, numTokens: 500, numCentroids: 500 });

const count = fc.integer({ min: 1, max: 40 });
/** What may happen to an index, in any order. */
const histories = fc.array(
  fc.oneof(
    count.map((n): GrowthEvent => ({ kind: 'append', count: n, phase: 'decode' })),
    count.map((n): GrowthEvent => ({ kind: 'append', count: n, phase: 'prefill' })),
    fc.constant<GrowthEvent>({ kind: 'extend' }),
    fc.integer({ min: 0, max: 3 }).map((decode): GrowthEvent => ({ kind: 'insert', decode })),
  ),
  { minLength: 1, maxLength: 6 },
);

function historyCase(events: GrowthHistory['events']): GrowthCase {
  const data = integerHeadData({ ...sizes, seed: 41, numTokens: 400, numCentroids: 400 });
  const [{ options }] = growthCases() as [GrowthCase];
  return {
    name: '',
    data,
    options: { ...options, numCentroids: 16, centroidsPerList: 2 },
    history: { builtAt, events },
  };
}

/** The events that happen before more than `length` tokens are stored, the last one cut short. */
function eventsUntil(events: readonly GrowthEvent[], length: number): GrowthEvent[] {
  const happened: GrowthEvent[] = [];
  let left = length - builtAt;
  for (const event of events) {
    if (event.kind !== 'append') {
      happened.push(event);
      continue;
    }
    happened.push({ ...event, count: Math.min(event.count, left) });
    if (event.count > left) break;
    left -= event.count;
  }
  return happened;
}

/** Expects equal bytes; names the first that differs. */
function expectSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length);
  expect(actual.findIndex((byte, i) => byte !== expected[i])).toBe(-1);
}

/** Everything a user can see of an index, numbers exactly. */
function visible(index: CentroidIndexSubject) {
  const decodes: HeadData = other;
  return {
    sizes: { numTokens: index.numTokens, region: index.region, segments: index.segments },
    lists: Array.from({ length: index.numCentroids }, (_, c) => index.list(c)),
    tail: index.tail(),
    probes: [0, 1, 2, 3].map((i) => {
      const query = decodes.decodes.slice(i * 32, (i + 1) * 32);
      const centroids = new Uint32Array(index.numProbed);
      const similarities = new Float32Array(index.numProbed);
      return { count: index.probe({ query, centroids, similarities }), centroids, similarities };
    }),
  };
}
