/**
 * Several sequences: tokens a second of all of them together, and how long a running one waits for its tokens while another one prefills.
 * Ours decodes greedily from different prompts of the same length. The peer does so in one context of as many sequences, at its best settings
 * for each of the two figures, all of them from the first prompt: dense attention takes as long whatever the keys are, and prefilling every
 * prompt with each flash setting would take hours.
 */
import type { ContenderSettings, TogetherSample } from '../contenders/contender.js';
import { ContenderClient } from '../contenders/contender-client.js';
import { promptSlices } from '../prompt.js';
import { sampleStatistics } from '../sample-statistics.js';
import type { BesidePrefillRow } from './batch-result.js';
import type { PeerTrial, RowInput, RowName } from './bench-row.js';
import { besidePrefillRows } from './beside-prefill.js';
import { inTurns } from './in-turns.js';
import { QUALITY_STEPS, type SuiteOptions } from './suite-options.js';
import { decodeOperations } from './token-operations.js';
import { TRIAL_DECODE_TOKENS, tunePeer } from './tune-peer.js';

/** Room behind a prompt for a sequence that decodes while another one prefills. */
const MAX_BESIDE_TOKENS = 1024;

export interface BatchOptions extends SuiteOptions {
  /** Sequences that decode at once. */
  readonly sequences: number;
  /** Prefills beside a running sequence, for each contender; 0 leaves that figure out. */
  readonly besideRounds: number;
}

export interface BatchFindings {
  readonly rows: RowInput[];
  readonly besidePrefill: BesidePrefillRow[];
  readonly peerTrials: readonly PeerTrial[];
}

export async function batchSuite(options: BatchOptions): Promise<BatchFindings> {
  const { context, modelPath, model, sequences, tokensPerRound, onProgress } = options;
  const needed = context + Math.max(tokensPerRound, QUALITY_STEPS) + 16;
  const contextLength = Math.max(needed, Math.min(context + MAX_BESIDE_TOKENS, model.trainedContext));
  await using ours = await ContenderClient.start('ctkvr');
  await using peer = options.peer ? await ContenderClient.start('node-llama-cpp') : null;
  await ours.open({ modelPath, contextLength });
  await peer?.open({ modelPath, contextLength });
  const texts = await promptSlices(ours, { numTokens: context + QUALITY_STEPS, count: sequences + 1 });
  const prompts = texts.slice(0, sequences).map((text) => text.slice(0, context));
  const other = texts[sequences]!.slice(0, context);

  const quality = await prefillOurs(ours, options, { prompts, texts });
  const measurePeer = async () => {
    const { totalMs, numTokens } = await peer!.decodeTogether(TRIAL_DECODE_TOKENS, sequences);
    return [totalMs / numTokens];
  };
  if (peer) onProgress(`prefilling ${context} tokens: node-llama-cpp, with and without flash attention`);
  const peerTrials = peer
    ? await tunePeer(peer, {
        maxThreads: options.maxThreads,
        sequences: peerSequences(options),
        prepare: () => peer.prefill(prompts[0]!),
        measure: measurePeer,
        onProgress,
      })
    : [];

  const together = await decodeTogether({ ours, peer, options, best: peerTrials[0] });
  const { besideRounds, denseBelow } = options;
  const besidePrefill = await besidePrefillRows({
    ...{ ours, peer, other, onProgress, denseBelow, tokensPerRound },
    peerSettings: { threads: options.maxThreads, sequences: peerSequences(options) },
    rounds: besideRounds,
  });
  const [oursPeak, peerPeak] = [await ours.peakMemory(), (await peer?.peakMemory()) ?? 0];
  const rows = Object.entries(together).map(([key, taken]): RowInput => {
    const name = key as RowName;
    const isPeer = name === 'node-llama-cpp';
    const attentionBytes = isPeer ? context * model.kvBytesPerToken : (taken.at(-1)?.attentionBytes ?? null);
    return {
      name,
      threads: taken[0]!.threads,
      flashAttention: isPeer ? peerTrials[0]?.flashAttention : undefined,
      statistics: sampleStatistics(taken.map(({ totalMs, numTokens }) => totalMs / numTokens)),
      tokensPerSample: 1,
      peakMemoryBytes: isPeer ? peerPeak : oursPeak,
      // A step reads the weights once for all sequences.
      bytesPerToken: attentionBytes === null ? null : Math.round(model.sizeBytes / sequences) + attentionBytes,
      operations: decodeOperations(model),
      ...(name === 'ctkvr' ? quality : {}),
    };
  });
  return { rows, besidePrefill, peerTrials };
}

/** States saved in a context fit into those of as many sequences only; one that decodes beside a prefill needs a second one. */
function peerSequences({ sequences }: BatchOptions): number {
  return Math.max(2, sequences);
}

/** Prefills every sequence of ours; returns the quality, a mean over the sequences. */
async function prefillOurs(
  ours: ContenderClient,
  { denseBelow, onProgress }: BatchOptions,
  { prompts, texts }: { readonly prompts: readonly Int32Array[]; readonly texts: readonly Int32Array[] },
): Promise<Pick<RowInput, 'meanKlToFull' | 'top1Agreement'>> {
  await ours.configure({ method: 'ctkvr', denseBelow });
  let [meanKlToFull, top1Agreement] = [0, 0];
  for (const [sequence, prompt] of prompts.entries()) {
    onProgress(`prefilling sequence ${sequence + 1} of ${prompts.length}: ours`);
    await ours.prefill(prompt, sequence);
    const quality = await ours.quality(texts[sequence]!.slice(prompt.length), sequence);
    meanKlToFull += quality.meanKl / prompts.length;
    top1Agreement += quality.top1Agreement / prompts.length;
  }
  return { meanKlToFull, top1Agreement };
}

interface Contenders {
  readonly ours: ContenderClient;
  readonly peer: ContenderClient | null;
  readonly options: BatchOptions;
}

async function decodeTogether({
  ours,
  peer,
  options,
  best,
}: Contenders & { readonly best: PeerTrial | undefined }): Promise<Record<string, TogetherSample[]>> {
  const { denseBelow, tokensPerRound } = options;
  const turn = (client: ContenderClient, settings?: ContenderSettings) => async () => {
    if (settings) await client.configure(settings);
    return await client.decodeTogether(tokensPerRound, options.sequences);
  };
  // The peer's settings make a new context each time they are set: once is enough.
  if (peer && best) await peer.configure({ ...best, sequences: peerSequences(options) });
  return await inTurns(
    {
      full: turn(ours, { method: 'full' }),
      ctkvr: turn(ours, { method: 'ctkvr', denseBelow }),
      ...(peer ? { 'node-llama-cpp': turn(peer) } : {}),
    },
    { ...options, warmUp: true },
  );
}
