/**
 * Time to the first token of a prompt that nothing is known of yet: our prefill with the index built, without it, and the peer's with and
 * without flash attention at its best thread count, taking turns in one run.
 */

import type { PrefillSample } from '../contenders/contender.js';
import { ContenderClient } from '../contenders/contender-client.js';
import { promptTokens } from '../prompt.js';
import { sampleStatistics } from '../sample-statistics.js';
import type { PeerTrial, RowInput, RowName } from './bench-row.js';
import { inTurns } from './in-turns.js';
import type { SuiteOptions } from './suite-options.js';
import { prefillOperations } from './token-operations.js';
import { tunePeer } from './tune-peer.js';

/** Tokens of the trials that choose the thread count: trying each on the whole prompt would take longer than the measurement. */
const TRIAL_TOKENS = 2048;

export async function prefillSuite(
  options: SuiteOptions,
): Promise<{ rows: RowInput[]; peerTrials: readonly PeerTrial[] }> {
  const { context, denseBelow, modelPath, onProgress } = options;
  await using ours = await ContenderClient.start('ctkvr');
  await using peer = options.peer ? await ContenderClient.start('node-llama-cpp') : null;
  await ours.open({ modelPath, contextLength: context + 16 });
  const prompt = await promptTokens(ours, context);

  onProgress('warming up');
  await ours.prefill(prompt.slice(0, TRIAL_TOKENS)); // the peer's trials warm it up
  let peerTrials: PeerTrial[] = [];
  if (peer) {
    await peer.open({ modelPath, contextLength: context + 16 });
    const tokens = prompt.slice(0, TRIAL_TOKENS);
    const measure = async () => [(await peer.prefill(tokens)).firstTokenMs];
    peerTrials = await tunePeer(peer, { maxThreads: options.maxThreads, measure, onProgress });
  }
  // Flash attention pays more or less with the length, so both settings run the whole prompt; threads are settled.
  const best = (flashAttention: boolean) => peerTrials.find((trial) => trial.flashAttention === flashAttention);
  const turn = (client: ContenderClient, settings: Parameters<ContenderClient['configure']>[0]) => async () => {
    await client.configure(settings);
    return client.prefill(prompt);
  };
  const turns: Record<string, () => Promise<PrefillSample>> = {
    full: turn(ours, { method: 'full' }),
    ctkvr: turn(ours, { method: 'ctkvr', denseBelow }),
    ...(peer ? { 'flash off': turn(peer, best(false)!), 'flash on': turn(peer, best(true)!) } : {}),
  };
  const samples = await inTurns(turns, { ...options, warmUp: false });
  const [oursPeak, peerPeak] = [await ours.peakMemory(), (await peer?.peakMemory()) ?? 0];
  const rows = Object.entries(samples).map(([key, taken]): RowInput => {
    const isPeer = key.startsWith('flash');
    return {
      name: isPeer ? 'node-llama-cpp' : (key as RowName),
      threads: taken[0]!.threads,
      flashAttention: isPeer ? key === 'flash on' : undefined,
      statistics: sampleStatistics(taken.map((one) => one.firstTokenMs)),
      tokensPerSample: context,
      operations: prefillOperations(options.model, context),
      peakMemoryBytes: isPeer ? peerPeak : oursPeak,
    };
  });
  return { rows, peerTrials };
}
