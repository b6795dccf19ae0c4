/** Times the tokens of an answer as they come. */
import type { ChatStatistics } from './chat-engine.js';

type Counters = { readonly heads: number; readonly keysTotal: number; readonly keysRead: number };

/** Made when the prefill starts. */
export class TokenClock {
  readonly #startedAt = performance.now();
  #firstAt: number | null = null;
  #lastAt = 0;
  #numTokens = 0;
  #counters: Counters | null = null;

  tick(counters: Counters | null): void {
    this.#lastAt = performance.now();
    this.#firstAt ??= this.#lastAt;
    this.#numTokens += 1;
    this.#counters = counters ?? this.#counters;
  }

  statistics(): ChatStatistics {
    const perHead = (sum: number | undefined) =>
      sum === undefined || !this.#counters?.heads ? null : Math.round(sum / this.#counters.heads);
    const decoded = this.#numTokens - 1;
    return {
      time_to_first_token_ms: this.#firstAt === null ? null : round(this.#firstAt - this.#startedAt),
      ms_per_token: this.#firstAt === null || decoded < 1 ? null : round((this.#lastAt - this.#firstAt) / decoded),
      keys_read_per_head: perHead(this.#counters?.keysRead),
      keys_per_head: perHead(this.#counters?.keysTotal),
    };
  }
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
