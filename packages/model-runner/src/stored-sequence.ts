/**
 * The tokens of a session and the engine's sequence that stores them. All tokens are stored except, usually, the last: it is decoded when
 * the next token is asked for, by a decode step whose query the selector serves. So a prompt's last token costs nothing twice.
 */
import type { SelectorOptions } from '@ctkvr/core';
import type { NativeSequence } from '@ctkvr/native';
import type { RequestResult, StepComposer, StepOutput, StepRequestOptions } from '@ctkvr/scheduler';
import { removeAbandonedSaves } from './abandoned-saves.js';
import { missesQueries, queriesWanted, shouldBuildBeforeDecode } from './index-policy.js';
import { type FoundPrompt, KeptPrompt } from './kept-prompt.js';
import type { AdmittedRoom } from './memory-admission.js';
import type { Operation } from './operation.js';
import { type PromptStages, planStages } from './prompt-stages.js';
import { type HistoryPart, SequenceHistory } from './sequence-history.js';
import type { IndexReport, TokenStatistics } from './session-types.js';

export interface DecodeOptions {
  readonly output: StepOutput;
  readonly audit?: boolean | undefined;
  readonly readMap?: boolean | undefined;
}

export interface Decoded {
  readonly result: RequestResult;
  readonly statistics: TokenStatistics;
}

/** What a prompt may begin from, and what becomes of it once it is read. */
export interface PrefixSource {
  /** Returns a kept prompt and how many tokens of it are the same. */
  find(ids: Int32Array): Promise<FoundPrompt | null>;
  /** Takes over a prompt that has been read. */
  keep(ids: Int32Array, prompt: KeptPrompt): void;
}

export interface StoredPrompt {
  /** Tokens of the kept beginning that were not read again. */
  readonly numCached: number;
  /** Whether its index is still to be built, or extended. */
  readonly buildsEnd: boolean;
}

export interface StoredSequenceParts {
  readonly native: NativeSequence;
  readonly composer: StepComposer<NativeSequence>;
  readonly selector: SelectorOptions;
  /** Its place in the memory; null for one whose memory was reserved when it was made. */
  readonly room?: AdmittedRoom | null;
}

/** Milliseconds of an index build after which other sessions get a step: a few tokens' time. */
const buildSliceMs = 40;

export class StoredSequence {
  #native: NativeSequence;
  /** What it has given to later requests. */
  #kept: KeptPrompt | null = null;
  readonly #composer: StepComposer<NativeSequence>;
  readonly #ids: number[] = [];
  readonly #room: AdmittedRoom | null;
  readonly #history = new SequenceHistory();
  #selector: SelectorOptions;

  constructor({ native, composer, selector, room = null }: StoredSequenceParts) {
    this.#native = native;
    this.#room = room;
    this.#composer = composer;
    this.#selector = selector;
  }

  get native(): NativeSequence {
    return this.#native;
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

  /** Bytes held now. */
  get heldBytes(): number {
    const { kvBytes, indexBytes } = this.native.memory;
    return kvBytes + indexBytes;
  }

  /** Bytes that an admitted sequence has room for; null when its whole context was reserved. */
  get admittedBytes(): number | null {
    return this.#room?.bytes ?? null;
  }

  /** The same tokens on a fork of the engine's sequence. */
  fork(): StoredSequence {
    const fork = new StoredSequence({ native: this.native.fork(), composer: this.#composer, selector: this.#selector });
    fork.resume(this.#ids);
    this.#room?.pin(); // to drop shared pages frees nothing
    return fork;
  }

  /** Takes over tokens, most of which the engine's sequence holds: in what steps they came is not known. */
  resume(ids: ArrayLike<number>): void {
    this.push(ids);
    this.#history.lose();
  }

  /** Writes the engine's sequence to a file, with notes about the session. Returns the file's bytes. */
  async save(operation: Operation, path: string, notes: string): Promise<number> {
    const save = () => this.native.save(path, notes);
    await removeAbandonedSaves(path); // before: they may take the room that this one needs
    const { bytes } = await operation.track(this.#composer.runExclusive(save, { signal: operation.signal }));
    return bytes;
  }

  close(): void {
    this.native.close();
    this.#kept?.stopSharing();
    this.#room?.leave();
  }

  setSelector(selector: SelectorOptions): void {
    this.native.setSelector(selector);
    this.#selector = selector;
    if (this.native.length > 0) this.#history.lose();
    this.#pinUnlessPlain();
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
    const end = this.length - 1;
    await this.#makeRoom(operation, end);
    const tokens = this.#ids.slice(this.native.length, end);
    if (tokens.length === 0) return 0;
    const report = ({ tokensDone }: { readonly tokensDone: number }) => onProgress(tokensDone);
    await this.#append(operation, tokens, { phase: 'prefill', output: 'none', onProgress: report });
    this.#history.add({ kind: 'prefill', end });
    return tokens.length;
  }

  /**
   * Stores all tokens of a prompt but the last, from the longest kept beginning on, and keeps what it has read. Nothing is stored before. What it
   * then holds, and what the build that is left makes of it, is the same to the bit with and without a kept beginning.
   */
  async storePrompt(
    operation: Operation,
    prefixes: PrefixSource,
    onProgress: (tokensDone: number) => void,
  ): Promise<StoredPrompt> {
    const end = this.length - 1;
    await this.#makeRoom(operation, end);
    this.#kept?.stopSharing();
    const ids = Int32Array.from(this.#ids.slice(0, end));
    const found = await prefixes.find(ids);
    const kept = found === null ? undefined : found.value.cut(found.length);
    const stages = planStages(end, this.#selector, kept);
    if (found !== null) this.#beginFrom(found.value.native, stages);
    if (found?.isOwn) found.value.close();
    const parts: HistoryPart[] = [];
    if (stages.base !== null) {
      if (stages.buildsBase) {
        await this.#prefill(operation, stages.base, onProgress);
        await this.#build(operation);
      }
      parts.push({ kind: 'prefill', end: stages.base }, { kind: 'build', end: stages.base });
    }
    await this.#prefill(operation, end, onProgress);
    if (end > (stages.base ?? 0)) parts.push({ kind: 'prefill', end });
    this.#history.set(parts);
    const queriesFrom = end - this.native.numRecentQueries;
    this.#kept = new KeptPrompt({ native: this.native.fork(), indexedAt: stages.base, queriesFrom });
    prefixes.keep(ids, this.#kept);
    return { numCached: stages.from, buildsEnd: stages.buildsEnd };
  }

  /** Stores the last token; what it gives is the next token's distribution. Builds the index first when it is due. */
  async decode(operation: Operation, { output, audit = false, readMap = false }: DecodeOptions): Promise<Decoded> {
    operation.check();
    this.#truncateNative(this.length - 1);
    await this.#makeRoom(operation, this.length);
    if (this.native.length < this.length - 1) await this.store(operation, () => {}); // what an interrupted build left out
    if (shouldBuildBeforeDecode({ sequence: this.native, selector: this.#selector })) await this.buildIndex(operation);
    const startedAt = performance.now();
    const result = await this.#append(operation, this.#ids.slice(this.native.length), {
      phase: 'decode',
      output,
      audit,
      readMap,
    });
    this.#history.add({ kind: 'decode', end: this.length });
    const { counters, timings, numSequences } = result;
    return { result, statistics: { msPerToken: performance.now() - startedAt, counters, timings, numSequences } };
  }

  /** Builds the index over what is stored, or brings it up to date. Runs the last tokens again first, if too few of their queries are held. */
  async buildIndex(operation: Operation): Promise<IndexReport> {
    await this.#makeRoom(operation, this.length);
    const { length } = this.native;
    const state = { sequence: this.native, selector: this.#selector };
    if (missesQueries(state)) {
      this.#truncateNative(length - queriesWanted(state));
      await this.#append(operation, this.#ids.slice(this.native.length, length), { phase: 'prefill', output: 'none' });
    }
    const report = await this.#build(operation);
    this.#history.add({ kind: 'build', end: this.native.length });
    return report;
  }

  /** Takes the place of the empty sequence. */
  #beginFrom(kept: NativeSequence, { from, dropsIndex }: PromptStages): void {
    const empty = this.#native;
    this.#native = kept.fork();
    empty.close();
    this.native.truncate(from);
    if (!dropsIndex) return;
    // An index goes with the settings it was built with.
    this.native.setSelector({ ...this.#selector, method: 'full' });
    this.native.setSelector(this.#selector);
  }

  async #prefill(operation: Operation, end: number, onProgress: (tokensDone: number) => void): Promise<void> {
    const from = this.native.length;
    if (from >= end) return;
    const report = ({ tokensDone }: { readonly tokensDone: number }) => onProgress(from + tokensDone);
    await this.#append(operation, this.#ids.slice(from, end), { phase: 'prefill', output: 'none', onProgress: report });
  }

  async #build(operation: Operation): Promise<IndexReport> {
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
    this.#history.cut(length);
    this.#pinUnlessPlain();
  }

  #pinUnlessPlain(): void {
    if (!this.#history.isPlain) this.#room?.pin();
  }

  /** Waits until memory has room for `numTokens` in all. A preempted sequence gives its memory up, waits, and is computed again. */
  async #makeRoom(operation: Operation, numTokens: number): Promise<void> {
    const room = this.#room;
    if (room === null) return;
    for (;;) {
      if (await room.grow(numTokens, operation.signal)) {
        await this.#computeAgain(operation, room);
        if (!room.isPreempted) return;
      }
      this.native.truncate(0);
      this.#kept?.stopSharing();
      this.#history.rewind();
      await room.giveBack(numTokens, operation.signal);
    }
  }

  /** Takes the parts that are not held, in their order; stops when the memory is wanted back. */
  async #computeAgain(operation: Operation, room: AdmittedRoom): Promise<void> {
    for (let part = this.#history.next; part !== undefined && !room.isPreempted; part = this.#history.next) {
      await this.#computePart(operation, part);
      if (this.native.length === part.end) this.#history.done();
    }
  }

  async #computePart(operation: Operation, { kind, end }: HistoryPart): Promise<void> {
    if (kind === 'build') {
      await this.#build(operation);
      return;
    }
    const from = this.native.length;
    const tokens = this.#ids.slice(from, kind === 'decode' ? from + 1 : end);
    await this.#append(operation, tokens, { phase: kind, output: 'none' });
  }

  async #append(
    operation: Operation,
    tokens: readonly number[],
    options: Omit<StepRequestOptions, 'signal'>,
  ): Promise<RequestResult> {
    return await operation.track(this.#composer.append(this.native, tokens, { ...options, signal: operation.signal }));
  }
}
