/**
 * Milliseconds a token after a long prompt: our dense attention, our selector, and the peer at its best settings, taking turns in one
 * run. Each contender decodes greedily from the same prefilled tokens through its own public interface.
 */

import type { DecodeSample } from '../contenders/contender.js';
import { ContenderClient } from '../contenders/contender-client.js';
import { promptTokens } from '../prompt.js';
import { sampleStatistics } from '../sample-statistics.js';
import type { PeerTrial, RowInput, RowName } from './bench-row.js';
import { inTurns } from './in-turns.js';
import { QUALITY_STEPS, type SuiteOptions } from './suite-options.js';
import { decodeOperations } from './token-operations.js';
import { TRIAL_DECODE_TOKENS, tunePeer } from './tune-peer.js';

export async function decodeSuite(
  options: SuiteOptions,
): Promise<{ rows: RowInput[]; peerTrials: readonly PeerTrial[] }> {
  const { context, denseBelow, kvFormat, modelPath, onProgress, tokensPerRound } = options;
  const contextLength = context + Math.max(tokensPerRound, QUALITY_STEPS) + 16;
  await using ours = await ContenderClient.start('ctkvr');
  await using peer = options.peer ? await ContenderClient.start('node-llama-cpp') : null;
  await ours.open({ modelPath, contextLength });
  const tokens = await promptTokens(ours, context + QUALITY_STEPS);
  const prompt = tokens.slice(0, context);

  onProgress(`prefilling ${context} tokens: ours`);
  await ours.configure({ method: 'ctkvr', denseBelow, kvFormat });
  await ours.prefill(prompt);
  const quality = await ours.quality(tokens.slice(context));

  let peerTrials: PeerTrial[] = [];
  if (peer) {
    onProgress(`prefilling ${context} tokens: node-llama-cpp, with and without flash attention`);
    await peer.open({ modelPath, contextLength });
    peerTrials = await tunePeer(peer, {
      maxThreads: options.maxThreads,
      prepare: () => peer.prefill(prompt),
      measure: async () => (await peer.decode(TRIAL_DECODE_TOKENS)).msPerToken,
      onProgress,
    });
    await peer.configure(peerTrials[0]!);
  }

  const turns: Record<string, () => Promise<DecodeSample>> = {
    full: async () => {
      await ours.configure({ method: 'full' });
      return ours.decode(tokensPerRound);
    },
    ctkvr: async () => {
      await ours.configure({ method: 'ctkvr', denseBelow });
      return ours.decode(tokensPerRound);
    },
    ...(peer ? { 'node-llama-cpp': () => peer.decode(tokensPerRound) } : {}),
  };
  const samples = await inTurns(turns, { ...options, warmUp: true });
  const [oursPeak, peerPeak] = [await ours.peakMemory(), (await peer?.peakMemory()) ?? 0];
  const rows = Object.entries(samples).map(([key, taken]): RowInput => {
    const name = key as RowName;
    const isPeer = name === 'node-llama-cpp';
    const attentionBytes = isPeer ? context * options.model.kvBytesPerToken : (taken.at(-1)?.attentionBytes ?? null);
    return {
      name,
      threads: taken[0]!.threads,
      flashAttention: isPeer ? peerTrials[0]?.flashAttention : undefined,
      statistics: sampleStatistics(taken.flatMap((one) => one.msPerToken)),
      tokensPerSample: 1,
      peakMemoryBytes: isPeer ? peerPeak : oursPeak,
      bytesPerToken: attentionBytes === null ? null : options.model.sizeBytes + attentionBytes,
      operations: decodeOperations(options.model),
      meanKlToFull: name === 'ctkvr' ? quality.meanKl : null,
      top1Agreement: name === 'ctkvr' ? quality.top1Agreement : null,
    };
  });
  return { rows, peerTrials };
}
