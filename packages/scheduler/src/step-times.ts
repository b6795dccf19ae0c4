/**
 * Estimates step times, to decide how many prefill tokens may share a step with decodes: every decode of a step waits for the whole step.
 *
 * The model of a step's time: its decodes alone, plus a time for each prefilled token. Both change with the context and the machine's load,
 * so they are learnt from the steps that were run.
 */

/** Prefill tokens beside decodes before a token's time is known. */
const FIRST_TOKENS = 16;
/** Steps have few sizes, since engines reuse what they prepare for a size. */
const TOKENS_MULTIPLE = 4;
/** The least, so that a prompt ends: each piece reads all keys before it, whatever its size. */
const LEAST_TOKENS = 3;
/**
 * Weight of the newest step in a token's time: larger when the step was slower than expected, since callers that wait for a decode
 * notice slow steps.
 */
const SLOWER_WEIGHT = 0.5;
const FASTER_WEIGHT = 0.1;
/** A delayed decode step must not allow longer prefills: its time counts as at most this many times the last one's. */
const MOST_GROWTH = 1.2;

export interface StepLoad {
  readonly numDecodes: number;
  readonly numPrefillTokens: number;
  /** Without the growth of an index: it says nothing about the next step. */
  readonly totalMs: number;
}

export class StepTimes {
  /** Of a step of `#numDecodes` decodes and nothing else. */
  #decodeMs: number | null = null;
  #numDecodes = 0;
  #msPerPrefillToken: number | null = null;

  observe({ numDecodes, numPrefillTokens, totalMs }: StepLoad): void {
    if (numPrefillTokens === 0) {
      const same = this.#decodeMs !== null && numDecodes === this.#numDecodes;
      this.#decodeMs = same ? Math.min(totalMs, this.#decodeMs! * MOST_GROWTH) : totalMs;
      this.#numDecodes = numDecodes;
    } else if (numDecodes > 0 && this.#decodeMs !== null) {
      const sample = Math.max(0, totalMs - this.#decodeMs) / numPrefillTokens;
      const before = this.#msPerPrefillToken ?? sample;
      this.#msPerPrefillToken = before + (sample > before ? SLOWER_WEIGHT : FASTER_WEIGHT) * (sample - before);
    }
  }

  /**
   * Returns how many tokens a prefill may add to a step of `numDecodes` decodes so that it takes `slowdown` times as long as they alone; 0 =
   * first find out how long they take alone.
   */
  tokensBeside(numDecodes: number, slowdown: number): number {
    if (this.#decodeMs === null || numDecodes > this.#numDecodes) return 0;
    if (this.#msPerPrefillToken === null) return FIRST_TOKENS;
    const tokens = ((slowdown - 1) * this.#decodeMs) / this.#msPerPrefillToken;
    return Math.max(LEAST_TOKENS, Math.floor(tokens / TOKENS_MULTIPLE) * TOKENS_MULTIPLE);
  }
}
