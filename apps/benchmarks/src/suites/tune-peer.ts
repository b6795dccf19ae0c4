/**
 * Finds the peer's best settings for what is measured, so that the comparison is with what its users could get: every thread count up to
 * what this machine runs at once (more than that is far slower), each with flash attention and without.
 */
import type { ContenderClient } from '../contenders/contender-client.js';
import type { PeerTrial } from './result.js';

/** Above this many threads only powers of two and the largest are tried. */
const TRY_EACH_UP_TO = 8;

/** Returns the thread counts to try, descending: the likely best first. */
export function threadCounts(maxThreads: number): number[] {
  const all = Array.from({ length: maxThreads }, (_, index) => index + 1);
  const isTried = (count: number) =>
    count <= TRY_EACH_UP_TO || count === maxThreads || Number.isInteger(Math.log2(count));
  return all.filter(isTried).reverse();
}

export interface TuneOptions {
  readonly maxThreads: number;
  /** Prefilled once with each flash setting; for the decode trials it is the whole context. */
  readonly tokens: Int32Array;
  /** 'decode' times tokens after the prefill, 'prefill' the prefill itself. */
  readonly phase: 'decode' | 'prefill';
  readonly onProgress: (line: string) => void;
}

/** Tokens of one decode trial. */
const TRIAL_TOKENS = 8;

/** Returns every trial, the fastest first. For 'decode' the prefilled states stay with the contender. */
export async function tunePeer(peer: ContenderClient, options: TuneOptions): Promise<PeerTrial[]> {
  const trials: PeerTrial[] = [];
  for (const flashAttention of [false, true]) {
    let prefilled = false;
    for (const threads of threadCounts(options.maxThreads)) {
      await peer.configure({ threads, flashAttention });
      const needsPrefill = options.phase === 'prefill' || !prefilled;
      const sample = needsPrefill ? await peer.prefill(options.tokens) : null;
      prefilled = true;
      const samples =
        options.phase === 'prefill' ? [sample!.firstTokenMs] : (await peer.decode(TRIAL_TOKENS)).msPerToken;
      const bestMs = Number(Math.min(...samples).toPrecision(4));
      trials.push({ threads, flashAttention, bestMs });
      options.onProgress(
        `node-llama-cpp, ${threads} threads, flash attention ${flashAttention ? 'on' : 'off'}: ${bestMs} ms`,
      );
    }
  }
  return trials.sort((a, b) => a.bestMs - b.bestMs);
}
