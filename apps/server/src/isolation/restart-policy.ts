/** When a process that died is started again: at once, then later and later, and no more after deaths that follow each other too fast. */

export interface RestartLimits {
  /** Milliseconds to wait before each start, by how many quick deaths came before it. One more quick death than these, and it is given up. */
  readonly delaysMs: readonly number[];
  /** A process that was ready for so long, in milliseconds, did not die quickly. */
  readonly settledMs: number;
}

/** Loading a large model takes a minute: some three minutes of trying, and five chances for memory to come free. */
export const defaultRestartLimits: RestartLimits = { delaysMs: [0, 500, 2000, 8000, 30_000], settledMs: 60_000 };

export class RestartPolicy {
  readonly #limits: RestartLimits;
  #quickDeaths = 0;

  constructor(limits: RestartLimits) {
    this.#limits = limits;
  }

  /** Deaths in a row that were quick. */
  get quickDeaths(): number {
    return this.#quickDeaths;
  }

  /** Returns the milliseconds to wait before the next start; null = give up. @param readyMs how long it was ready; 0 when it never was. */
  died(readyMs: number): number | null {
    if (readyMs >= this.#limits.settledMs) this.#quickDeaths = 0;
    const delayMs = this.#limits.delaysMs[this.#quickDeaths] ?? null;
    this.#quickDeaths += 1;
    return delayMs;
  }
}
