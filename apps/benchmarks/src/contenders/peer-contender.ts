/**
 * node-llama-cpp behind the contender interface. Threads and flash attention belong to a context, so changing them makes a new one; the
 * prefilled states are kept in files, by sequence and what their layout depends on, and loaded into each new context, which spares a long
 * prefill for every thread count that is tried.
 */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type {
  BesideSample,
  Contender,
  ContenderSettings,
  DecodeSample,
  OpenOptions,
  OpenSample,
  PrefillSample,
  TogetherSample,
} from './contender.js';
import type { PeerContext, PeerModel, PeerModule, PeerSequence } from './peer-api.js';
import { endless, gapsDuring, gapsOf, timeTogether } from './time-streams.js';

/** Greedy, and an end-of-turn token is a token like any other: the number of tokens must not depend on what the model says. */
const evaluation = { temperature: 0, yieldEogToken: true } as const;

interface Prefilled {
  readonly stateFile: string;
  /** Evaluated first by each decode, so that every measured step is a decode of one token. */
  readonly lastToken: number;
}

export class PeerContender implements Contender {
  readonly #peer: PeerModule;
  /** By settings that a state belongs to, then by sequence. */
  readonly #prefilled = new Map<string, Prefilled[]>();
  #model!: PeerModel;
  #contextLength = 0;
  #stateFolder = '';
  #context: PeerContext | null = null;
  #sequences: PeerSequence[] = [];
  /** Flash attention and number of sequences: states of one kind do not fit into contexts of another. */
  #kind = '';

  constructor(peer: PeerModule) {
    this.#peer = peer;
  }

  async open({ modelPath, contextLength }: OpenOptions): Promise<OpenSample> {
    const startedAt = performance.now();
    const llama = await this.#peer.getLlama({
      gpu: false,
      build: 'never',
      skipDownload: true,
      maxThreads: 0,
      logLevel: 'error',
      progressLogs: false,
    });
    this.#model = await llama.loadModel({ modelPath, gpuLayers: 0 });
    const loadMs = performance.now() - startedAt;
    this.#contextLength = contextLength;
    this.#stateFolder = await mkdtemp(path.join(tmpdir(), 'ctkvr-bench-'));
    return { loadMs };
  }

  async configure(settings: ContenderSettings): Promise<void> {
    const { threads = 1, flashAttention = false, sequences = 1, batchSize } = settings;
    await this.#context?.dispose();
    const context = await this.#model.createContext({
      contextSize: this.#contextLength,
      threads,
      flashAttention,
      sequences,
      ...(batchSize === undefined ? {} : { batchSize }),
    });
    this.#context = context;
    this.#kind = `flash-${flashAttention}-of-${sequences}`;
    this.#sequences = Array.from({ length: sequences }, () => context.getSequence());
    for (const index of this.#sequences.keys()) await this.#restore(index);
  }

  async prefill(tokens: Int32Array, sequence = 0): Promise<PrefillSample> {
    const target = this.#sequence(sequence);
    await target.clearHistory();
    const startedAt = performance.now();
    const iterator = target.evaluate([...tokens], evaluation);
    await iterator.next();
    const firstTokenMs = performance.now() - startedAt;
    await iterator.return();
    await rollback(target, tokens.length - 1);
    const stateFile = path.join(this.#stateFolder, `${this.#kind}-${sequence}.state`);
    await target.saveStateToFile(stateFile);
    const states = this.#states();
    states[sequence] = { stateFile, lastToken: tokens.at(-1)! };
    this.#prefilled.set(this.#kind, states);
    for (const index of this.#sequences.keys()) if (states[index] === undefined) await this.#restore(index);
    return { firstTokenMs, threads: this.#threads };
  }

  async decode(numTokens: number): Promise<DecodeSample> {
    const msPerToken = await gapsOf(this.#generate(numTokens + 1));
    return { msPerToken, threads: this.#threads, attentionBytes: null };
  }

  async decodeTogether(numTokens: number, numSequences: number): Promise<TogetherSample> {
    const streams = Array.from({ length: numSequences }, (_, sequence) => this.#generate(numTokens + 1, sequence));
    const totalMs = await timeTogether(streams, numTokens);
    for (const stream of streams) await stream.return();
    return { numTokens: numTokens * streams.length, totalMs, threads: this.#threads, attentionBytes: null };
  }

  async decodeBesidePrefill(numTokens: number, prompt: Int32Array): Promise<BesideSample> {
    const other = this.#sequence(this.#sequences.length - 1);
    if (other === this.#sequence(0)) throw new Error('the context has no second sequence');
    await other.clearHistory();
    const { msPerToken: aloneMs } = await this.decode(numTokens);
    const room = this.#contextLength - this.#sequence(0).nextTokenIndex - 2; // it shifts its context when that is full
    const { gapsMs, workMs } = await gapsDuring(
      endless(() => this.#generate(room)),
      () => other.evaluateWithoutGeneratingNewTokens([...prompt]),
    );
    await other.clearHistory();
    return { aloneMs, besideMs: gapsMs, prefillMs: workMs, threads: this.#threads };
  }

  async peakMemory(): Promise<number> {
    return process.resourceUsage().maxRSS * 1024;
  }

  discard(): void {
    if (this.#stateFolder !== '') rmSync(this.#stateFolder, { recursive: true, force: true });
  }

  /** Generates from a prefilled sequence, and puts it back afterwards. */
  async *#generate(numTokens: number, sequence = 0): AsyncGenerator<number, void, undefined> {
    const state = this.#state(sequence);
    if (state === undefined) throw new Error('decode before prefill with these settings');
    const target = this.#sequence(sequence);
    const start = target.nextTokenIndex;
    const iterator = target.evaluate([state.lastToken], evaluation);
    try {
      for (let i = 0; i < numTokens; i++) {
        const { value, done } = await iterator.next();
        if (done) throw new Error(`node-llama-cpp ended after ${i} of ${numTokens} tokens`);
        yield value;
      }
    } finally {
      await iterator.return();
      await rollback(target, start);
    }
  }

  get #threads(): number {
    return this.#context!.currentThreads;
  }

  #states(): Prefilled[] {
    return this.#prefilled.get(this.#kind) ?? [];
  }

  #state(sequence: number): Prefilled | undefined {
    return this.#states()[sequence] ?? this.#states()[0];
  }

  /** Puts a sequence where its decodes begin, if it has been prefilled under these settings. */
  async #restore(sequence: number): Promise<void> {
    const state = this.#state(sequence);
    if (state) await this.#sequence(sequence).loadStateFromFile(state.stateFile, { acceptRisk: true });
  }

  #sequence(index: number): PeerSequence {
    const sequence = this.#sequences[index];
    if (sequence === undefined) throw new Error(`the context has ${this.#sequences.length} sequences, no ${index}`);
    return sequence;
  }
}

/** Drops what was evaluated from `length` on. */
async function rollback(sequence: PeerSequence, length: number): Promise<void> {
  const end = sequence.nextTokenIndex;
  if (end > length) await sequence.eraseContextTokenRanges([{ start: length, end }]);
}
