/**
 * The tokens of a session and the engine's sequence that stores them. All tokens are stored except, usually, the last: it is decoded when
 * the next token is asked for, by a decode step whose query the selector serves. So a prompt's last token costs nothing twice.
 */
import type { SelectorOptions } from '@ctkvr/core';
import type { NativeSequence } from '@ctkvr/native';
import type { RequestResult, StepComposer, StepOutput } from '@ctkvr/scheduler';
import { missesQueries, queriesWanted, shouldBuildBeforeDecode } from './index-policy.js';
import type { Operation } from './operation.js';
import type { IndexReport, TokenStatistics } from './session-types.js';

export interface DecodeOptions {
  readonly output: StepOutput;
  readonly audit: boolean | undefined;
}

export interface Decoded {
  readonly result: RequestResult;
  readonly statistics: TokenStatistics;
}

export interface StoredSequenceParts {
  readonly native: NativeSequence;
  readonly composer: StepComposer<NativeSequence>;
  readonly selector: SelectorOptions;
}

/** Milliseconds of an index build after which other sessions get a step: a few tokens' time. */
const buildSliceMs = 40;

export class StoredSequence {
  readonly native: NativeSequence;
  readonly #composer: StepComposer<NativeSequence>;
  readonly #ids: number[] = [];
  #selector: SelectorOptions;

  constructor({ native, composer, selector }: StoredSequenceParts) {
    this.native = native;
    this.#composer = composer;
    this.#selector = selector;
  }

  get length(): number {
    return this.#ids.length;
  }

  /** A copy of all token ids. */
  get ids(): Int32Array {
    return Int32Array.from(this.#ids);
  }

  get selector(): SelectorOptions {
    return this.#selector;
  }

  /** The same tokens on a fork of the engine's sequence. */
  fork(): StoredSequence {
    const fork = new StoredSequence({ native: this.native.fork(), composer: this.#composer, selector: this.#selector });
    fork.push(this.#ids);
    return fork;
  }

  /** Writes the engine's sequence to a file, with notes about the session. Returns the file's bytes. */
  async save(operation: Operation, path: string, notes: string): Promise<number> {
    const save = () => this.native.save(path, notes);
    const { bytes } = await operation.track(this.#composer.runExclusive(save, { signal: operation.signal }));
    return bytes;
  }

  setSelector(selector: SelectorOptions): void {
    this.native.setSelector(selector);
    this.#selector = selector;
  }

  /** Adds tokens behind the others, without storing them. */
  push(ids: ArrayLike<number>): void {
    for (let i = 0; i < ids.length; i++) this.#ids.push(ids[i] ?? 0);
  }

  /** Drops tokens from `length` on, in the engine too. */
  truncate(length: number): void {
    this.#truncateNative(length);
    this.#ids.length = length;
  }

  /** Length of the longest common beginning with `ids`. */
  commonPrefix(ids: ArrayLike<number>): number {
    let length = 0;
    while (length < ids.length && length < this.#ids.length && ids[length] === this.#ids[length]) length++;
    return length;
  }

  /** Stores all tokens but the last. Returns how many that were. */
  async store(operation: Operation, onProgress: (tokensDone: number) => void): Promise<number> {
    const tokens = this.#ids.slice(this.native.length, -1);
    if (tokens.length === 0) return 0;
    await this.#append(operation, tokens, { output: 'none', onProgress: ({ tokensDone }) => onProgress(tokensDone) });
    return tokens.length;
  }

  /** Stores the last token; what it gives is the next token's distribution. Builds the index first when it is due. */
  async decode(operation: Operation, { output, audit = false }: DecodeOptions): Promise<Decoded> {
    operation.check();
    this.#truncateNative(this.length - 1);
    if (shouldBuildBeforeDecode({ sequence: this.native, selector: this.#selector })) await this.buildIndex(operation);
    const startedAt = performance.now();
    const result = await this.#append(operation, this.#ids.slice(this.native.length), { output, audit });
    const { counters, timings, numSequences } = result;
    return { result, statistics: { msPerToken: performance.now() - startedAt, counters, timings, numSequences } };
  }

  /** Builds the index over what is stored, or brings it up to date. Runs the last tokens again first, if too few of their queries are held. */
  async buildIndex(operation: Operation): Promise<IndexReport> {
    const { length } = this.native;
    const state = { sequence: this.native, selector: this.#selector };
    if (missesQueries(state)) {
      this.#truncateNative(length - queriesWanted(state));
      await this.#append(operation, this.#ids.slice(this.native.length, length), { output: 'none' });
    }
    const build = () => this.native.buildIndex(buildSliceMs);
    for (let buildMs = 0; ; ) {
      const { headsLeft, ...part } = await operation.track(
        this.#composer.runExclusive(build, { signal: operation.signal }),
      );
      buildMs += part.buildMs;
      if (headsLeft === 0) return { ...part, buildMs };
    }
  }

  #truncateNative(length: number): void {
    if (this.native.length <= length) return;
    this.native.truncate(length);
  }

  async #append(
    operation: Operation,
    tokens: readonly number[],
    options: { output: StepOutput; audit?: boolean; onProgress?: (progress: { tokensDone: number }) => void },
  ): Promise<RequestResult> {
    return await operation.track(this.#composer.append(this.native, tokens, { ...options, signal: operation.signal }));
  }
}
