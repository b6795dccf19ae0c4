/**
 * From nothing to the first token: every round starts a process, loads the model and prefills a short prompt. The model's file is in the
 * operating system's cache: an uncounted round of each contender reads it.
 */
import { significant } from '@ctkvr/evaluation';
import type { ContenderKind, ContenderSettings } from '../contenders/contender.js';
import { ContenderClient } from '../contenders/contender-client.js';
import { promptTokens } from '../prompt.js';
import { quantileOf, sampleStatistics } from '../sample-statistics.js';
import type { PeerTrial } from './bench-row.js';
import { inTurns } from './in-turns.js';
import type { LoadRow } from './load-result.js';
import type { SuiteOptions } from './suite-options.js';
import { tunePeer } from './tune-peer.js';

/** One start of a contender. */
export interface LoadSample {
  readonly totalMs: number;
  readonly loadMs: number;
  readonly firstTokenMs: number;
  readonly threads: number;
  readonly peakMemoryBytes: number;
}

export type LoadOptions = Pick<SuiteOptions, 'modelPath' | 'context' | 'rounds' | 'peer' | 'maxThreads' | 'onProgress'>;

export async function loadSuite(options: LoadOptions): Promise<{ rows: LoadRow[]; peerTrials: readonly PeerTrial[] }> {
  const { context, modelPath, onProgress } = options;
  const open = { modelPath, contextLength: context + 16 };
  const prompt = await tokenized(open, context);
  const peerTrials = options.peer ? await tuneLoaded(open, prompt, options) : [];
  const best = peerTrials[0];
  const turns: Record<string, () => Promise<LoadSample>> = {
    ctkvr: () => startOnce({ kind: 'ctkvr', open, settings: {}, prompt }),
    ...(best ? { 'node-llama-cpp': () => startOnce({ kind: 'node-llama-cpp', open, settings: best, prompt }) } : {}),
  };
  const samples = await inTurns(turns, { rounds: options.rounds, warmUp: true, onProgress });
  return { rows: toLoadRows(samples, best?.flashAttention), peerTrials };
}

/** @param samples of `ctkvr` and, where it took part, `node-llama-cpp`. */
export function toLoadRows(
  samples: Readonly<Record<string, readonly LoadSample[]>>,
  peerFlashAttention: boolean | undefined,
): LoadRow[] {
  const median = (taken: readonly LoadSample[], value: (sample: LoadSample) => number) =>
    quantileOf(taken.map(value), 0.5);
  const peer = samples['node-llama-cpp'];
  const peerMs = peer === undefined ? null : median(peer, ({ totalMs }) => totalMs);
  return Object.entries(samples).map(([key, taken]): LoadRow => {
    const name = key as LoadRow['name'];
    const total = sampleStatistics(taken.map(({ totalMs }) => totalMs));
    return {
      name,
      threads: taken[0]!.threads,
      flashAttention: name === 'ctkvr' ? null : (peerFlashAttention ?? null),
      totalMs: {
        median: significant(total.median),
        p10: significant(total.p10),
        p90: significant(total.p90),
        numSamples: total.numSamples,
      },
      loadMs: significant(median(taken, ({ loadMs }) => loadMs)),
      firstTokenMs: significant(median(taken, ({ firstTokenMs }) => firstTokenMs)),
      ratioToPeer: peerMs === null ? null : significant(peerMs / total.median),
      peakMemoryBytes: Math.max(...taken.map(({ peakMemoryBytes }) => peakMemoryBytes)),
    };
  });
}

interface OpenInput {
  readonly modelPath: string;
  readonly contextLength: number;
}

async function tokenized(open: OpenInput, numTokens: number): Promise<Int32Array> {
  await using ours = await ContenderClient.start('ctkvr');
  await ours.open(open);
  return await promptTokens(ours, numTokens);
}

async function tuneLoaded(open: OpenInput, prompt: Int32Array, options: LoadOptions): Promise<PeerTrial[]> {
  await using peer = await ContenderClient.start('node-llama-cpp');
  await peer.open(open);
  return await tunePeer(peer, {
    maxThreads: options.maxThreads,
    // The first prefill of a context is slower than the others, and the start has only that one.
    measure: async () => [(await peer.prefill(prompt)).firstTokenMs],
    onProgress: options.onProgress,
  });
}

async function startOnce(start: {
  readonly kind: ContenderKind;
  readonly open: OpenInput;
  readonly settings: ContenderSettings;
  readonly prompt: Int32Array;
}): Promise<LoadSample> {
  const { kind, open, settings, prompt } = start;
  const startedAt = performance.now();
  await using client = await ContenderClient.start(kind);
  const { loadMs } = await client.open(open);
  await client.configure(settings);
  const readyMs = performance.now() - startedAt;
  const { firstTokenMs, threads } = await client.prefill(prompt);
  return { totalMs: readyMs + firstTokenMs, loadMs, firstTokenMs, threads, peakMemoryBytes: await client.peakMemory() };
}
