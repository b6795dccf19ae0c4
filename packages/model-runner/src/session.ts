/**
 * A sequence of tokens on a model, with its keys, values and index: prefill adds to it, generate goes on from its end. Sessions of one
 * model run side by side; their steps are composed into shared ones.
 */
import {
  CtkvrError,
  checkOption,
  checkOptions,
  type KvFormat,
  type SelectorOptions,
  type SequenceMemory,
  takes,
} from '@ctkvr/core';
import type { NativeSequence } from '@ctkvr/native';
import { Conversation } from './conversation.js';
import { forceTokens } from './force-tokens.js';
import { generateAnswer } from './generate-answer.js';
import { boundTo, Grammar } from './grammar.js';
import { resolveLogitBias } from './logit-bias.js';
import { estimateMemory } from './memory-estimate.js';
import type { Operation } from './operation.js';
import { contextExceededError } from './operation-errors.js';
import { OperationSlot } from './operation-slot.js';
import { prefillPrompt } from './prefill-prompt.js';
import type { PromptInput } from './prompt-plan.js';
import { resolveSampling } from './sampling-options.js';
import { selectorFor } from './selector-for.js';
import { forcedChecks, generateChecks, nestedInGenerate, prefillChecks, signalChecks } from './session-checks.js';
import type { SessionHost } from './session-host.js';
import { type SavedDocument, writeNotes } from './session-notes.js';
import type {
  ForcedOptions,
  ForcedStep,
  ForcedTokens,
  GenerateEvent,
  GenerateFinish,
  GenerateOptions,
  IndexReport,
  PrefillOptions,
  PrefillResult,
  SelectorChoice,
} from './session-types.js';
import { resolveStops } from './stop-option.js';
import type { PrefixSource, StoredSequence } from './stored-sequence.js';

/** What a new session starts from. Internal: sessions are made by `model.createSession` and `session.fork`. */
export interface SessionParts {
  readonly host: SessionHost;
  readonly sequence: StoredSequence;
  readonly contextLength: number;
  readonly kvFormat: KvFormat;
  /** null when the sequence holds tokens that came from no message. */
  readonly conversation: Conversation | null;
  /** Where its first prompt may begin. Default null: nowhere. */
  readonly prefixes?: PrefixSource | null;
}

export class Session {
  /** Tokens this session can hold. */
  readonly contextLength: number;
  /** How its keys and values are stored. */
  readonly kvFormat: KvFormat;
  readonly #host: SessionHost;
  readonly #sequence: StoredSequence;
  readonly #slot = new OperationSlot();
  readonly #prefixes: PrefixSource | null;
  #conversation: Conversation | null;
  #lastFinish: GenerateFinish | null = null;

  /** @internal Sessions are made by `Model.createSession` and `Session.fork`. */
  constructor(parts: SessionParts) {
    this.contextLength = parts.contextLength;
    this.kvFormat = parts.kvFormat;
    this.#host = parts.host;
    this.#sequence = parts.sequence;
    this.#conversation = parts.conversation;
    this.#prefixes = parts.prefixes ?? null;
    this.#host.opened(this);
  }

  /** The sequence in the engine, for measurements. Step it only while no call of this session runs. */
  get native(): NativeSequence {
    return this.#sequence.native;
  }

  /** Tokens in the session. The last one may not be in `native` yet: it is decoded with the next generated token. */
  get length(): number {
    return this.#sequence.length;
  }

  /** A copy of the session's token ids. */
  get tokens(): Int32Array {
    return this.#sequence.ids;
  }

  /** Bytes held now. Pages shared with a fork count in both. */
  get memory(): SequenceMemory {
    this.#slot.checkOpen();
    return this.native.memory;
  }

  get selector(): SelectorOptions {
    return this.#sequence.selector;
  }

  /** How the last generation ended; null before the first. */
  get lastFinish(): GenerateFinish | null {
    return this.#lastFinish;
  }

  /** Whether it was closed, or is being closed. */
  get isClosed(): boolean {
    return this.#slot.isClosing;
  }

  /** Bytes it holds. */
  get heldBytes(): number {
    return this.#sequence.heldBytes;
  }

  /** Whether it waits for memory as it grows, instead of having it reserved. */
  get isAdmitted(): boolean {
    return this.#sequence.admittedBytes !== null;
  }

  /** Bytes this session may still allocate without asking. */
  get reservedBytes(): number {
    const { admittedBytes } = this.#sequence;
    if (admittedBytes !== null) return Math.max(0, admittedBytes - this.heldBytes);
    const { info } = this.#host;
    const { contextLength, kvFormat, selector } = this;
    const full = estimateMemory({ info, contextLength, kvFormat, selector });
    const { kvBytes, indexBytes } = this.native.memory;
    return Math.max(0, full.kvBytes - kvBytes) + Math.max(0, full.indexBytes - indexBytes);
  }

  /**
   * Adds a prompt behind what the session holds: text, tokens (as they are), or messages through the model's chat template. Messages may
   * repeat the conversation so far in front. Then brings the index up to date. When it rejects, the session is as before (only a template
   * that renders earlier messages anew makes it drop them first).
   * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED before any work, CTKVR_ABORTED, CTKVR_BUSY, CTKVR_CLOSED, CTKVR_INVALID_OPTION.
   */
  async prefill(input: PromptInput, options: PrefillOptions = {}): Promise<PrefillResult> {
    checkOptions('prefill', options, prefillChecks);
    return await this.#slot.run('prefill', options.signal, async (operation) => {
      const { result, conversation } = await prefillPrompt(input, options, {
        host: this.#host,
        sequence: this.#sequence,
        contextLength: this.contextLength,
        conversation: this.#conversation,
        operation,
        prefixes: this.#prefixes,
        isClosing: () => this.#slot.isClosing,
      });
      this.#conversation = conversation;
      return result;
    });
  }

  /**
   * Generates from the session's end, token by token. Ends by the model's end of turn, maxTokens or a stop string; `lastFinish` then tells.
   * The tokens belong to the session: a stop string's and end tokens do not. Leaving the loop early keeps what was generated.
   * @throws {CtkvrError} CTKVR_ABORTED by the signal, CTKVR_CONTEXT_EXCEEDED before any work, CTKVR_BUSY, CTKVR_CLOSED,
   * CTKVR_INVALID_OPTION.
   */
  async *generate(options: GenerateOptions = {}): AsyncGenerator<GenerateEvent, void, undefined> {
    checkOptions('generate', options, generateChecks, nestedInGenerate);
    const operation = this.#slot.begin('generate', options.signal);
    try {
      yield* this.#generate(options, operation);
    } finally {
      this.#slot.end(operation);
    }
  }

  /**
   * Puts tokens behind the session's end one by one, and tells before each what the model would have said: for measurements. The tokens are
   * given, or chosen from what the model would have said by a function, `numTokens` times.
   * @throws {CtkvrError} as `generate`.
   */
  async *force(tokens: ForcedTokens, options: ForcedOptions = {}): AsyncGenerator<ForcedStep, void, undefined> {
    checkOptions('force', options, forcedChecks);
    const operation = this.#slot.begin('force', options.signal);
    try {
      const [given, choose] = typeof tokens === 'function' ? [null, tokens] : [Array.from(tokens), null];
      const numTokens = given?.length ?? this.#maxTokens(options.numTokens);
      this.#checkRoom({ added: numTokens, maxNew: 0 });
      this.#requireToken();
      yield* forceTokens({
        sequence: this.#sequence,
        operation,
        numTokens,
        tokenAt: (i, logits) => (given === null ? choose!(logits) : given[i]!),
        audit: options.audit,
      });
    } finally {
      this.#slot.end(operation);
    }
  }

  /** Builds the index over what is stored, whatever the policy says. A no-op for selectors without one. */
  async buildIndex(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<IndexReport> {
    checkOptions('buildIndex', options, signalChecks);
    return await this.#slot.run('buildIndex', options.signal, (operation) => this.#sequence.buildIndex(operation));
  }

  /**
   * A second session with the same tokens, sharing memory and index with this one; each goes on alone. Where there is no index yet
   * (`prefill(…, { buildIndex: false })`), each fork that needs one builds its own: call `buildIndex` before.
   */
  fork(): Session {
    this.#slot.checkBetweenSteps('fork');
    const { contextLength, kvFormat, selector } = this;
    this.#host.checkMemory({ contextLength, kvFormat, selector, sharedBytes: this.native.memory.kvBytes });
    return new Session({
      host: this.#host,
      sequence: this.#sequence.fork(),
      contextLength,
      kvFormat,
      conversation: this.#conversation?.copy() ?? null,
    });
  }

  /**
   * Writes the session to a file that `model.restoreSession` reads: what is generated from it is what would have been generated here. The
   * file is replaced once it is whole, and readable by its owner alone; it holds the text. What a killed
   * save left beside it an hour ago or more is removed. Other sessions' steps wait meanwhile.
   * @throws {CtkvrError} CTKVR_DISK_FULL, CTKVR_OUTPUT_FAILED, CTKVR_ABORTED before it begins, CTKVR_BUSY, CTKVR_CLOSED.
   */
  async save(path: string, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<{ bytes: number }> {
    checkOption('save', 'path', path, takes.text);
    checkOptions('save', options, signalChecks);
    return await this.saveWith(null, path, options.signal);
  }

  /** @internal As `save`, with what makes a document of it: `ReadDocument.save`. */
  async saveWith(
    document: SavedDocument | null,
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<{ bytes: number }> {
    return await this.#slot.run('save', signal, async (operation) => {
      const conversation = this.#conversation?.saved ?? null;
      const notes = writeNotes({ tokens: Array.from(this.tokens), conversation, document });
      return { bytes: await this.#sequence.save(operation, path, notes) };
    });
  }

  /** Drops tokens from `length` on, as if they had never been there. @throws {CtkvrError} CTKVR_INVALID_OPTION beyond the end. */
  truncate(length: number): void {
    this.#slot.checkIdle('truncate');
    if (!Number.isInteger(length) || length < 0 || length > this.length) {
      throw new CtkvrError(
        'CTKVR_INVALID_OPTION',
        `truncate: length must be an integer from 0 to ${this.length}, got ${length}`,
        {
          fields: { option: 'length', max: this.length, actual: String(length) },
        },
      );
    }
    if (length === this.length) return;
    this.#sequence.truncate(length);
    this.#conversation = length === 0 ? new Conversation() : null;
  }

  /** Changes what decode steps read from now on; an index that does not fit is built anew when next needed. */
  setSelector(choice: SelectorChoice): void {
    this.#slot.checkIdle('setSelector');
    this.#sequence.setSelector(selectorFor(this.#host.info, choice));
  }

  /** Ends what runs (it throws CTKVR_CLOSED), then frees the session's memory. Idempotent. */
  close(): Promise<void> {
    return this.#slot.close(() => {
      this.#sequence.close();
      this.#host.closed(this);
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #generate(options: GenerateOptions, operation: Operation): AsyncGenerator<GenerateEvent, void, undefined> {
    const stops = resolveStops(options.stop);
    const sampling = resolveSampling(options.sampling, this.length);
    const maxTokens = this.#maxTokens(options.maxTokens);
    this.#requireToken();
    const biases = resolveLogitBias(options.logitBias);
    const grammar = boundTo(options);
    const host = this.#host;
    return generateAnswer({
      sequence: this.#sequence,
      operation,
      options,
      maxTokens,
      stops,
      sampling,
      biases,
      endTokens: new Set(options.ignoreEndOfTurn ? [] : this.#host.info.endOfGenerationTokenIds),
      grammar: async () => (grammar === null || grammar instanceof Grammar ? grammar : host.compileGrammar(grammar)),
      tokenBytes: (tokenId) => this.#host.tokenBytes(tokenId),
      onEnd: (finish, { emitted, stored }) => {
        this.#lastFinish = finish;
        this.#conversation?.addAnswer(emitted, stored);
      },
    });
  }

  /** @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED */
  #checkRoom({ added, maxNew }: { readonly added: number; readonly maxNew: number }): void {
    const { contextLength, length } = this;
    if (length + added + maxNew <= contextLength) return;
    throw contextExceededError({
      contextLength,
      trainedContext: this.#host.info.trainedContext,
      length,
      added,
      maxNew,
    });
  }

  #maxTokens(asked: number | undefined): number {
    this.#checkRoom({ added: 0, maxNew: asked ?? 1 });
    return asked ?? this.contextLength - this.length;
  }

  #requireToken(): void {
    if (this.length > 0) return;
    throw new CtkvrError('CTKVR_INVALID_OPTION', 'the session is empty: prefill a prompt before generating', {
      fields: { option: 'session' },
    });
  }
}
