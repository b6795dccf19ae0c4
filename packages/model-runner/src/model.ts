/** A loaded model: its tokenizer and chat template, and the sessions that share its engine. */
import {
  CtkvrError,
  checkOption,
  checkOptions,
  type KvFormat,
  resolveKvFormat,
  selectorOptionNames,
  takes,
} from '@ctkvr/core';
import type { NativeModel, NativeModelInfo, NativeSequence } from '@ctkvr/native';
import { StepComposer } from '@ctkvr/scheduler';
import type { ChatMessage } from './chat-template.js';
import { Conversation } from './conversation.js';
import { compileGrammar, type Grammar, type GrammarSource } from './grammar.js';
import type { AdmittedRoom } from './memory-admission.js';
import { checkMemory, longestContext, neededBytes } from './memory-estimate.js';
import { type ApplyTemplateOptions, type DetokenizeOptions, ModelText, type TokenizeOptions } from './model-text.js';
import { openPromptStore } from './open-prompt-store.js';
import { OpenSessions, type SessionMemoryParts } from './open-sessions.js';
import { closedError } from './operation-errors.js';
import type { PrefixCacheUsage } from './prefix-cache.js';
import { ReadDocument, type ReadDocumentOptions } from './read-document.js';
import { type RestoredSession, restoreSession } from './restore-session.js';
import { selectorFor } from './selector-for.js';
import { Session } from './session.js';
import { admitChecks, prefixCacheChecks, sessionChecks } from './session-checks.js';
import type { SessionHost, SessionNeed } from './session-host.js';
import type { AdmitOptions, PrefixCacheUse, SessionOptions } from './session-types.js';
import type { SnapshotStore } from './snapshot-store/snapshot-store.js';
import { type PrefixSource, StoredSequence } from './stored-sequence.js';

/** Made by `loadModel`. */
export interface ModelParts extends Omit<SessionMemoryParts, 'info' | 'storedPrompts'> {
  readonly native: NativeModel;
  /** 'cpu', or a device's name. */
  readonly device: string;
  readonly contextLength: number;
  /** Jinja source that replaces the GGUF's. */
  readonly chatTemplate: string | null;
  readonly prefillChunk: number;
  /** Tokens of a passage, by which read maps count. */
  readonly passageSize: number;
  /** Where prompts go that leave the prefix cache; null: they are lost. */
  readonly promptStore: SnapshotStore | null;
}

export class Model {
  /** The engine, for measurements. Its steps belong to the composer: step it only while no session works. */
  readonly native: NativeModel;
  readonly info: NativeModelInfo;
  /** What it runs on: 'cpu', or a device as the engine calls it: 'cuda:0'. */
  readonly device: string;
  /** Context of a session that does not ask for its own. */
  readonly contextLength: number;
  readonly #parts: ModelParts;
  readonly #composer: StepComposer<NativeSequence>;
  readonly #host: SessionHost;
  readonly #text: ModelText;
  readonly #open: OpenSessions;
  #closing: Promise<void> | null = null;
  #failure: CtkvrError | null = null;

  /** @internal Models are made by `loadModel`. */
  constructor(parts: ModelParts) {
    this.native = parts.native;
    this.info = parts.native.info;
    this.device = parts.device;
    this.contextLength = parts.contextLength;
    this.#parts = parts;
    this.#text = new ModelText(parts.native, parts.chatTemplate);
    this.#composer = new StepComposer(parts.native, {
      prefillChunk: parts.prefillChunk,
      onLost: (error) => {
        this.#failure = error;
        this.#open.admission.close(error);
      },
    });
    const storing = { native: this.native, composer: this.#composer, contextLength: this.contextLength };
    const storedPrompts = parts.promptStore && openPromptStore(parts.promptStore, storing);
    this.#open = new OpenSessions({ ...parts, info: this.info, storedPrompts });
    this.#host = {
      info: this.info,
      chatTemplate: () => this.#text.template.get(),
      tokenizePieces: (pieces) => this.#text.tokenizePieces(pieces),
      tokenBytes: (tokenId) => this.native.tokenBytes(tokenId, false),
      compileGrammar: (source) => compileGrammar(this.native, source),
      lacksBos: (tokens) => this.#text.lacksBos(tokens),
      checkMemory: (need) => this.#open.check(need),
      opened: (session) => this.#open.add(session),
      closed: (session) => this.#open.delete(session),
    };
  }

  /** Tokens of a passage, by which read maps count. */
  get passageSize(): number {
    return this.#parts.passageSize;
  }

  get numThreads(): number {
    return this.native.numThreads;
  }

  /**
   * Why nothing runs on this model any more: CTKVR_DEVICE_LOST, which every call of its sessions then rejects with; null while all is well.
   * Sessions that were saved can be restored on the model once it is loaded anew.
   */
  get failure(): CtkvrError | null {
    return this.#failure;
  }

  /** Bytes that sessions hold of keys, values and indexes, and the most they may hold. */
  get sessionMemory(): { readonly usedBytes: number; readonly maxBytes: number } {
    return { usedBytes: this.#open.usedBytes, maxBytes: this.#parts.sessionMemoryBytes };
  }

  /** What is kept of prompts for later sessions with the option `prefixCache`. */
  get prefixCacheUsage(): PrefixCacheUsage {
    return this.#open.prefixes.usage;
  }

  /**
   * Returns the tokens of a text; control tokens in it stay text, unless asked. Adds no BOS.
   * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED for a text that cannot be as few tokens as `maxTokens`, which is then not tokenized.
   */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<Int32Array> {
    this.#checkOpen();
    return await this.#text.tokenize(text, options);
  }

  /** Returns the text of tokens. Control tokens give nothing, unless asked; bytes that are no UTF-8 become U+FFFD. */
  detokenize(tokens: ArrayLike<number>, options: DetokenizeOptions = {}): string {
    this.#checkOpen();
    return this.#text.detokenize(tokens, options);
  }

  /** Returns the bytes of one token, which may end inside a character. Control tokens give nothing, unless asked. */
  tokenBytes(tokenId: number, options: DetokenizeOptions = {}): Uint8Array {
    this.#checkOpen();
    return this.#text.tokenBytes(tokenId, options);
  }

  /** Compiles what answers can be bound to, off the JavaScript thread. @throws {CtkvrError} CTKVR_INVALID_OPTION naming what is not supported. */
  async compileGrammar(source: GrammarSource): Promise<Grammar> {
    this.#checkOpen();
    checkOption('compileGrammar', 'source', source, takes.object);
    return await compileGrammar(this.native, source);
  }

  /** Jinja source of the chat template that messages are rendered with; null when the model has none. */
  get chatTemplate(): string | null {
    return this.#text.template.source;
  }

  /**
   * Returns the tokens of a conversation as the model was trained to see it, BOS included where the model wants one. Control tokens
   * come from the template only: their texts in the messages stay text.
   * @throws {CtkvrError} CTKVR_INVALID_OPTION when the model has no template, or it refuses the messages or goes beyond its limits; CTKVR_ABORTED;
   * CTKVR_CONTEXT_EXCEEDED as `tokenize`.
   */
  async applyChatTemplate(messages: readonly ChatMessage[], options: ApplyTemplateOptions = {}): Promise<Int32Array> {
    this.#checkOpen();
    return await this.#text.applyTemplate(messages, options);
  }

  /** Returns the text of a conversation as the template writes it. @throws {CtkvrError} as `applyChatTemplate`. */
  async renderChatTemplate(messages: readonly ChatMessage[], options: ApplyTemplateOptions = {}): Promise<string> {
    this.#checkOpen();
    return await this.#text.renderTemplate(messages, options);
  }

  /**
   * Creates an empty session. Takes no memory yet, but refuses a context that could not be filled.
   * @throws {CtkvrError} CTKVR_OUT_OF_MEMORY, CTKVR_INVALID_OPTION, CTKVR_DEVICE_LOST.
   */
  createSession(options: SessionOptions = {}): Session {
    this.#checkOpen();
    this.#checkWorks();
    checkOptions('createSession', options, sessionChecks, { selector: selectorOptionNames });
    const settings = this.#settings(options);
    this.#open.check({ ...settings, sharedBytes: 0 });
    return this.#newSession(settings, options.prefixCache, null);
  }

  /**
   * Creates an empty session as soon as its prompt, and a small reserve for the answer, have room beside what the others really hold. It then
   * waits for memory as it grows; a session that came later may have to give its memory back and be computed again, to the same bits.
   * Requests are served in order of arrival. For answers that end by themselves: a session that is kept keeps its place.
   * @throws {CtkvrError} CTKVR_OVERLOADED when too many wait; CTKVR_OUT_OF_MEMORY when the prompt alone, or the context, can never have
   * room; CTKVR_ABORTED, CTKVR_CLOSED, CTKVR_DEVICE_LOST, CTKVR_INVALID_OPTION.
   */
  async admitSession(options: AdmitOptions): Promise<Session> {
    this.#checkOpen();
    this.#checkWorks();
    checkOptions('admitSession', options, admitChecks, { selector: selectorOptionNames });
    const { promptLength, signal, onWait } = options;
    const settings = this.#settings(options);
    const { contextLength } = settings;
    const availableBytes = this.#parts.sessionMemoryBytes;
    checkMemory({ info: this.info, ...settings, availableBytes, reservedBytes: 0 });
    const need = {
      info: this.info,
      ...settings,
      contextLength: this.#nativeLength(contextLength, options.prefixCache),
    };
    const bytesFor = (numTokens: number) => neededBytes({ ...need, numTokens: Math.min(numTokens, contextLength) });
    const request = { numTokens: Math.min(promptLength, contextLength), maxTokens: contextLength, bytesFor };
    const room = await this.#open.admission.enter(request, { signal, onWait });
    try {
      this.#checkOpen();
      this.#checkWorks();
      return this.#newSession(settings, options.prefixCache, room);
    } catch (error) {
      room.leave();
      throw error;
    }
  }

  /** Returns the longest context, up to the model's, that all the memory of sessions can hold; 0 when none. */
  longestContext(options: Pick<SessionOptions, 'kvFormat' | 'selector'> = {}): number {
    this.#checkOpen();
    checkOptions('longestContext', options, longestContextChecks, { selector: selectorOptionNames });
    return longestContext({ info: this.info, ...this.#settings(options) }, this.#parts.sessionMemoryBytes);
  }

  /**
   * Makes a session of a file that `session.save` wrote, with the same model: it goes on as if it had never been saved. Exact to the bit where
   * the same kernels run; on another CPU the tokens that follow may differ by rounding.
   * @throws {CtkvrError} CTKVR_BAD_SNAPSHOT for a file that is damaged, of another version or of another model; CTKVR_FILE_NOT_FOUND,
   * CTKVR_FILE_UNREADABLE, CTKVR_OUT_OF_MEMORY, CTKVR_CONTEXT_EXCEEDED when its context is longer than the model's, CTKVR_ABORTED.
   */
  async restoreSession(path: string, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<Session> {
    this.#checkOpen();
    this.#checkWorks();
    checkOption('restoreSession', 'path', path, takes.text);
    checkOptions('restoreSession', options, { signal: takes.optional(takes.abortSignal) });
    return (await this.#restore(path, options.signal)).session;
  }

  /**
   * Reads a document once, index included, to be asked any number of questions: `for await (const { text } of document.ask('…'))`.
   * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED, CTKVR_INVALID_OPTION.
   */
  readDocument(text: string, options: ReadDocumentOptions = {}): Promise<ReadDocument> {
    return ReadDocument.read(this, text, options);
  }

  /**
   * Opens a document that `document.save` wrote, with the same model and chat template: it is not read again, and answers as it did.
   * @throws {CtkvrError} as `restoreSession`; CTKVR_BAD_SNAPSHOT also for a session that is no document, and under another chat template.
   */
  async openDocument(path: string, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<ReadDocument> {
    this.#checkOpen();
    this.#checkWorks();
    checkOption('openDocument', 'path', path, takes.text);
    checkOptions('openDocument', options, { signal: takes.optional(takes.abortSignal) });
    const startedAt = performance.now();
    const restored = await this.#restore(path, options.signal);
    return await ReadDocument.opened(this, { ...restored, path, startedAt });
  }

  /** Closes every session and document, then frees the weights. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#text.template.close();
    await this.#open.close();
    await this.#composer.close();
    await this.native.close();
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedError('model');
  }

  /** @throws {CtkvrError} CTKVR_DEVICE_LOST */
  #checkWorks(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  #restore(path: string, signal: AbortSignal | undefined): Promise<RestoredSession> {
    const { native, contextLength } = this;
    const checkOpen = () => this.#checkOpen();
    return restoreSession(
      { native, composer: this.#composer, host: this.#host, contextLength, checkOpen },
      path,
      signal,
    );
  }

  #settings(options: SessionOptions): SessionSettings {
    if (options.prefixCache !== undefined) checkOptions('prefixCache', options.prefixCache, prefixCacheChecks);
    return {
      contextLength: checkContextLength(options.contextLength ?? this.contextLength, this.contextLength),
      kvFormat: resolveKvFormat(options.kvFormat),
      selector: selectorFor(this.info, options.selector),
    };
  }

  #newSession(
    { contextLength, kvFormat, selector }: SessionSettings,
    prefixCache: PrefixCacheUse | undefined,
    room: AdmittedRoom | null,
  ): Session {
    const maxTokens = this.#nativeLength(contextLength, prefixCache);
    const native = this.native.createSequence({ maxTokens, kvFormat, selector });
    const sequence = new StoredSequence({ native, composer: this.#composer, selector, room });
    const prefixes = prefixCache === undefined ? null : this.#prefixSource(prefixCache, sequence, kvFormat);
    const session = { host: this.#host, sequence, contextLength, kvFormat, prefixes };
    return new Session({ ...session, conversation: new Conversation() });
  }

  /** A fork in the engine keeps its origin's longest length, and any session may begin from any other's prompt. */
  #nativeLength(contextLength: number, prefixCache: PrefixCacheUse | undefined): number {
    return prefixCache === undefined ? contextLength : this.contextLength;
  }

  #prefixSource(
    { namespace = '', lookUp = true }: PrefixCacheUse,
    sequence: StoredSequence,
    kvFormat: KvFormat,
  ): PrefixSource {
    const place = () => JSON.stringify([namespace, kvFormat, sequence.selector]);
    return {
      find: async (ids) => (lookUp ? await this.#open.findPrompt(place(), ids) : null),
      keep: (ids, prompt) => {
        this.#open.prefixes.keep(place(), ids, prompt);
        this.#open.admission.update();
      },
    };
  }
}

type SessionSettings = Omit<SessionNeed, 'sharedBytes'>;

const longestContextChecks = { kvFormat: sessionChecks.kvFormat, selector: sessionChecks.selector };

function checkContextLength(asked: number, max: number): number {
  if (Number.isInteger(asked) && asked >= 1 && asked <= max) return asked;
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `contextLength must be an integer from 1 to ${max} (what the model was loaded for), got ${asked}`,
    { fields: { option: 'contextLength', max, actual: String(asked) } },
  );
}
