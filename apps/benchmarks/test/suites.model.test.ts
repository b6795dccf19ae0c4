/**
 * The built program, end to end without the peer: `node dist/bin.js`. Needs CTKVR_TEST_MODEL (a GGUF file), the native build and this
 * package's build (contenders are child processes, and Node runs no TypeScript). The text is fetched into the cache on first use.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type {
  BatchResult,
  BenchResult,
  IndexResult,
  LoadResult,
  SameBitsResult,
  SharedCoresResult,
  StudyResult,
} from '../src/index.js';

const bin = fileURLToPath(new URL('../dist/bin.js', import.meta.url));
const modelPath = process.env.CTKVR_TEST_MODEL;
const missing = !modelPath ? 'CTKVR_TEST_MODEL names no GGUF file' : !existsSync(bin) ? 'dist/ is not built' : null;

async function bench<Result = BenchResult>(...args: string[]): Promise<Result> {
  const { stdout } = await promisify(execFile)(process.execPath, [bin, ...args, '--model', modelPath!, '--json']);
  return JSON.parse(stdout) as Result;
}

describe.skipIf(missing !== null)(`the suites${missing === null ? '' : ` (skipped: ${missing})`}`, () => {
  test('decode: a row for each of ours, with its quality and what it read', { timeout: 240_000 }, async () => {
    const result = await bench(
      'decode',
      ...['--context', '1500', '--rounds', '2', '--tokens', '6', '--dense-below', '1', '--no-peer'],
    );
    expect(result.rows.map((row) => row.name)).toEqual(['full', 'ctkvr']);
    const [full, ctkvr] = result.rows;
    for (const row of [full!, ctkvr!]) {
      expect(row.numSamples).toBe(2 * 6);
      expect(row.medianMs).toBeGreaterThan(0);
      expect(row.p10).toBeLessThanOrEqual(row.medianMs);
      expect(row.ratioToPeer).toBeNull();
      expect(row.bytesPerToken).toBeGreaterThan(result.model.sizeBytes);
    }
    expect(ctkvr!.bytesPerToken).toBeLessThan(full!.bytesPerToken!);
    expect(ctkvr!.meanKlToFull).toBeGreaterThan(0); // it does not read everything
    expect(ctkvr!.meanKlToFull).toBeLessThan(0.1); // and loses little
    expect(full!.meanKlToFull).toBeNull();
    expect(result.machine.usableThreads).toBeGreaterThan(0);
    expect(result.model.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test('batch: all sequences together, and one beside a prefill', { timeout: 240_000 }, async () => {
    const result = await bench<BatchResult>(
      'batch',
      ...['--context', '700', '--sequences', '3', '--rounds', '2', '--tokens', '5', '--dense-below', '1', '--no-peer'],
    );
    expect(result.sequences).toBe(3);
    expect(result.rows.map((row) => row.name)).toEqual(['full', 'ctkvr']);
    for (const row of result.rows) {
      expect(row.numSamples).toBe(2);
      expect(row.tokensPerSecond).toBeCloseTo(1000 / row.medianMs, -1);
      expect(row.bytesPerToken).toBeGreaterThan(result.model.sizeBytes / 3);
      expect(row.bytesPerToken).toBeLessThan(result.model.sizeBytes);
    }
    expect(result.rows[1]!.meanKlToFull).toBeGreaterThan(0);
    expect(result.rows[1]!.meanKlToFull).toBeLessThan(0.1);
    expect(result.besidePrefill.map((row) => row.name)).toEqual(['full', 'ctkvr']);
    for (const row of result.besidePrefill) {
      expect(row.numSamples).toBeGreaterThan(2); // a prompt is prefilled in chunks, and each lets a token pass
      expect(row.medianMs).toBeGreaterThan(row.aloneMs);
      expect(row.maxMs).toBeLessThan(row.prefillMs);
    }
  });

  test('index: what it costs, and the stages of a step', { timeout: 240_000 }, async () => {
    const { build, growth, turn, splits } = await bench<IndexResult>(
      'index',
      ...['--context', '700', '--rounds', '1', '--tokens', '6', '--dense-below', '1', '--growth-tokens', '20'],
    );
    expect(build.buildMs.median).toBeGreaterThan(0);
    expect(build.indexedTokens).toBeLessThan(700);
    expect(build.indexBytes).toBeGreaterThan(0);
    expect(growth.tokens).toBe(20);
    expect(turn).toMatchObject({ tokens: 128 });
    expect(splits.map(({ name }) => name)).toEqual(['full', 'ctkvr']);
    for (const { stages, totalMs } of splits) {
      const sum = stages.reduce((total, { ms }) => total + ms, 0);
      expect(Math.abs(sum - totalMs)).toBeLessThan(0.05 * totalMs);
      expect(stages.find(({ name }) => name === 'linear')!.ms).toBeGreaterThan(0);
    }
    const probe = splits.map(({ stages }) => stages.find(({ name }) => name === 'probe')!.ms);
    expect(probe[1]).toBeGreaterThan(probe[0]!);
  });

  test('load: from the start of a process to the first token', { timeout: 240_000 }, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ctkvr-load-'));
    const report = join(folder, 'report.html');
    const { rows, promptTokens } = await bench<LoadResult>(
      'load',
      ...['--rounds', '2', '--no-peer', '--report', report],
    );
    expect(await readFile(report, 'utf8')).toContain(`>${rows[0]!.totalMs.median}<`);
    await rm(folder, { recursive: true });
    expect(promptTokens).toBe(16);
    expect(rows.map((row) => [row.name, row.totalMs.numSamples])).toEqual([['ctkvr', 2]]);
    expect(rows[0]!.totalMs.median).toBeGreaterThan(rows[0]!.loadMs + rows[0]!.firstTokenMs);
  });

  test('same-bits: an answer does not depend on who else asks', { timeout: 240_000 }, async () => {
    const small = ['--questions', '10', '--tokens', '6', '--clients', '2,4'];
    const { rows } = await bench<SameBitsResult>('same-bits', ...small);
    expect(rows.map(({ threads, clients }) => [threads, clients])).toEqual([
      ...[1, 2, 4].map((clients) => [1, clients]),
      ...[1, 2, 4].map((clients) => [2, clients]),
    ]);
    for (const row of rows) {
      expect(row.mostInStep > 1).toBe(row.clients > 1);
      expect(row).toMatchObject({ numAnswers: 10, sameTokens: 10, sameBits: 10 });
    }
  });

  test('shared-cores: alone, beside another, beside busy loops', async () => {
    const { rows } = await bench<SharedCoresResult>('shared-cores', '--context', '100', '--rounds', '1');
    expect(rows.map((row) => [row.beside, row.msPerToken.numSamples])).toEqual([
      ['nothing', 1],
      ['another', 2],
      ['busy loops', 1],
    ]);
    expect(rows[0]!.ratioToAlone).toBe(1);
    for (const row of rows) expect(row.msPerToken.median).toBeGreaterThan(0);
  });

  test('study: every contender in every situation, as figures, page and plots', { timeout: 240_000 }, async () => {
    const out = await mkdtemp(join(tmpdir(), 'ctkvr-study-'));
    try {
      const settings = ['--tokens', '500', '--steps', '3', '--texts', 'code,dialogue'];
      // Lists as long as the text, or all of its clusters, would be exact.
      const contenders = [
        'ctkvr:recentWindow=64:listLength=32:clusterProbes=2:retrievalHeadShare=0',
        'streaming:recentWindow=64',
      ];
      const args = ['study', ...settings, '--contenders', contenders.join(','), '--out', out, '--model', modelPath!];
      await promisify(execFile)(process.execPath, [bin, ...args]);
      const { situations } = JSON.parse(await readFile(join(out, 'study.json'), 'utf8')) as StudyResult;
      expect(situations.map(({ name }) => name)).toEqual([
        'code',
        ...[1, 2, 3].map((turn) => `dialogue, turn ${turn}`),
      ]);
      for (const { rows } of situations) {
        expect(rows.map(({ selector }) => selector)).toEqual(contenders);
        for (const row of rows) expect(row.meanKl).toBeGreaterThan(0);
        expect(rows[0]!.attentionMass).toBeGreaterThan(rows[1]!.attentionMass);
      }
      expect(situations[3]!.rows[0]!.meanKlBuiltAnew).toBeGreaterThan(0);
      expect(await readFile(join(out, 'kl-bytes-dialogue-turn-3.svg'), 'utf8')).toContain('</svg>');
    } finally {
      await rm(out, { recursive: true });
    }
  });

  test('prefill: time to the first token with and without the index', { timeout: 240_000 }, async () => {
    const result = await bench('prefill', ...['--context', '700', '--rounds', '1', '--no-peer']);
    expect(result.rows.map((row) => [row.name, row.numSamples])).toEqual([
      ['full', 1],
      ['ctkvr', 1],
    ]);
    for (const row of result.rows) expect(row.tokensPerSecond).toBeCloseTo(700_000 / row.medianMs, -1);
  });
});
