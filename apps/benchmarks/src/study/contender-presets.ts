/** Lists of contenders that are compared again and again, by name. Only selectors that exist are in them. */
import { contenderNames } from '@ctkvr/evaluation';

const valuesSelected = [256, 512, 1024];

/** Selectors that choose by score: each at several numbers of values. */
const choosing = ['exactTopK', 'ctkvr', 'ctkvr-paper', 'quest', 'keyClusters', 'snapkv'];
/** Selectors that keep a fixed set: each at as many positions as the others select values, beside a window of the usual length. */
const keeping = valuesSelected.map((count) => `streaming:recentWindow=${256 + count}`);

const settings: Record<string, readonly (string | number | boolean)[]> = {
  numCentroids: [128, 256, 512],
  listLength: [256, 512, 1024, 2048],
  numProbes: [1, 2, 8, 16],
  maxSelected: [256, 512, 2048, 0],
  centroidsPerList: [2, 4],
  retrievalHeadShare: [0, 0.04, 0.16],
  retrievalClusterShare: [0.125, 0.25, 0.5],
  tail: [false],
  clusterSize: [16, 64],
  clusterFormat: ['f16', 'q8'],
  clusterProbes: [0, 8, 32],
};

const presets = {
  selectors: [
    ...choosing.flatMap((name) => valuesSelected.map((count) => `${name}:maxSelected=${count}`)),
    ...keeping,
    // Its sample is as large as its hashes make it.
    'magicpig',
  ],
  /** One setting of ctkvr changed at a time. */
  'ctkvr-settings': [
    'ctkvr',
    ...Object.entries(settings).flatMap(([option, values]) => values.map((value) => `ctkvr:${option}=${value}`)),
  ],
} as const satisfies Record<string, readonly string[]>;

export type ContenderPreset = keyof typeof presets;

export const contenderPresets = Object.keys(presets) as readonly ContenderPreset[];

/** Returns the contenders of a list, as `parseContender` takes them. */
export function contendersOf(preset: ContenderPreset): readonly string[] {
  const known: readonly string[] = contenderNames;
  return presets[preset].filter((label) => known.includes(label.split(':')[0]!));
}
