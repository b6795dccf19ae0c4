/**
 * Finds the peer's best settings for what is measured, so that the comparison is with what its users could get: every thread count up to
 * what this machine runs at once (more than that is far slower), each with flash attention and without.
 */
import { countOf } from '@ctkvr/core';
import { significant } from '@ctkvr/evaluation';
import type { ContenderClient } from '../contenders/contender-client.js';
import type { PeerTrial } from './bench-row.js';

/** Tokens of one trial of decoding. */
export const TRIAL_DECODE_TOKENS = 8;

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
  /** Sequences of the peer's context. Default 1. */
  readonly sequences?: number;
  /** Called once with each flash setting, before it is measured: prefills what the measurement starts from. */
  readonly prepare?: () => Promise<unknown>;
  /** Milliseconds under the settings that the peer has then. */
  readonly measure: () => Promise<readonly number[]>;
  readonly onProgress: (line: string) => void;
}

/** Returns every trial, the fastest first. What was prefilled stays with the contender. */
export async function tunePeer(peer: ContenderClient, options: TuneOptions): Promise<PeerTrial[]> {
  const { maxThreads, sequences = 1, prepare, measure, onProgress } = options;
  const trials: PeerTrial[] = [];
  for (const flashAttention of [false, true]) {
    for (const [index, threads] of threadCounts(maxThreads).entries()) {
      await peer.configure({ threads, flashAttention, sequences });
      if (index === 0) await prepare?.();
      const bestMs = significant(Math.min(...(await measure())));
      trials.push({ threads, flashAttention, bestMs });
      onProgress(
        `node-llama-cpp, ${countOf(threads, 'thread')}, flash attention ${flashAttention ? 'on' : 'off'}: ${bestMs} ms`,
      );
    }
  }
  return trials.sort((a, b) => a.bestMs - b.bestMs);
}
