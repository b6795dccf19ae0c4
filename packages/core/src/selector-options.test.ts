import { describe, expect, it } from 'vitest';
import sizes from '../test/index-sizes.json' with { type: 'json' };
import { CtkvrError } from './errors.js';
import {
  centroidBounds,
  centroidCount,
  postingListLength,
  presetNames,
  resolveSelectorOptions,
  UNBOUNDED,
} from './selector-options.js';

describe('resolveSelectorOptions', () => {
  it('gives the documented defaults', () => {
    expect(resolveSelectorOptions()).toEqual({
      method: 'ctkvr',
      numSinkTokens: 16,
      recentWindow: 256,
      numCentroids: 0,
      centroids: 'last',
      centroidsPerList: 2,
      appendSize: 256,
      listLength: 0,
      numProbes: 4,
      maxSelected: 1024,
      topP: 1,
      tail: true,
      clusterSize: 32,
      clusterFormat: 'f16',
      clusterProbes: 16,
      retrievalHeadShare: 0.08,
      retrievalClusterShare: 1,
      repairShare: 0.015,
      denseBelow: 4096,
      massSampling: false,
      hashBits: 10,
      hashTables: 150,
      denseLayers: true,
    });
  });
  it('lets fields override the preset, and undefined override nothing', () => {
    const options = resolveSelectorOptions({
      preset: 'paper',
      numProbes: 3,
      maxSelected: undefined as unknown as number,
    });
    expect(options).toMatchObject({ numProbes: 3, maxSelected: 1024, tail: false, retrievalHeadShare: 0 });
  });
  it.each([
    [1, 512, 2, 8],
    [3, 512, 2, 8],
    [4, 640, 3, 12],
    [7, 1024, 4, 16],
    [16, 1024, 4, 16],
  ])('goes by the group: %i query heads, %i values, %i probes, %i clusters, unless told', (groupSize, ...counts) => {
    const [maxSelected, numProbes, clusterProbes] = counts;
    const ofGroup = { maxSelected, numProbes, clusterProbes };
    expect(resolveSelectorOptions({}, { groupSize })).toEqual({ ...resolveSelectorOptions(), ...ofGroup });
    expect(resolveSelectorOptions({ method: 'quest' }, { groupSize })).toMatchObject(ofGroup);
    const given = { maxSelected: 700, numProbes: 1, clusterProbes: 0 };
    expect(resolveSelectorOptions(given, { groupSize })).toMatchObject(given);
    for (const preset of ['paper', 'exact'] as const) {
      expect(resolveSelectorOptions({ preset }, { groupSize })).toEqual(resolveSelectorOptions({ preset }));
    }
  });
  it.each(sizes.postingListLength)(
    'a list length of $listLength over $numKeys keys for $groupSize heads keeps $kept',
    ({ listLength, numKeys, groupSize, kept }) => {
      expect(postingListLength({ listLength }, { numKeys, groupSize })).toBe(kept);
    },
  );
  it.each(sizes.centroidCount)(
    'numCentroids $numCentroids over $numKeys keys makes $count centroids',
    ({ numCentroids, numKeys, count, least, most }) => {
      expect(centroidCount({ numCentroids }, numKeys)).toBe(count);
      expect(centroidBounds({ numCentroids })).toEqual({ least, most });
      expect(least <= count && count <= most).toBe(true);
    },
  );
  it('exact probes every centroid and keeps every key', () => {
    const exact = resolveSelectorOptions({ preset: 'exact' });
    expect(exact.numProbes).toBeGreaterThanOrEqual(exact.numCentroids);
    expect(exact).toMatchObject({ listLength: UNBOUNDED, maxSelected: 0, tail: false, denseBelow: 0 });
  });
  it.each(presetNames)('preset %s passes its own checks', (preset) => {
    expect(resolveSelectorOptions(resolveSelectorOptions({ preset }))).toEqual(resolveSelectorOptions({ preset }));
  });
  it.each([
    ['recentWindow', 0],
    ['numProbes', 1.5],
    ['numCentroids', Number.NaN],
    ['listLength', 2 ** 31],
    ['maxSelected', -1],
    ['tail', 'yes'],
    ['clusterSize', 0],
    ['clusterFormat', 'q4'],
    ['clusterFormat', 8],
    ['clusterProbes', -1],
    ['massSampling', 1],
    ['topP', 0],
    ['topP', 1.01],
    ['topP', Number.NaN],
    ['topP', '0.9'],
    ['hashBits', 16],
    ['hashTables', 0],
    ['denseLayers', 2],
    ['retrievalHeadShare', 1.5],
    ['retrievalHeadShare', Number.NaN],
    ['retrievalClusterShare', -0.1],
    ['retrievalClusterShare', '0.5'],
    ['method', 'best'],
    ['centroids', 'first'],
    ['centroidsPerList', 0],
    ['appendSize', 0],
    ['preset', 'fast'],
    ['preset', 'toString'],
    ['numProbe', 4],
    ['selector', 'full'],
    ['exactShare', 0.1],
  ])('refuses %s = %s and names it', (option, value) => {
    try {
      resolveSelectorOptions({ [option]: value });
      expect.unreachable();
    } catch (error) {
      if (!CtkvrError.isInstance(error)) throw error;
      expect(error.code).toBe('CTKVR_INVALID_OPTION');
      expect(error.fields.option).toBe(option);
    }
  });
});
