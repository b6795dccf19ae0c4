/** What one request adds to the metrics, as it goes its way. */
import type { ChatFinish } from '../chat-engine.js';
import type { Families } from './families.js';

interface Labels {
  readonly model_name: string;
  readonly caller: string;
}

export class RequestRecord {
  readonly #families: Families;
  readonly #labels: Labels;
  /** Looked up once: it is told of every token. */
  readonly #betweenTokens: { observe(seconds: number): void };
  readonly #cameAt = performance.now();
  #lastTextAt: number | null = null;
  #finish: ChatFinish | null = null;

  constructor(families: Families, labels: Labels) {
    this.#families = families;
    this.#labels = labels;
    this.#betweenTokens = families.betweenTokens.labels(labels.model_name);
  }

  /** It has a slot. */
  start(): void {
    this.#families.queueTime.labels(this.#labels.model_name).observe(secondsSince(this.#cameAt));
  }

  /** A piece of its answer came. */
  text(): void {
    if (this.#lastTextAt === null) {
      this.#families.firstToken.labels(this.#labels.model_name).observe(secondsSince(this.#cameAt));
    } else this.#betweenTokens.observe(secondsSince(this.#lastTextAt));
    this.#lastTextAt = performance.now();
  }

  /** Its answer is whole. */
  finish(numPromptTokens: number, finish: ChatFinish): void {
    const { promptTokens, generatedTokens, prefixQueries, prefixHits, keysRead, attentionMass } = this.#families;
    const labels = { ...this.#labels };
    promptTokens.inc(labels, numPromptTokens);
    prefixQueries.inc(labels, numPromptTokens);
    prefixHits.inc(labels, finish.numCachedTokens);
    generatedTokens.inc(labels, finish.numCompletionTokens);
    const { keys_read_per_head: keys, attention_mass: mass } = finish.statistics;
    if (keys !== null) keysRead.labels(labels.model_name).observe(keys);
    if (mass !== null) attentionMass.labels(labels.model_name).observe(mass);
    this.#finish = finish;
  }

  /** It has ended. @param outcome `answered`, or the code of the error it ended with; a client that left aborted it. */
  end(outcome: string | null): void {
    const { successes, failures, wholeRequest } = this.#families;
    const finished_reason =
      outcome === 'client_left' ? 'abort' : outcome === 'answered' ? this.#finish?.reason : undefined;
    if (finished_reason === undefined) {
      failures.inc({ ...this.#labels, code: outcome ?? 'unknown' });
      return;
    }
    successes.inc({ ...this.#labels, finished_reason });
    wholeRequest.labels(this.#labels.model_name).observe(secondsSince(this.#cameAt));
  }
}

function secondsSince(startMs: number): number {
  return (performance.now() - startMs) / 1000;
}
