/** Times the tokens of an answer as they come, and keeps what the last step read. */
import type { SelectionCounters, StepTimings } from '@ctkvr/core';
import type { ChatStatistics, StageMilliseconds } from './chat-engine.js';

type Counters = Pick<SelectionCounters, 'heads' | 'keysTotal' | 'keysRead' | 'estimatedMass'>;

/** What is timed of a token. */
export interface TickedStep {
  readonly counters: Counters | null;
  readonly timings: Omit<StepTimings, 'totalMs' | 'stages'>;
}

const noTime: StageMilliseconds = { linear: 0, retrieval: 0, attention: 0, sampling: 0, index: 0 };

/** Made when the prefill starts. */
export class TokenClock {
  readonly #startedAt = performance.now();
  /** Query heads for each KV head. */
  readonly #groupSize: number;
  #firstAt: number | null = null;
  #lastAt = 0;
  #numTokens = 0;
  #counters: Counters | null = null;
  /** Sums over the tokens after the first. */
  #stages = noTime;

  constructor(groupSize: number) {
    this.#groupSize = groupSize;
  }

  tick({ counters, timings }: TickedStep): void {
    this.#lastAt = performance.now();
    if (this.#firstAt === null) this.#firstAt = this.#lastAt;
    else this.#addStages(timings);
    this.#numTokens += 1;
    this.#counters = counters ?? this.#counters;
  }

  #addStages(timings: TickedStep['timings']): void {
    this.#stages = {
      linear: this.#stages.linear + timings.linearMs,
      retrieval: this.#stages.retrieval + timings.retrievalMs,
      attention: this.#stages.attention + timings.attentionMs,
      sampling: this.#stages.sampling + timings.samplingMs,
      index: this.#stages.index + timings.indexMs,
    };
  }

  statistics(): ChatStatistics {
    const perHead = (sum: number | undefined) =>
      sum === undefined || !this.#counters?.heads ? null : Math.round(sum / this.#counters.heads);
    const decoded = this.#numTokens - 1;
    return {
      time_to_first_token_ms: this.#firstAt === null ? null : round(this.#firstAt - this.#startedAt),
      ms_per_token: this.#firstAt === null || decoded < 1 ? null : round((this.#lastAt - this.#firstAt) / decoded),
      ms_by_stage: decoded < 1 ? null : this.#meanStages(decoded),
      keys_read_per_head: perHead(this.#counters?.keysRead),
      keys_per_head: perHead(this.#counters?.keysTotal),
      attention_mass: this.#attentionMass(),
    };
  }

  #meanStages(decoded: number): StageMilliseconds {
    const { linear, retrieval, attention, sampling, index } = this.#stages;
    return {
      linear: round(linear / decoded),
      retrieval: round(retrieval / decoded),
      attention: round(attention / decoded),
      sampling: round(sampling / decoded),
      index: round(index / decoded),
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
