/** Questions and answers at one place. */

import type { ReadMap } from '../read-map/read-map.js';
import type { Statistics } from '../server/ask.js';
import type { Failure } from '../server/explain.js';

export interface Answer {
  readonly state: 'waiting' | 'thinking' | 'writing' | 'done' | 'stopped' | 'failed';
  /** Joined, they are the answer. */
  readonly tokens: readonly string[];
  /** What was read for each token; empty for a chat without a document. */
  readonly readMaps: readonly ReadMap[];
  /** Whether the answer ends because no more tokens fit. */
  readonly isCut: boolean;
  /** From the question to the first token, ms, as this page measured it. */
  readonly firstTokenMs: number | null;
  /** As this page measured it, while the answer comes in. */
  readonly tokensPerSecond: number | null;
  /** The server's own figures, at the end. */
  readonly statistics: Statistics | null;
  readonly failure: Failure | null;
}

export interface Turn {
  readonly question: string;
  readonly answer: Answer;
}

export const emptyAnswer: Answer = {
  state: 'waiting',
  tokens: [],
  readMaps: [],
  isCut: false,
  firstTokenMs: null,
  tokensPerSecond: null,
  statistics: null,
  failure: null,
};

export function isRunning({ state }: Answer): boolean {
  return state === 'waiting' || state === 'thinking' || state === 'writing';
}
