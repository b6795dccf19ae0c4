/**
 * Our engine behind the contender interface. Each sequence has one session, prefilled and indexed; each turn decodes on forks of them, so no
 * turn sees what another decoded.
 */
import { argmax, klDivergence } from '@ctkvr/evaluation';
import { type GenerateEvent, loadModel, type Model, type Session } from '@ctkvr/model-runner';
import { loadBinding } from '@ctkvr/native';
import { sampleStatistics } from '../sample-statistics.js';
import type {
  BesideSample,
  ContenderSettings,
  DecodeSample,
  OpenOptions,
  OpenSample,
  PrefillSample,
  QualitySample,
  ReferenceContender,
  TogetherSample,
} from './contender.js';
import { greedyGeneration } from './greedy-generation.js';
import { endless, gapsDuring, gapsOf, timeTogether } from './time-streams.js';

export class CtkvrContender implements ReferenceContender {
  #model!: Model;
  #contextLength = 0;
  #settings: ContenderSettings = {};
  /** One a sequence. */
  readonly #prefilled: Session[] = [];

  async open({ modelPath, contextLength }: OpenOptions): Promise<OpenSample> {
    const startedAt = performance.now();
    this.#model = await loadModel(modelPath, { contextLength });
    this.#contextLength = contextLength;
    return { loadMs: performance.now() - startedAt };
  }

  async configure(settings: ContenderSettings): Promise<void> {
    this.#settings = settings;
  }

  async tokenize(text: string): Promise<Int32Array> {
    return this.#model.tokenize(text);
  }

  async prefill(tokens: Int32Array, sequence = 0): Promise<PrefillSample> {
    await this.#prefilled[sequence]?.close();
    const session = this.#createSession();
    this.#prefilled[sequence] = session;
    const startedAt = performance.now();
    await session.prefill(tokens);
    for await (const _event of session.generate({ ...greedyGeneration, maxTokens: 1 }));
    const firstTokenMs = performance.now() - startedAt;
    session.truncate(tokens.length);
    return { firstTokenMs, threads: this.#model.numThreads };
  }

  async decode(numTokens: number): Promise<DecodeSample> {
    const attentionBytes: number[] = [];
    const msPerToken = await gapsOf(this.#generate({ numTokens: numTokens + 1, attentionBytes }));
    return { msPerToken, threads: this.#model.numThreads, attentionBytes: medianBytes(attentionBytes) };
  }

  async decodeTogether(numTokens: number, numSequences: number): Promise<TogetherSample> {
    const attentionBytes: number[] = [];
    const streams = Array.from({ length: numSequences }, (_, sequence) =>
      this.#generate({ numTokens: numTokens + 1, sequence, attentionBytes }),
    );
    const totalMs = await timeTogether(streams, numTokens);
    await Promise.all(streams.map((stream) => stream.return()));
    return {
      numTokens: numTokens * streams.length,
      totalMs,
      threads: this.#model.numThreads,
      attentionBytes: medianBytes(attentionBytes),
    };
  }

  async decodeBesidePrefill(numTokens: number, prompt: Int32Array): Promise<BesideSample> {
    const { msPerToken: aloneMs, threads } = await this.decode(numTokens);
    await using other = this.#createSession();
    const room = this.#contextLength - this.#prefilled[0]!.length;
    const { gapsMs, workMs } = await gapsDuring(
      endless(() => this.#generate({ numTokens: room })),
      () => other.prefill(prompt),
    );
    return { aloneMs, besideMs: gapsMs, prefillMs: workMs, threads };
  }

  async quality(tokens: Int32Array, sequence = 0): Promise<QualitySample> {
    await using dense = this.#fork({ method: 'full' }, sequence);
    await using sparse = this.#fork(this.#settings, sequence);
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

  #createSession(): Session {
    return this.#model.createSession({
      contextLength: this.#contextLength,
      kvFormat: this.#settings.kvFormat,
      selector: selectorOf(this.#settings),
    });
  }

  /** Generates on a fork of a prefilled sequence. `attentionBytes` receives what each token's step read for it. */
  async *#generate(options: {
    readonly numTokens: number;
    readonly sequence?: number;
    readonly attentionBytes?: number[];
  }): AsyncGenerator<GenerateEvent, void, undefined> {
    const { numTokens, sequence = 0, attentionBytes } = options;
    await using session = this.#fork(this.#settings, sequence);
    for await (const event of session.generate({ ...greedyGeneration, maxTokens: numTokens })) {
      if (event.statistics.counters) attentionBytes?.push(event.statistics.counters.bytesRead);
      yield event;
    }
  }

  #fork(settings: ContenderSettings, sequence: number): Session {
    const prefilled = this.#prefilled[sequence] ?? this.#prefilled[0];
    if (prefilled === undefined) throw new Error('decode before prefill');
    const session = prefilled.fork();
    session.setSelector(selectorOf(settings));
    return session;
  }
}

function medianBytes(bytes: readonly number[]): number | null {
  return bytes.length === 0 ? null : Math.round(sampleStatistics(bytes).median);
}

function selectorOf({ method = 'ctkvr', denseBelow }: ContenderSettings) {
  return { method, ...(denseBelow === undefined ? {} : { denseBelow }) };
}
