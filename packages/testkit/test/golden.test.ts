import { readFile, writeFile } from 'node:fs/promises';
import type { SelectorOptions } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';
import { type GoldenFile, generateGolden } from '../golden/core-small/generate.js';
import { f16Value } from '../src/f16.js';
import { groupsOf } from '../src/naive.js';
import { naiveTail } from '../src/naive-clusters.js';
import { naiveGrowth } from '../src/naive-growth.js';
import { firstLayout, naiveHead } from '../src/naive-head.js';

const file = new URL('../golden/core-small/golden.json', import.meta.url);

/** One case a line: small, and a diff shows which case changed. */
function serialise({ formatVersion, cases }: GoldenFile): string {
  const lines = cases.map((golden) => JSON.stringify(golden)).join(',\n');
  return `{"formatVersion":${formatVersion},"cases":[\n${lines}\n]}\n`;
}

describe('golden/core-small', () => {
  it('is what the reference gives today, byte for byte, and under 400 KB', async () => {
    const text = serialise(await generateGolden());
    if (process.env.CTKVR_UPDATE_GOLDEN === '1') await writeFile(file, text);
    expect(await readFile(file, 'utf8')).toBe(text);
    expect(text.length).toBeLessThan(400_000);
  });

  it('agrees with the naive definitions in every id, and in every output to 1e-5', async () => {
    const { cases } = JSON.parse(await readFile(file, 'utf8')) as GoldenFile;
    for (const golden of cases) {
      const { headDim, groupSize } = golden;
      const floats = (bits: readonly number[]) => Float32Array.from(bits, f16Value);
      const decodes = floats(golden.decodes.flatMap(({ query }) => query));
      const data = { keys: floats(golden.keys), values: floats(golden.values), queries: floats(golden.queries) };
      const all = { ...data, decodes, headDim, groupSize };
      const { history } = golden;
      const options = golden.options as SelectorOptions;
      const layout = history === undefined ? firstLayout(all, options) : naiveGrowth(all, options, history);
      const uncorrected = naiveTail(all, options.tail ? layout.stretches : [], options);
      const corrections = golden.tail?.corrections ?? uncorrected.corrections;
      const naive = naiveHead(all, options, layout, { ...uncorrected, corrections });
      const clusters = uncorrected.segments.map(({ start, madeAt, clusterOf }) => ({ start, madeAt, clusterOf }));
      expect(golden.tail?.segments ?? [], golden.name).toMatchObject(clusters);
      expect(
        golden.centroids.map(({ list }) => list),
        golden.name,
      ).toEqual(naive.centroids.map(({ list }) => list));
      const steps = groupsOf(decodes, groupSize, headDim).map((query) => naive.step(query));
      golden.decodes.forEach((decode, i) => {
        const step = steps[i]!;
        const { probes, candidates, selected } = decode;
        expect({ probes, candidates, selected }, golden.name).toEqual({
          probes: step.probes,
          candidates: step.candidates,
          selected: step.selected,
        });
        step.output.flat().forEach((x, at) => {
          expect(Math.abs(decode.output[at]! - x), `${golden.name} output ${at}`).toBeLessThan(1e-5);
        });
        step.mass.forEach((x, at) => {
          expect(Math.abs(decode.mass[at]! - x), `${golden.name} mass ${at}`).toBeLessThan(1e-5);
        });
      });
    }
  });
});
