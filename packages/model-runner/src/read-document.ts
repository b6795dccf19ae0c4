/**
 * A document that was read once and is asked any number of questions. Its session holds the tokens before any question, with their index;
 * each question is read, and answered, on a fork, which shares both.
 */
import { CtkvrError, checkOption, checkOptions, type OptionChecks, selectorOptionNames, takes } from '@ctkvr/core';
import type { ChatMessage } from './chat-template.js';
import { commonPrefixLength, documentTurn } from './document-turn.js';
import { closedError } from './operation-errors.js';
import type { Session } from './session.js';
import { generateChecks, nestedInGenerate, prefillChecks, sessionChecks } from './session-checks.js';
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

/** A prompt with the document that is ready to be answered. */
export interface BegunAnswer {
  readonly session: Session;
  /** Tokens of the prompt that were not read again. */
  readonly numCachedTokens: number;
  /** To be called when the session is no longer needed. Closing the document does it too. */
  close(): Promise<void>;
}

/** What a document needs of its model. Internal: `Model` has it; so the two files do not import each other. */
export interface DocumentHost {
  /** Context of a session that does not ask for its own. */
  readonly contextLength: number;
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: { readonly signal?: AbortSignal | undefined },
  ): Promise<Int32Array>;
  createSession(options: SessionOptions): Session;
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
  /** What reading took. */
  readonly reading: PrefillResult;
  readonly #host: DocumentHost;
  readonly #base: Session;
  readonly #document: string;
  /** Forks on which questions are being answered. */
  readonly #asking = new Set<Session>();
  #lastFinish: GenerateFinish | null = null;
  #closing: Promise<void> | null = null;

  private constructor({ host, base, document, reading }: ReadDocumentParts) {
    this.#host = host;
    this.#base = base;
    this.#document = document;
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

  /** Tokens before any question. */
  get numTokens(): number {
    return this.#base.length;
  }

  /** What was read, without any question. */
  get text(): string {
    return this.#document;
  }

  /** Tokens of document, question and answer that there is room for. */
  get contextLength(): number {
    return this.#base.contextLength;
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
    this.#checkOpen();
    const tokens = await render(this.#host, { document: this.#document, question }, signal);
    const { session, close } = await this.begin(tokens, { signal });
    try {
      yield* session.generate(options);
    } finally {
      this.#lastFinish = session.lastFinish ?? this.#lastFinish;
      await close();
    }
  }

  /**
   * Reads a prompt of which the document is the beginning, on a fork of what was read, so that its answer can be generated.
   * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED, CTKVR_CLOSED.
   */
  async begin(tokens: Int32Array, options: Pick<AskOptions, 'signal'> = {}): Promise<BegunAnswer> {
    this.#checkOpen();
    const session = this.#base.fork();
    this.#asking.add(session);
    const close = async () => {
      this.#asking.delete(session);
      await session.close();
    };
    try {
      // At the border of document and question, a token may span both.
      const numCachedTokens = Math.min(commonPrefixLength(session.tokens, tokens), tokens.length - 1);
      session.truncate(numCachedTokens);
      await session.prefill(tokens.subarray(numCachedTokens), { signal: options.signal });
      return { session, numCachedTokens, close };
    } catch (error) {
      await close();
      throw error;
    }
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
