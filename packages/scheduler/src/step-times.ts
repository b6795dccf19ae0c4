/**
 * What steps have taken lately, and so how many tokens of a prefill may ride with decodes: every decode in a step waits for all of it.
 *
 * A step is taken to last as long as its decodes alone plus a time for each prefilled token. Both drift with the context and with what else
 * the machine does, so they are learnt from the steps as they come.
 */

/** The first prefill beside decodes, before a token's time is known. */
const FIRST_TOKENS = 16;
/** Engines keep what they prepare for a step of some size: few sizes are better. */
const TOKENS_MULTIPLE = 4;
/** Or a prompt would never end: each piece reads all keys before it, and the tokens in it cost little more than that. */
const LEAST_TOKENS = 3;
/**
 * Weight of the newest of the steps that a token's time is learnt from: of one that was slower than expected, and of one that was faster.
 * Steps vary; who waits for a decode minds the slow ones.
 */
const SLOWER_WEIGHT = 0.5;
const FASTER_WEIGHT = 0.1;
/** A decode step that was held up must not make room for long prefills: its time counts up to so many times the last one's. */
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
