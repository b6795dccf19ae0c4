/** The study without a model: lists of contenders, lines of a plot, page and files. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { contenderNames, parseContender } from '@ctkvr/evaluation';
import { afterEach, expect, test } from 'vitest';
import { contenderFamilies } from '../src/study/contender-family.js';
import { contenderPresets, contendersOf } from '../src/study/contender-presets.js';
import { plotKinds, plotSituation } from '../src/study/study-plot.js';
import type { StudyResult, StudyRow } from '../src/study/study-result.js';
import { studyPage } from '../src/study/study-table.js';
import { readStudy, writeStudy } from '../src/study/write-study.js';

const row = (selector: string, meanKl: number, more: Partial<StudyRow> = {}): StudyRow => ({
  selector,
  meanKl,
  maxKl: meanKl,
  klByStep: { endSteps: 1, first: meanKl, last: meanKl, series: [{ step: 0, meanKl }] },
  top1Agreement: 0.75,
  candidatesPerHead: 900,
  selectedPerHead: 256,
  keysReadPerHead: 1200,
  valuesReadPerHead: 528,
  bytesReadPerToken: 5_250_000,
  denseStepShare: 0,
  denseRepairShare: 0,
  attentionMass: 0.97,
  estimatedAttentionMass: 0.96,
  massError: 0.01,
  msPerToken: 12.34,
  linearMs: 8,
  retrievalMs: 1,
  attentionMs: 2,
  stages: null,
  indexUpdates: 0,
  indexUpdateMs: 0,
  indexBuildMs: 1234,
  indexBytes: 5_000_000,
  meanKlBuiltAnew: null,
  ...more,
});

const rows = [
  row('exactTopK:maxSelected=256', 0.004),
  row('exactTopK:maxSelected=512', 0.002),
  row('ctkvr:maxSelected=512', 0.001, { bytesReadPerToken: 6_000_000 }),
  row('ctkvr:maxSelected=256', 0.003),
  row('full', 0, { indexBuildMs: 0 }),
];

const result: StudyResult = {
  date: '2026-11-25T00:00:00.000Z',
  machine: {
    cpu: 'A processor',
    cores: 2,
    usableThreads: 2,
    isa: 'avx2',
    ggmlFeatures: [],
    memory: { totalBytes: 1, bandwidthGBps: 1 },
    arithmetic: null,
    loadAverage: 0,
    os: 'linux',
    node: 'v20',
  },
  commit: 'abc',
  model: { name: 'a-model.gguf', sizeBytes: 1, sha256: '0' },
  tokens: 7000,
  steps: 64,
  situations: [
    { name: 'code', question: 'Why?', tokens: 7000, prefillMs: 9000, kvBytes: 50_000_000, rows },
    {
      name: 'dialogue, turn 2',
      question: 'And then?',
      tokens: 7100,
      prefillMs: 9000,
      kvBytes: 50_000_000,
      rows: [row('ctkvr', 0.003, { meanKlBuiltAnew: 0.002 })],
    },
  ],
};
const [situation] = result.situations;

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

test.each(contenderPresets)('every contender of %s is one, and stands there once', (preset) => {
  const labels = contendersOf(preset);
  for (const label of labels) expect(parseContender(label).label).toBe(label);
  expect(new Set(labels).size).toBe(labels.length);
  expect(labels.length).toBeGreaterThan(8);
});

test('the preset of selectors has every selector but dense attention', () => {
  const names = new Set(contendersOf('selectors').map((label) => label.split(':')[0]));
  expect([...names].sort()).toEqual(contenderNames.filter((name) => name !== 'full').sort());
});

test('labels that differ in their last value are one line', () => {
  const labels = [
    'ctkvr',
    'ctkvr:numProbes=8',
    'ctkvr:numProbes=2',
    'ctkvr:tail=false',
    'ctkvr:tail=false:maxSelected=1',
  ];
  const families = contenderFamilies([...labels.map((label) => row(label, 1)), ...rows]);
  expect(families.map(({ name, rows: members }) => [name, members.length])).toEqual([
    ['ctkvr', 1],
    ['ctkvr:numProbes', 2],
    ['ctkvr:tail=false', 1],
    ['ctkvr:tail=false:maxSelected=1', 1],
    ['exactTopK', 2],
    ['ctkvr', 2],
    ['full', 1],
  ]);
});

test('the table relates each row to the oracle with as many values, and a later turn to an index built anew', () => {
  const page = studyPage(result);
  const cells = (selector: string) =>
    page
      .split('\n')
      .find((line) => line.startsWith(`| \`${selector}\``))!
      .split(' | ');
  expect(cells('ctkvr:maxSelected=512').slice(1, 4)).toEqual(['1.00e-3', '0.50', '75.0 %']);
  expect(cells('ctkvr:maxSelected=256')[2]).toBe('0.75');
  expect(cells('full').slice(1, 3)).toEqual(['0', '-']);
  expect(cells('exactTopK:maxSelected=256')).toContain('10.0'); // index, % of KV
  expect(cells('ctkvr').slice(1, 4)).toEqual(['3.00e-3', '-', '1.50']);
  for (const table of page.split('\n\n').filter((part) => part.startsWith('|'))) {
    expect(
      new Set(
        table
          .split('\n')
          .filter((line) => line.startsWith('|'))
          .map((line) => line.split(' | ').length),
      ).size,
    ).toBe(1);
  }
});

test.each(plotKinds)('the plot of $title stands alone, on light and dark ground', (kind) => {
  const svg = plotSituation(situation!, kind);
  expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  expect(svg).toContain('prefers-color-scheme: dark');
  expect(svg).toContain('currentColor');
  expect(svg).not.toMatch(/href="http|NaN|undefined/);
  for (const text of ['exactTopK', 'ctkvr', kind.axis, `${kind.title}: code`]) expect(svg).toContain(text);
  expect(svg).not.toContain('>full<');
});

test('a situation without any error gives an empty plot', () => {
  expect(plotSituation({ ...situation!, rows: [row('full', 0)] }, plotKinds[0]!)).toContain('</svg>');
});

test('the files can be made again from the raw figures', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ctkvr-study-'));
  folders.push(folder);
  await writeStudy(folder, result);
  expect(await readStudy(folder)).toEqual(result);
  const page = await readFile(join(folder, 'README.md'), 'utf8');
  const plots = [...page.matchAll(/\]\(([^)]+\.svg)\)/g)].map(([, file]) => file);
  expect(plots).toHaveLength(2 * plotKinds.length);
  expect((await readdir(folder)).sort()).toEqual(['README.md', 'study.json', ...plots].sort());
  await expect(readStudy(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'CTKVR_FILE_NOT_FOUND' });
});
