/**
 * A document that was read once and is asked any number of questions. Its session holds the tokens before any question, with their index;
 * each question is read, and answered, on a fork, which shares both.
 */
import { createHash } from 'node:crypto';
import {
  CtkvrError,
  checkOption,
  checkOptions,
  type KvFormat,
  type OptionChecks,
  type SelectorOptions,
  selectorOptionNames,
  takes,
} from '@ctkvr/core';
import type { DocumentHost } from './document-host.js';
import { commonPrefixLength, documentTurn } from './document-turn.js';
import { busyError, closedError } from './operation-errors.js';
import { passageTexts } from './passage-texts.js';
import type { RestoredSession } from './restore-session.js';
import type { Session } from './session.js';
import { generateChecks, nestedInGenerate, prefillChecks, sessionChecks, signalChecks } from './session-checks.js';
import type {
  GenerateEvent,
  GenerateFinish,
  GenerateOptions,
  PrefillOptions,
  PrefillResult,
  SessionOptions,
} from './session-types.js';

/** `contextLength`: tokens of document, question and answer; default: those of the document and 4,096 more, where the model has them. */
export interface ReadDocumentOptions extends SessionOptions, Pick<PrefillOptions, 'onProgress' | 'signal'> {}

export type AskOptions = Pick<GenerateOptions, 'maxTokens' | 'sampling' | 'stop' | 'signal' | 'readMap'>;

/** A question that was read, and whose answer is still to be generated. */
export interface BegunAnswer {
  /** Holds document and question; the caller closes it. Closing the document does it too. */
  readonly session: Session;
  /** Tokens of its prompt that were not read for it: the document's. */
  readonly numCachedTokens: number;
}

/** What a file gave. */
interface OpenedDocument extends RestoredSession {
  readonly path: string;
  /** By `performance.now`. */
  readonly startedAt: number;
}

interface ReadDocumentParts {
  readonly host: DocumentHost;
  /** Holds the tokens before any question. */
  readonly base: Session;
  readonly document: string;
  readonly reading: PrefillResult;
}

/** Room for a question and its answer. */
const DEFAULT_ROOM_TOKENS = 4096;

const readChecks: OptionChecks<ReadDocumentOptions> = {
  ...sessionChecks,
  onProgress: prefillChecks.onProgress,
  signal: prefillChecks.signal,
};

const askChecks: OptionChecks<AskOptions> = {
  maxTokens: generateChecks.maxTokens,
  sampling: generateChecks.sampling,
  stop: generateChecks.stop,
  signal: generateChecks.signal,
  readMap: generateChecks.readMap,
};

export class ReadDocument {
  /** What reading took. Of an opened document: all its tokens were cached, and `prefillMs` is what restoring took. */
  readonly reading: PrefillResult;
  /** As it was given. */
  readonly text: string;
  readonly #host: DocumentHost;
  readonly #base: Session;
  /** Forks on which questions are being answered. */
  readonly #asking = new Set<Session>();
  #saving: Promise<unknown> | null = null;
  #passages: string[] | null = null;
  #lastFinish: GenerateFinish | null = null;
  #closing: Promise<void> | null = null;

  private constructor({ host, base, document, reading }: ReadDocumentParts) {
    this.#host = host;
    this.#base = base;
    this.text = document;
    this.reading = reading;
  }

  /** @internal Documents are read by `model.readDocument`. */
  static async read(host: DocumentHost, text: string, options: ReadDocumentOptions): Promise<ReadDocument> {
    const op = 'readDocument';
    checkOption(op, 'text', text, takes.text);
    checkOptions(op, options, readChecks, { selector: selectorOptionNames });
    if (text.trim() === '') {
      throw new CtkvrError('CTKVR_INVALID_OPTION', `${op}: the text is empty: there is nothing to ask about`, {
        fields: { op, option: 'text' },
      });
    }
    const { onProgress, signal, ...session } = options;
    // The common beginning of two different questions' prompts is what precedes every question.
    const [one, other] = await Promise.all(
      ['A', '7'].map((question) => render(host, { document: text, question }, signal)),
    );
    const tokens = one!.subarray(0, commonPrefixLength(one!, other!));
    const contextLength =
      session.contextLength ?? Math.max(1, Math.min(host.contextLength, tokens.length + DEFAULT_ROOM_TOKENS));
    const base = host.createSession({ ...session, contextLength });
    try {
      const reading = await base.prefill(tokens, { onProgress, signal });
      return new ReadDocument({ host, base, document: text, reading });
    } catch (error) {
      await base.close();
      throw error;
    }
  }

  /** @internal Documents are opened by `model.openDocument`. */
  static async opened(host: DocumentHost, opened: OpenedDocument): Promise<ReadDocument> {
    const { session, document, path, startedAt } = opened;
    const templateHash = hashOf(host.chatTemplate);
    if (document !== null && document.templateHash === templateHash) {
      const { length: numTokens } = session;
      const prefillMs = performance.now() - startedAt;
      const tokensPerSecond = (numTokens / prefillMs) * 1000;
      const reading = { numTokens, numCachedTokens: numTokens, prefillMs, tokensPerSecond, index: null };
      return new ReadDocument({ host, base: session, document: document.text, reading });
    }
    await session.close();
    const [field, expected, actual] =
      document === null
        ? ['document', 'a document', 'a session']
        : ['chatTemplate', document.templateHash ?? 'none', templateHash ?? 'none'];
    const problem =
      document === null
        ? 'it holds a session, not a document: restore it with model.restoreSession'
        : 'it was read under another chat template than the model has now: read the document again';
    throw new CtkvrError('CTKVR_BAD_SNAPSHOT', `${path}: ${problem}`, { fields: { path, field, expected, actual } });
  }

  /** Which keys are read for its answers. */
  get selector(): SelectorOptions {
    return this.#base.selector;
  }

  /** How its keys and values are stored. */
  get kvFormat(): KvFormat {
    return this.#base.kvFormat;
  }

  /** Bytes it holds, without its forks. */
  get heldBytes(): number {
    return this.#base.heldBytes;
  }

  /** Tokens of document, question and answer together. */
  get contextLength(): number {
    return this.#base.contextLength;
  }

  /** Tokens before any question. */
  get numTokens(): number {
    return this.#base.length;
  }

  /**
   * The texts of its passages, `model.passageSize` tokens each, by which read maps count. Joined they are the prompt's text before any question;
   * control tokens give nothing. A character that spans two passages is in the second.
   */
  passages(): string[] {
    this.#checkOpen();
    const { passageSize } = this.#host;
    const tokenBytes = (tokenId: number) => this.#host.tokenBytes(tokenId);
    this.#passages ??= passageTexts(this.#base.tokens, { passageSize, tokenBytes });
    return [...this.#passages];
  }

  /** How the answer that ended last has ended; null before the first. */
  get lastFinish(): GenerateFinish | null {
    return this.#lastFinish;
  }

  /**
   * Answers a question about the document, token by token. Questions know nothing of each other, and several may be asked at once.
   * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED, CTKVR_CLOSED, CTKVR_INVALID_OPTION.
   */
  async *ask(question: string, options: AskOptions = {}): AsyncGenerator<GenerateEvent, void, undefined> {
    checkOption('ask', 'question', question, takes.text);
    checkOptions('ask', options, askChecks, nestedInGenerate);
    const { signal } = options;
    const { session } = await this.begin(question, { signal });
    try {
      yield* session.generate(options);
    } finally {
      this.#lastFinish = session.lastFinish ?? this.#lastFinish;
      this.#asking.delete(session);
      await session.close();
    }
  }

  /**
   * Reads a question, and leaves its answer to `session.generate`, which has more options than `ask`. In place of a question: all tokens of a
   * prompt, of which those that it has in common with the document are not read again.
   * @throws {CtkvrError} as `ask`.
   */
  async begin(
    question: string | Int32Array,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<BegunAnswer> {
    if (typeof question !== 'string') checkOption('begin', 'question', question, takes.int32);
    checkOptions('begin', options, signalChecks);
    const { signal } = options;
    this.#checkOpen();
    const tokens =
      typeof question === 'string' ? await render(this.#host, { document: this.text, question }, signal) : question;
    while (this.#saving !== null) await this.#saving; // a sequence that is being written cannot be forked
    this.#checkOpen();
    const session = this.#base.fork();
    for (const other of this.#asking) if (other.isClosed) this.#asking.delete(other);
    this.#asking.add(session);
    try {
      // At the border of document and question, a token may span both.
      const numCachedTokens = Math.min(commonPrefixLength(session.tokens, tokens), tokens.length - 1);
      session.truncate(numCachedTokens);
      await session.prefill(tokens.subarray(numCachedTokens), { signal });
      return { session, numCachedTokens };
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  /**
   * Writes the document, as it was read, to a file that `model.openDocument` opens. As `session.save` does it.
   * @throws {CtkvrError} as `session.save`.
   */
  async save(path: string, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<{ bytes: number }> {
    checkOption('save', 'path', path, takes.text);
    checkOptions('save', options, signalChecks);
    this.#checkOpen();
    const document = { text: this.text, templateHash: hashOf(this.#host.chatTemplate) };
    // One at a time.
    const saved = Promise.resolve(this.#saving).then(() => this.#base.saveWith(document, path, options.signal));
    const ended = saved.catch(() => {});
    this.#saving = ended;
    try {
      return await saved;
    } finally {
      if (this.#saving === ended) this.#saving = null;
    }
  }

  /**
   * Gives its session up, which holds the tokens before any question: for a conversation that goes on behind them. The caller closes it; the
   * document is closed. @throws {CtkvrError} CTKVR_CLOSED; CTKVR_BUSY while it is asked or saved.
   */
  takeSession(): Session {
    this.#checkOpen();
    const isAsked = [...this.#asking].some((session) => !session.isClosed);
    const running = isAsked ? 'ask' : this.#saving === null ? null : 'save';
    if (running !== null) throw busyError('takeSession', running);
    this.#closing = Promise.resolve();
    return this.#base;
  }

  /** Ends what is being answered (it throws CTKVR_CLOSED) and frees the memory. Idempotent; closing the model does it too. */
  close(): Promise<void> {
    this.#closing ??= Promise.all([this.#base, ...this.#asking].map((session) => session.close())).then(() => {});
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedError('document');
  }
}

function render(
  host: DocumentHost,
  turn: { readonly document: string; readonly question: string },
  signal: AbortSignal | undefined,
): Promise<Int32Array> {
  return host.applyChatTemplate([{ role: 'user', content: documentTurn(turn) }], { signal });
}

function hashOf(text: string | null): string | null {
  return text === null ? null : createHash('sha256').update(text).digest('hex');
}
