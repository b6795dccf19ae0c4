/** The events of one streamed response, each with its place in the order. */
import type { ApiError } from './api-error.js';
import type { ChatFinish, ScoredToken } from './chat-engine.js';
import type { Frame } from './event-stream.js';
import type { AnswerHead, StreamedAnswer } from './protocol.js';
import { callItem, type ItemPlace, messageItem, reasoningItem, reasoningPart, textPart } from './response-items.js';
import { endedResponse, endStatus, type ResponseRequest, toResponse } from './response-object.js';
import { toScored } from './scored-token.js';
import type { AnswerCall } from './tools/tool-use.js';

/** An item whose text grows. */
const growing = {
  message: {
    toItem: messageItem,
    toPart: textPart,
    event: 'response.output_text',
    more: (tokens: readonly ScoredToken[]) => ({ logprobs: tokens.map(toScored) }),
  },
  reasoning: { toItem: reasoningItem, toPart: reasoningPart, event: 'response.reasoning_text', more: () => ({}) },
} as const;

type Kind = keyof typeof growing;

export class StreamedResponse implements StreamedAnswer {
  readonly #request: ResponseRequest;
  readonly #head: AnswerHead;
  readonly #numPromptTokens: number;
  /** Items that have ended. */
  readonly #output: object[] = [];
  /** The item that still grows. */
  #open: { readonly kind: Kind; text: string; readonly tokens: ScoredToken[] } | null = null;
  #numSent = 0;

  constructor(request: ResponseRequest, head: AnswerHead, numPromptTokens: number) {
    this.#request = request;
    this.#head = head;
    this.#numPromptTokens = numPromptTokens;
  }

  opened(): Frame[] {
    const response = toResponse(this.#request, this.#head, { status: 'in_progress' });
    return [this.#frame('response.created', { response }), this.#frame('response.in_progress', { response })];
  }

  text(delta: string, tokens: readonly ScoredToken[]): Frame[] {
    return this.#grow('message', delta, tokens);
  }

  thinking(delta: string): Frame[] {
    return this.#grow('reasoning', delta, []);
  }

  toolCall(call: AnswerCall): Frame[] {
    const frames = this.#close('completed');
    const output_index = this.#output.length;
    const begun = callItem(this.#place('in_progress'), { ...call, arguments: '' });
    const item = callItem(this.#place('completed'), call);
    const place = { item_id: item.id, output_index };
    this.#output.push(item);
    return [
      ...frames,
      this.#frame('response.output_item.added', { output_index, item: begun }),
      this.#frame('response.function_call_arguments.delta', { ...place, delta: call.arguments }),
      this.#frame('response.function_call_arguments.done', { ...place, name: call.name, arguments: call.arguments }),
      this.#frame('response.output_item.done', { output_index, item }),
    ];
  }

  finished(finish: ChatFinish): Frame[] {
    const status = endStatus(finish);
    const empty = this.#open === null && this.#output.length === 0 ? this.#begin('message') : [];
    const frames = [...empty, ...this.#close(status)];
    const ended = { output: this.#output, finish, numPromptTokens: this.#numPromptTokens };
    const response = endedResponse(this.#request, this.#head, ended);
    return [...frames, this.#frame(`response.${status}`, { response })];
  }

  /** The documented fields of the event, and the object in which OpenAI's client looks for an error to throw. */
  failed(failure: ApiError): Frame[] {
    const { error } = failure.toBody();
    const { code, message } = error;
    const response = toResponse(this.#request, this.#head, { status: 'failed' });
    return [
      this.#frame('error', { code, message, param: error.param, error }),
      this.#frame('response.failed', { response: { ...response, error: { code, message } } }),
    ];
  }

  #grow(kind: Kind, delta: string, tokens: readonly ScoredToken[]): Frame[] {
    const frames = this.#open?.kind === kind ? [] : [...this.#close('completed'), ...this.#begin(kind)];
    if (this.#open !== null) {
      this.#open.text += delta;
      this.#open.tokens.push(...tokens);
    }
    const { event, more } = growing[kind];
    return [...frames, this.#frame(`${event}.delta`, { ...this.#part(kind), delta, ...more(tokens) })];
  }

  #begin(kind: Kind): Frame[] {
    this.#open = { kind, text: '', tokens: [] };
    const { toItem, toPart } = growing[kind];
    const item = toItem(this.#place('in_progress'), []);
    return [
      this.#frame('response.output_item.added', { output_index: this.#output.length, item }),
      this.#frame('response.content_part.added', { ...this.#part(kind), part: toPart('') }),
    ];
  }

  #close(status: ItemPlace['status']): Frame[] {
    if (this.#open === null) return [];
    const { kind, text, tokens } = this.#open;
    const { toItem, toPart, event, more } = growing[kind];
    const part = toPart(text, tokens);
    const item = toItem(this.#place(status), [part]);
    const at = this.#part(kind);
    this.#output.push(item);
    this.#open = null;
    return [
      this.#frame(`${event}.done`, { ...at, text, ...more(tokens) }),
      this.#frame('response.content_part.done', { ...at, part }),
      this.#frame('response.output_item.done', { output_index: at.output_index, item }),
    ];
  }

  /** Where the text of the open item is: its one part. */
  #part(kind: Kind) {
    const { id } = growing[kind].toItem(this.#place('in_progress'), []);
    return { item_id: id, output_index: this.#output.length, content_index: 0 };
  }

  #place(status: ItemPlace['status']): ItemPlace {
    return { head: this.#head, index: this.#output.length, status };
  }

  #frame(type: string, fields: object): Frame {
    const data = { type, sequence_number: this.#numSent, ...fields };
    this.#numSent += 1;
    return { event: type, data };
  }
}
