/**
 * Ours behind the contender interface. One session is prefilled and kept, its index built; each turn decodes on a fork of it, so that no
 * turn sees what another one decoded.
 */
import { argmax, klDivergence } from '@ctkvr/evaluation';
import { loadModel, type Model, type Session } from '@ctkvr/model-runner';
import { loadBinding } from '@ctkvr/native';
import { sampleStatistics } from '../sample-statistics.js';
import type {
  ContenderSettings,
  DecodeSample,
  OpenOptions,
  PrefillSample,
  QualitySample,
  ReferenceContender,
} from './contender.js';

/** Greedy, and an end-of-turn token is a token like any other: the number of tokens must not depend on what the model says. */
const generation = { sampling: { temperature: 0 }, ignoreEndOfTurn: true } as const;

export class CtkvrContender implements ReferenceContender {
  #model!: Model;
  #contextLength = 0;
  #settings: ContenderSettings = {};
  #prefilled: Session | null = null;

  async open({ modelPath, contextLength }: OpenOptions): Promise<void> {
    this.#model = await loadModel(modelPath, { contextLength });
    this.#contextLength = contextLength;
  }

  async configure(settings: ContenderSettings): Promise<void> {
    this.#settings = settings;
  }

  async tokenize(text: string): Promise<Int32Array> {
    return this.#model.tokenize(text);
  }

  async prefill(tokens: Int32Array): Promise<PrefillSample> {
    await this.#prefilled?.close();
    const selector = selectorOf(this.#settings);
    const session = this.#model.createSession({ contextLength: this.#contextLength, selector });
    this.#prefilled = session;
    const startedAt = performance.now();
    await session.prefill(tokens);
    for await (const _event of session.generate({ ...generation, maxTokens: 1 }));
    const firstTokenMs = performance.now() - startedAt;
    session.truncate(tokens.length);
    return { firstTokenMs, threads: this.#model.numThreads };
  }

  async decode(numTokens: number): Promise<DecodeSample> {
    await using session = this.#fork(this.#settings);
    const msPerToken: number[] = [];
    const attentionBytes: number[] = [];
    let previousAt: number | null = null;
    for await (const event of session.generate({ ...generation, maxTokens: numTokens + 1 })) {
      const now = performance.now();
      if (previousAt !== null) msPerToken.push(now - previousAt);
      if (event.statistics.counters) attentionBytes.push(event.statistics.counters.bytesRead);
      previousAt = now;
    }
    return {
      msPerToken,
      threads: this.#model.numThreads,
      attentionBytes: attentionBytes.length === 0 ? null : Math.round(sampleStatistics(attentionBytes).median),
    };
  }

  async quality(tokens: Int32Array): Promise<QualitySample> {
    await using dense = this.#fork({ selector: 'full' });
    await using sparse = this.#fork(this.#settings);
    const reference = sparse.force(tokens);
    let [sumKl, numEqual, numSteps] = [0, 0, 0];
    for await (const step of dense.force(tokens)) {
      const other = (await reference.next()).value!;
      sumKl += klDivergence(step.logits, other.logits);
      numEqual += argmax(step.logits) === argmax(other.logits) ? 1 : 0;
      numSteps += 1;
    }
    return { meanKl: sumKl / numSteps, top1Agreement: numEqual / numSteps, numSteps };
  }

  async peakMemory(): Promise<number> {
    return loadBinding().processMemory().peakRssBytes;
  }

  discard(): void {
    // everything is in memory
  }

  #fork(settings: ContenderSettings): Session {
    if (this.#prefilled === null) throw new Error('decode before prefill');
    const session = this.#prefilled.fork();
    session.setSelector(selectorOf(settings));
    return session;
  }
}

function selectorOf({ selector = 'ctkvr', denseBelow }: ContenderSettings) {
  return { selector, ...(denseBelow === undefined ? {} : { denseBelow }) };
}
