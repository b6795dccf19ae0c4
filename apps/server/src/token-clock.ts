/** Times the tokens of an answer as they come, and keeps what the last step read. */
import type { SelectionCounters } from '@ctkvr/core';
import type { ChatStatistics } from './chat-engine.js';

type Counters = Pick<SelectionCounters, 'heads' | 'keysTotal' | 'keysRead' | 'estimatedMass'>;

/** Made when the prefill starts. */
export class TokenClock {
  readonly #startedAt = performance.now();
  /** Query heads for each KV head. */
  readonly #groupSize: number;
  #firstAt: number | null = null;
  #lastAt = 0;
  #numTokens = 0;
  #counters: Counters | null = null;

  constructor(groupSize: number) {
    this.#groupSize = groupSize;
  }

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
      attention_mass: this.#attentionMass(),
    };
  }

  #attentionMass(): number | null {
    if (!this.#counters?.heads) return null;
    const { estimatedMass, heads } = this.#counters;
    return Math.round((estimatedMass / (heads * this.#groupSize)) * 10_000) / 10_000;
  }
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
