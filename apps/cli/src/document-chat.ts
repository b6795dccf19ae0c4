/**
 * A conversation about one document in one session. Each turn renders the whole conversation and keeps what the session already holds of it:
 * the document is read once, before the first question is known.
 */
import {
  type ChatMessage,
  commonPrefixLength,
  documentTurn,
  type GenerateEvent,
  type GenerateOptions,
  type Model,
  type PrefillOptions,
  type Session,
} from '@ctkvr/model-runner';

type TurnOptions = Pick<PrefillOptions, 'signal' | 'onProgress'>;

export class DocumentChat {
  readonly #model: Model;
  readonly #session: Session;
  readonly #document: string | null;
  #messages: ChatMessage[] = [];
  /** Tokens that were given to the session or came out of it; it may hold fewer of them. */
  #tokens: number[];

  /** @param input.session holds the document's tokens, up to where the first question will begin; without a document it is empty. */
  constructor(input: { readonly model: Model; readonly session: Session; readonly document: string | null }) {
    this.#model = input.model;
    this.#session = input.session;
    this.#document = input.document;
    this.#tokens = [...input.session.tokens];
  }

  /** Reads a question. When it fails or is stopped, the conversation is as if it had not been asked. */
  async ask(question: string, options: TurnOptions): Promise<void> {
    const messages = [...this.#messages, this.#userTurn(question)];
    await this.#hold(await this.#render(messages, options.signal), options);
    this.#messages = messages;
  }

  /** Generates the answer to the last question; a stopped one stays in the conversation as far as it went. */
  async *answer(
    options: Pick<GenerateOptions, 'maxTokens' | 'sampling' | 'signal'>,
  ): AsyncGenerator<GenerateEvent, void, undefined> {
    let content = '';
    try {
      for await (const event of this.#session.generate(options)) {
        content += event.text;
        this.#tokens.push(event.tokenId);
        yield event;
      }
    } finally {
      this.#messages = [...this.#messages, { role: 'assistant', content }];
    }
  }

  /** Forgets questions and answers; the document stays read. */
  forget(): void {
    this.#messages = [];
  }

  #userTurn(question: string): ChatMessage {
    const isFirst = this.#messages.length === 0;
    const content =
      isFirst && this.#document !== null ? documentTurn({ document: this.#document, question }) : question;
    return { role: 'user', content };
  }

  #render(messages: readonly ChatMessage[], signal: AbortSignal | undefined): Promise<Int32Array> {
    return this.#model.applyChatTemplate(messages, { signal });
  }

  /** Makes the session hold exactly `tokens`, reading only what it does not hold yet. */
  async #hold(tokens: Int32Array, options: TurnOptions): Promise<void> {
    const held = Int32Array.from(this.#tokens.slice(0, this.#session.length));
    const kept = Math.min(commonPrefixLength(held, tokens), tokens.length - 1);
    if (kept < this.#session.length) await this.#session.truncate(kept);
    this.#tokens = [...tokens];
    await this.#session.prefill(tokens.subarray(kept), options);
  }
}
