/**
 * node-llama-cpp behind the contender interface. Threads and flash attention belong to a context, so changing them makes a new one; the
 * prefilled state is kept in a file per flash setting (their layouts differ) and loaded into each new context, which spares a long prefill
 * for every thread count that is tried.
 */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Contender, ContenderSettings, DecodeSample, OpenOptions, PrefillSample } from './contender.js';
import type { PeerContext, PeerModel, PeerModule, PeerSequence } from './peer-api.js';

/** Greedy, and an end-of-turn token is a token like any other: the number of tokens must not depend on what the model says. */
const evaluation = { temperature: 0, yieldEogToken: true } as const;

interface Prefilled {
  readonly stateFile: string;
  /** Evaluated first by each decode, so that every measured step is a decode of one token. */
  readonly lastToken: number;
}

export class PeerContender implements Contender {
  readonly #peer: PeerModule;
  readonly #prefilled = new Map<boolean, Prefilled>();
  #model!: PeerModel;
  #contextLength = 0;
  #stateFolder = '';
  #context: PeerContext | null = null;
  #sequence!: PeerSequence;
  #flashAttention = false;

  constructor(peer: PeerModule) {
    this.#peer = peer;
  }

  async open({ modelPath, contextLength }: OpenOptions): Promise<void> {
    const llama = await this.#peer.getLlama({
      gpu: false,
      build: 'never',
      skipDownload: true,
      maxThreads: 0,
      logLevel: 'error',
      progressLogs: false,
    });
    this.#model = await llama.loadModel({ modelPath, gpuLayers: 0 });
    this.#contextLength = contextLength;
    this.#stateFolder = await mkdtemp(path.join(tmpdir(), 'ctkvr-bench-'));
  }

  async configure({ threads = 1, flashAttention = false }: ContenderSettings): Promise<void> {
    await this.#context?.dispose();
    this.#context = await this.#model.createContext({
      contextSize: this.#contextLength,
      threads,
      flashAttention,
      sequences: 1,
    });
    this.#sequence = this.#context.getSequence();
    this.#flashAttention = flashAttention;
    const prefilled = this.#prefilled.get(flashAttention);
    if (prefilled) await this.#sequence.loadStateFromFile(prefilled.stateFile, { acceptRisk: true });
  }

  async prefill(tokens: Int32Array): Promise<PrefillSample> {
    await this.#sequence.clearHistory();
    const startedAt = performance.now();
    const iterator = this.#sequence.evaluate([...tokens], evaluation);
    await iterator.next();
    const firstTokenMs = performance.now() - startedAt;
    await iterator.return();
    await this.#rollback(tokens.length - 1);
    const stateFile = path.join(this.#stateFolder, `flash-${this.#flashAttention}.state`);
    await this.#sequence.saveStateToFile(stateFile);
    this.#prefilled.set(this.#flashAttention, { stateFile, lastToken: tokens.at(-1)! });
    return { firstTokenMs, threads: this.#context!.currentThreads };
  }

  async decode(numTokens: number): Promise<DecodeSample> {
    const prefilled = this.#prefilled.get(this.#flashAttention);
    if (!prefilled) throw new Error('decode before prefill with these settings');
    const start = this.#sequence.nextTokenIndex;
    const iterator = this.#sequence.evaluate([prefilled.lastToken], evaluation);
    await iterator.next();
    const msPerToken: number[] = [];
    for (let step = 0; step < numTokens; step++) {
      const startedAt = performance.now();
      await iterator.next();
      msPerToken.push(performance.now() - startedAt);
    }
    await iterator.return();
    await this.#rollback(start);
    return { msPerToken, threads: this.#context!.currentThreads, attentionBytes: null };
  }

  async peakMemory(): Promise<number> {
    return process.resourceUsage().maxRSS * 1024;
  }

  discard(): void {
    if (this.#stateFolder !== '') rmSync(this.#stateFolder, { recursive: true, force: true });
  }

  async #rollback(length: number): Promise<void> {
    const end = this.#sequence.nextTokenIndex;
    if (end > length) await this.#sequence.eraseContextTokenRanges([{ start: length, end }]);
  }
}
