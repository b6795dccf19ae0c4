/**
 * The messages a session holds, and what a new turn adds to them. A turn is appended behind the answer's own tokens where the template
 * allows it: the answer is not tokenized again, which could give other tokens than the model generated.
 */
import { CtkvrError } from '@ctkvr/core';
import type { ChatMessage, ChatTemplate, RenderOptions } from './chat-template.js';
import type { TextPiece } from './control-text.js';

/** What to add to a session for a new turn. */
export interface TurnPlan {
  /** Text to append behind what the session holds; or, if `fromStart`, the whole conversation, of which the session may hold a part. */
  readonly pieces: TextPiece[];
  readonly fromStart: boolean;
  /** The conversation afterwards. */
  readonly conversation: Conversation;
}

/** A conversation as plain data. */
export interface SavedConversation {
  readonly messages: readonly ChatMessage[];
  readonly options: RenderOptions;
  readonly answer: string | null;
  readonly storedAnswer: string;
}

/** How a turn is rendered. */
export interface TurnRendering {
  readonly template: ChatTemplate;
  readonly options: RenderOptions;
  readonly signal?: AbortSignal | undefined;
}

export class Conversation {
  /** Messages rendered so far; an answer is added when the next turn begins. */
  readonly messages: readonly ChatMessage[];
  /** How they were rendered. */
  readonly #options: RenderOptions;
  /** Text generated since the last rendered message, as emitted. */
  #answer: string | null = null;
  /** The beginning of it that the session's tokens spell; the rest was held back by a stop string. */
  #storedAnswer = '';

  constructor(messages: readonly ChatMessage[] = [], options: RenderOptions = { addGenerationPrompt: false }) {
    this.messages = messages;
    this.#options = options;
  }

  /** Adds generated text. @param stored what of it is in the session's tokens. */
  addAnswer(emitted: string, stored: string): void {
    const hasGap = this.#answer !== null && this.#storedAnswer !== this.#answer; // what follows a gap cannot be used either
    this.#answer = (this.#answer ?? '') + emitted;
    if (!hasGap) this.#storedAnswer += stored;
  }

  /** A copy that goes its own way, for a forked session. */
  copy(): Conversation {
    const copy = new Conversation(this.messages, this.#options);
    copy.#answer = this.#answer;
    copy.#storedAnswer = this.#storedAnswer;
    return copy;
  }

  /** What `restored` takes: plain data. */
  get saved(): SavedConversation {
    return { messages: this.messages, options: this.#options, answer: this.#answer, storedAnswer: this.#storedAnswer };
  }

  static restored({ messages, options, answer, storedAnswer }: SavedConversation): Conversation {
    const conversation = new Conversation(messages, options);
    conversation.#answer = answer;
    conversation.#storedAnswer = storedAnswer;
    return conversation;
  }

  /** All messages, the answer being the last. */
  get history(): readonly ChatMessage[] {
    return this.#answer === null ? this.messages : [...this.messages, { role: 'assistant', content: this.#answer }];
  }

  /**
   * Plans the turn that `messages` add. They may repeat the conversation in front, as clients that keep the history do.
   * @throws {CtkvrError} CTKVR_INVALID_OPTION when they repeat its beginning and then differ; and what the template throws.
   */
  async planTurn(messages: readonly ChatMessage[], { template, options, signal }: TurnRendering): Promise<TurnPlan> {
    const { history } = this;
    const added = withoutRepeated(history, messages);
    const conversation = new Conversation([...history, ...added], options);
    const views = [{ messages: conversation.messages, options }];
    if (this.messages.length > 0) views.push({ messages: this.messages, options: this.#options });
    const [whole, before] = await template.renderAll(views, signal);
    if (whole === undefined) throw new CtkvrError('CTKVR_INTERNAL', 'the template gave no text for a view');
    const held = (before?.text ?? '') + this.#storedAnswer;
    if (whole.text.startsWith(held)) return { pieces: whole.split(held.length), fromStart: false, conversation };
    return { pieces: whole.split(), fromStart: true, conversation };
  }
}

function withoutRepeated(history: readonly ChatMessage[], messages: readonly ChatMessage[]): readonly ChatMessage[] {
  const repeats = messages.length > history.length && history.length > 0 && same(history[0], messages[0]);
  if (!repeats) return messages;
  const differs = history.findIndex((message, index) => !same(message, messages[index]));
  if (differs < 0) return messages.slice(history.length);
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `the messages repeat the session's conversation but differ from it at message ${differs}: pass only the new messages, or start a new session`,
    { fields: { option: 'messages', differsAt: differs } },
  );
}

/** Answers are compared without white space at the ends, which clients often trim. */
function same(a: ChatMessage | undefined, b: ChatMessage | undefined): boolean {
  return a?.role === b?.role && a?.content.trim() === b?.content.trim();
}
