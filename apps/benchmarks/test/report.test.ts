import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { Machine } from '../src/machine.js';
import { readReportInput } from '../src/report/report-input.js';
import { reportPage } from '../src/report/report-page.js';
import { writeReport } from '../src/report/write-report.js';
import type { BatchResult } from '../src/suites/batch-result.js';
import type { BenchRow, RowName } from '../src/suites/bench-row.js';
import { type IndexResult, type StageSplit, stageNames } from '../src/suites/index-result.js';
import type { KernelsResult } from '../src/suites/kernels-result.js';
import type { LoadResult } from '../src/suites/load-result.js';
import type { BenchResult, SuiteResult } from '../src/suites/result.js';

const HOSTILE = '<script src="https://evil.example/x.js">&\'"</script>';

const machine: Machine = {
  cpu: 'A processor',
  cores: 4,
  usableThreads: 2,
  isa: 'avx2',
  ggmlFeatures: ['AVX2', 'FMA'],
  memory: { totalBytes: 16e9, bandwidthGBps: 27.3 },
  arithmetic: { gflops: 123.4, isa: 'avx2', bf16Gflops: 246.75, numThreads: 2 },
  loadAverage: 0.25,
  os: 'linux x64',
  node: 'v20.0.0',
};
const head = {
  date: '2026-11-25T00:00:00.000Z',
  machine,
  commit: 'abcdef012345',
  model: { name: 'a-model.gguf', sizeBytes: 98e6, sha256: 'f'.repeat(64) },
};
const row = (name: RowName, medianMs: number, more: Partial<BenchRow> = {}): BenchRow => ({
  name,
  threads: 2,
  flashAttention: name === 'node-llama-cpp' ? true : null,
  medianMs,
  p10: medianMs - 0.125,
  p90: medianMs + 0.375,
  numSamples: 24,
  tokensPerSecond: Number((1000 / medianMs).toPrecision(4)),
  ratioToPeer: 1.75,
  meanKlToFull: name === 'ctkvr' ? 0.00321 : null,
  top1Agreement: null,
  bytesPerToken: 200e6,
  operations: 1e9,
  shareOfLimit: 0.61,
  limit: 'memory',
  peakMemoryBytes: 321e6,
  ...more,
});
const decode = (context: number, more: Partial<BenchResult> = {}): BenchResult => ({
  suite: 'decode',
  ...head,
  tokensPerRound: 24,
  denseBelow: null,
  context,
  rounds: 5,
  rows: [row('full', 16.5), row('ctkvr', 12.25), row('node-llama-cpp', 33.5)],
  peerTrials: [{ threads: 2, flashAttention: true, bestMs: 33.25 }],
  ...more,
});
const batch: BatchResult = {
  ...decode(2000),
  suite: 'batch',
  sequences: 8,
  besidePrefill: [
    {
      name: 'ctkvr',
      threads: 2,
      flashAttention: null,
      batchSize: null,
      aloneMs: 12.5,
      medianMs: 40.5,
      p95Ms: 50.75,
      maxMs: 60.25,
      p95ToAlone: 4.06,
      numSamples: 63,
      prefillMs: 9876,
    },
  ],
};
const split = (name: StageSplit['name']): StageSplit => ({
  name,
  threads: 2,
  totalMs: 18.5,
  numSteps: 20,
  stages: stageNames.map((stage, index) => ({ name: stage, ms: 0.01 + index / 4, bytes: null, shareOfLimit: null })),
});
const index: IndexResult = {
  suite: 'index',
  ...head,
  tokensPerRound: 24,
  denseBelow: 1024,
  context: 7000,
  rounds: 3,
  build: {
    prefillMs: 8765,
    buildMs: { median: 345.5, p10: 340.5, p90: 350.5, numSamples: 3 },
    shareOfPrefill: 0.0394,
    indexBytes: 31e6,
    kvBytes: 161e6,
    indexedTokens: 6728,
  },
  growth: { tokens: 512, msPerToken: 0.1234, shareOfSteps: 0.01, maxMs: 2.5, bytesBefore: 31e6, bytesAfter: 32e6 },
  turn: { tokens: 128, prefillMs: 222, extendMs: 33.25 },
  splits: [split('full'), split('ctkvr')],
};
const load: LoadResult = {
  suite: 'load',
  ...head,
  rounds: 3,
  promptTokens: 16,
  rows: [
    {
      name: 'ctkvr',
      threads: 2,
      flashAttention: null,
      totalMs: { median: 278.5, p10: 270.5, p90: 290.5, numSamples: 3 },
      loadMs: 98.75,
      firstTokenMs: 67.25,
      ratioToPeer: 4.5,
      peakMemoryBytes: 196e6,
    },
  ],
  peerTrials: [],
};
const kernels: KernelsResult = {
  suite: 'kernels',
  date: head.date,
  machine,
  commit: null,
  threads: 2,
  rounds: 5,
  bandwidthGBps: 27.25,
  peaks: [{ isa: 'avx2', dtype: 'f32', gflops: 123.5 }],
  rows: [
    {
      kernel: 'score_rows',
      rows: 'scattered',
      data: 'memory',
      dtype: 'f32',
      isa: 'avx2',
      medianMs: 5.925,
      p10: 5.875,
      p90: 6.125,
      numSamples: 5,
      gigabytesPerSecond: 7.125,
      gflops: 49.5,
      shareOfLimit: 0.43,
      limit: 'arithmetic',
    },
  ],
};
const results: SuiteResult[] = [
  decode(512),
  decode(2000),
  { ...decode(2000), suite: 'prefill' },
  batch,
  index,
  load,
  kernels,
];
const page = (...all: SuiteResult[]) => reportPage(all.map((result) => ({ source: 'a.json', result })));

/** Checks that every tag is closed in its turn, and every attribute quoted; returns the names of all elements. */
function elementsOf(html: string): Set<string> {
  const open: string[] = [];
  const names = new Set<string>();
  const body = html.replace(/^<!DOCTYPE html>\n/, '').replace(/<style>[^<]*<\/style>/g, '<style></style>');
  const tag = /<(\/?)([a-zA-Z][\w:-]*)((?:\s+[\w:-]+="[^"<>]*")*)\s*(\/?)>/g;
  for (const [, closing, name, , selfClosing] of body.matchAll(tag)) {
    names.add(name!);
    if (closing) expect(open.pop()).toBe(name);
    else if (!selfClosing) open.push(name!);
  }
  expect(open).toEqual([]);
  expect(body.replace(tag, '')).not.toMatch(/[<>]/);
  return names;
}

describe('a report', () => {
  test('is well formed, and needs nothing beside it', () => {
    const html = page(...results);
    expect(html.startsWith('<!DOCTYPE html>')).toBe(true);
    const names = elementsOf(html);
    for (const outside of ['script', 'link', 'img', 'iframe', 'image', 'use', 'object']) {
      expect([...names]).not.toContain(outside);
    }
    expect(html).not.toMatch(/https?:|url\((?!#)|@import|NaN|undefined|\[object/);
  });

  test('has a plot of each kind', () => {
    const html = page(...results);
    const labels = [...html.matchAll(/<svg role="img" aria-label="([^"]+)"/g)].map(([, label]) => label);
    const place = 'a-model.gguf, A processor, 2 threads, avx2';
    expect(labels).toEqual([
      `Time a token: ${place}`,
      `Time to the first token: ${place}`,
      `Throughput after 2,000 tokens: ${place}`,
      `Time of a decode step by stage: ${place}`,
    ]);
    const ids = [...html.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id);
    expect(ids.length).toBeGreaterThan(0);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [, id] of html.matchAll(/url\(#([^)]+)\)/g)) expect(ids).toContain(id);
  });

  test('has every figure that it was given', () => {
    const html = page(...results);
    const shown = (value: number) => expect(html, String(value)).toContain(`>${value}<`);
    for (const result of results) {
      if (!('rows' in result)) continue;
      for (const one of result.rows) {
        const { totalMs, medianMs, p10, p90, loadMs, gflops } = one as unknown as Record<string, number> & {
          totalMs?: LoadResult['rows'][number]['totalMs'];
        };
        for (const value of [medianMs, p10, p90, loadMs, gflops, totalMs?.median, totalMs?.p90]) {
          if (value !== undefined) shown(value);
        }
      }
    }
    const [beside] = batch.besidePrefill;
    for (const value of [beside!.aloneMs, beside!.p95Ms, beside!.maxMs, beside!.prefillMs, 63, 4.06]) shown(value);
    for (const value of [8765, 345.5, 0.1234, 33.25, ...split('full').stages.map(({ ms }) => ms)]) shown(value);
    for (const text of ['3.21e-3', '61 % memory', '43 % arithmetic', '3.9 %', '27.3 GB/s read', 'f'.repeat(64)]) {
      expect(html).toContain(text);
    }
    for (const text of ['abcdef012345', '123.4 GFLOP/s f32 (avx2), 246.75 bf16', 'AVX2 FMA', '33.25', 'a.json']) {
      expect(html).toContain(text);
    }
  });

  test('follows the scheme of the reader, and is for paper too', () => {
    const html = page(...results);
    expect(html).toContain('@media (prefers-color-scheme: dark)');
    expect(html).toContain('@media print');
    expect(html).toContain('currentColor');
  });

  test('shows hostile names as text', () => {
    const html = reportPage([
      {
        source: HOSTILE,
        result: {
          ...index,
          model: { ...head.model, name: HOSTILE },
          machine: { ...machine, cpu: HOSTILE, isa: HOSTILE, os: HOSTILE, ggmlFeatures: [HOSTILE] },
          commit: HOSTILE,
          splits: [{ ...split('full'), name: HOSTILE as 'full' }],
        },
      },
      {
        source: 'a.json',
        result: decode(512, { rows: [row(HOSTILE as RowName, 1)], model: { ...head.model, name: HOSTILE } }),
      },
      { source: 'b.json', result: { ...kernels, rows: [{ ...kernels.rows[0]!, kernel: HOSTILE }] } },
    ]);
    expect([...elementsOf(html)]).not.toContain('script');
    expect(html).toContain('&lt;script src=&quot;https://evil.example/x.js&quot;&gt;');
  });

  test('keeps commits apart, and takes the later of two figures of one', () => {
    const other = decode(2000, { commit: 'fedcba', rows: [row('full', 99)] });
    const html = page(decode(512), decode(2000), other);
    expect(html).toContain('full (fedcba)');
    expect(html).toContain('full (abcdef012345)');
    expect(page(decode(512), decode(2000))).not.toContain('full (abcdef012345)');
  });

  test('of results without plots has their tables', () => {
    const html = page(load, kernels);
    elementsOf(html);
    expect(html).not.toContain('<svg');
    expect(html).not.toContain('Plots');
  });
});

describe('files', () => {
  const folders: string[] = [];
  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
  });
  const folder = async () => {
    const made = await mkdtemp(join(tmpdir(), 'ctkvr-report-'));
    folders.push(made);
    return made;
  };

  test('that --json wrote are read, and the page is written with its folder', async () => {
    const file = join(await folder(), 'decode.json');
    await writeFile(file, JSON.stringify(decode(512)));
    const input = await readReportInput(file);
    expect(input).toEqual({ source: 'decode.json', result: decode(512) });
    const out = join(await folder(), 'a', 'b', 'report.html');
    await writeReport(out, [input]);
    expect(await readFile(out, 'utf8')).toBe(reportPage([input]));
  });

  test.each([
    'docs/results/2026-11-24-epyc-avx2-2-cores/bench-decode-smollm2-135m-7000.json',
    'docs/results/2026-11-24-epyc-avx2-2-cores/bench-prefill-smollm2-135m-7000.json',
    'docs/results/2026-11-25-epyc-avx512-2-cores/study-qwen-16000/study.json',
  ])('of earlier days can be read: %s', async (file) => {
    const html = reportPage([await readReportInput(join(import.meta.dirname, '../../..', file))]);
    elementsOf(html);
    expect(html).toContain('<svg role="img"');
    expect(html).not.toMatch(/https?:|NaN|undefined/);
  });

  test.each([
    ['something else', '{"suite":"chess","machine":{}}', 'CTKVR_FILE_UNREADABLE'],
    ['a list', '[1]', 'CTKVR_FILE_UNREADABLE'],
    ['no JSON', 'suite: decode', 'CTKVR_FILE_UNREADABLE'],
    ['nothing', null, 'CTKVR_FILE_NOT_FOUND'],
  ])('with %s are refused', async (_name, text, code) => {
    const file = join(await folder(), 'x.json');
    if (text !== null) await writeFile(file, text);
    await expect(readReportInput(file)).rejects.toMatchObject({ code, fields: { path: file } });
  });
});
