/** The events of one streamed message of Anthropic's protocol: blocks that follow each other, each with its index. */
import { toAnthropicBody } from './anthropic-error.js';
import { toMessage, toMessageUsage, toStop } from './anthropic-message.js';
import type { ApiError } from './api-error.js';
import type { ChatFinish } from './chat-engine.js';
import type { Frame } from './event-stream.js';
import type { AnswerHead, StreamedAnswer } from './protocol.js';
import type { AnswerCall } from './tools/tool-use.js';

/** How a block of each kind begins, and what its pieces are. */
const blocks = {
  text: {
    empty: { type: 'text', text: '', citations: null },
    toDelta: (text: string) => ({ type: 'text_delta', text }),
  },
  thinking: {
    empty: { type: 'thinking', thinking: '', signature: '' },
    toDelta: (thinking: string) => ({ type: 'thinking_delta', thinking }),
  },
} as const;

/** What a stream begins with; how much was stored before is known when the prompt is read. */
const nothingYet = { numCachedTokens: 0, numCompletionTokens: 0 };

export class StreamedMessage implements StreamedAnswer {
  readonly #head: AnswerHead;
  readonly #numPromptTokens: number;
  /** Blocks begun. */
  #numBlocks = 0;
  #open: keyof typeof blocks | null = null;

  constructor(head: AnswerHead, numPromptTokens: number) {
    this.#head = head;
    this.#numPromptTokens = numPromptTokens;
  }

  opened(): Frame[] {
    const message = {
      ...toMessage(this.#head, []),
      ...toStop(null),
      usage: toMessageUsage(this.#numPromptTokens, nothingYet),
    };
    return [frame('message_start', { message }), frame('ping', {})];
  }

  text(text: string): Frame[] {
    return this.#grow('text', text);
  }

  thinking(text: string): Frame[] {
    return this.#grow('thinking', text);
  }

  toolCall({ id, name, arguments: args }: AnswerCall): Frame[] {
    const closed = this.#close();
    const index = this.#numBlocks++;
    return [
      ...closed,
      frame('content_block_start', { index, content_block: { type: 'tool_use', id, name, input: {} } }),
      frame('content_block_delta', { index, delta: { type: 'input_json_delta', partial_json: args } }),
      frame('content_block_stop', { index }),
    ];
  }

  finished(finish: ChatFinish): Frame[] {
    const usage = toMessageUsage(this.#numPromptTokens, finish);
    const empty = this.#numBlocks === 0 ? this.#begin('text') : [];
    return [
      ...empty,
      ...this.#close(),
      frame('message_delta', { delta: toStop(finish), usage, ctkvr: finish.statistics }),
      frame('message_stop', {}),
    ];
  }

  failed(error: ApiError): Frame[] {
    return [{ event: 'error', data: toAnthropicBody(error) }];
  }

  #grow(kind: keyof typeof blocks, text: string): Frame[] {
    const frames = this.#open === kind ? [] : [...this.#close(), ...this.#begin(kind)];
    const delta = blocks[kind].toDelta(text);
    return [...frames, frame('content_block_delta', { index: this.#numBlocks - 1, delta })];
  }

  #begin(kind: keyof typeof blocks): Frame[] {
    this.#open = kind;
    return [frame('content_block_start', { index: this.#numBlocks++, content_block: blocks[kind].empty })];
  }

  #close(): Frame[] {
    if (this.#open === null) return [];
    this.#open = null;
    return [frame('content_block_stop', { index: this.#numBlocks - 1 })];
  }
}

function frame(type: string, fields: object): Frame {
  return { event: type, data: { type, ...fields } };
}
