/** POST /v1/responses: OpenAI's newer protocol, without its memory. Nothing is stored: a request has the whole conversation. */
import type { ApiError } from './api-error.js';
import type { ChatFinish, ScoredToken } from './chat-engine.js';
import { checkBody } from './check-fields.js';
import type { Frame } from './event-stream.js';
import { type AskedEffort, toMessagesPrompt } from './generation-request.js';
import { mustBe } from './invalid-value.js';
import type { Answer, AnswerHead, ParsedRequest, Protocol, StreamedAnswer } from './protocol.js';
import { type ResponseValues, responseFields, responseSchema } from './response-fields.js';
import { responseMessages } from './response-messages.js';
import { toScored } from './scored-token.js';
import { toGeneration } from './to-generation.js';

export interface ResponseRequest extends ParsedRequest {
  /** What the response repeats. */
  readonly given: ResponseValues;
}

export const responses: Protocol<ResponseRequest> = {
  idPrefix: 'resp_',
  promptField: 'input',

  parse: (json) => {
    const given = checkBody(json, responseFields, responseSchema);
    const prompt = toMessagesPrompt(responseMessages(given), { effort: effortOf(given) });
    const maxTokens = given.max_output_tokens ?? null;
    const generation = toGeneration(given, { prompt, maxTokens, numTopLogprobs: numTopOf(given) });
    return { model: given.model, stream: given.stream ?? false, generation, given };
  },

  whole: (request, head, answer) => ended(request, head, answer),

  stream: (request, head, numPromptTokens) => new StreamedResponse(request, head, numPromptTokens),
};

function effortOf({ reasoning }: ResponseValues): AskedEffort | null {
  return reasoning?.effort === undefined ? null : { level: reasoning.effort, field: 'reasoning.effort' };
}

function numTopOf({ include = [], top_logprobs: numTop = 0 }: ResponseValues): number | null {
  const wanted = include.includes('message.output_text.logprobs');
  if (numTop > 0 && !wanted) throw mustBe('top_logprobs', '0 unless message.output_text.logprobs is included', numTop);
  return wanted ? numTop : null;
}

type Status = 'in_progress' | 'completed' | 'incomplete' | 'failed';

interface State {
  readonly status: Status;
  readonly output?: readonly object[];
  readonly incomplete_details?: object | null;
  readonly usage?: object;
  readonly ctkvr?: ChatFinish['statistics'];
}

/** What a response says at any time, and what its state adds. */
function toResponse({ given, generation }: ResponseRequest, head: AnswerHead, state: State) {
  return {
    id: head.id,
    object: 'response',
    created_at: head.created,
    background: false,
    error: null,
    incomplete_details: null,
    instructions: given.instructions ?? null,
    max_output_tokens: given.max_output_tokens ?? null,
    metadata: given.metadata ?? {},
    model: head.model,
    output: [],
    parallel_tool_calls: true,
    previous_response_id: null,
    reasoning: { effort: given.reasoning?.effort ?? null, summary: null },
    store: false,
    temperature: generation.temperature,
    text: { format: { type: 'text' } },
    tool_choice: 'auto',
    tools: [],
    top_logprobs: given.top_logprobs ?? 0,
    top_p: generation.topP,
    truncation: 'disabled',
    usage: null,
    ...state,
  };
}

function ended(request: ResponseRequest, head: AnswerHead, { text, tokens, finish, numPromptTokens }: Answer) {
  const status = endStatus(finish);
  return toResponse(request, head, {
    status,
    output: [toItem(head, status, [toPart(text, tokens)])],
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    usage: {
      input_tokens: numPromptTokens,
      input_tokens_details: { cached_tokens: finish.numCachedTokens },
      output_tokens: finish.numCompletionTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: numPromptTokens + finish.numCompletionTokens,
    },
    ctkvr: finish.statistics,
  });
}

function endStatus(finish: ChatFinish): 'completed' | 'incomplete' {
  return finish.reason === 'length' ? 'incomplete' : 'completed';
}

/** An answer is one message. */
function toItem(head: AnswerHead, status: Status, content: readonly object[]) {
  return { id: itemId(head), type: 'message', status, role: 'assistant', content };
}

function itemId({ id }: AnswerHead): string {
  return id.replace(responses.idPrefix, 'msg_');
}

function toPart(text: string, tokens: readonly ScoredToken[] = []) {
  return { type: 'output_text', text, annotations: [], logprobs: tokens.map(toScored) };
}

/** The events of one answer, each with its place in the order. */
class StreamedResponse implements StreamedAnswer {
  readonly #request: ResponseRequest;
  readonly #head: AnswerHead;
  readonly #numPromptTokens: number;
  /** Where the text is: the first part of the first item. */
  readonly #place: { item_id: string; output_index: number; content_index: number };
  #text = '';
  readonly #tokens: ScoredToken[] = [];
  #numSent = 0;

  constructor(request: ResponseRequest, head: AnswerHead, numPromptTokens: number) {
    this.#request = request;
    this.#head = head;
    this.#numPromptTokens = numPromptTokens;
    this.#place = { item_id: itemId(head), output_index: 0, content_index: 0 };
  }

  opened(): Frame[] {
    const response = toResponse(this.#request, this.#head, { status: 'in_progress' });
    return [
      this.#frame('response.created', { response }),
      this.#frame('response.in_progress', { response }),
      this.#frame('response.output_item.added', { output_index: 0, item: toItem(this.#head, 'in_progress', []) }),
      this.#frame('response.content_part.added', { ...this.#place, part: toPart('') }),
    ];
  }

  text(delta: string, tokens: readonly ScoredToken[]): Frame[] {
    this.#text += delta;
    this.#tokens.push(...tokens);
    const logprobs = tokens.map(toScored);
    return [this.#frame('response.output_text.delta', { ...this.#place, delta, logprobs })];
  }

  finished(finish: ChatFinish): Frame[] {
    const text = this.#text;
    const tokens = this.#tokens;
    const part = toPart(text, tokens);
    const status = endStatus(finish);
    const response = ended(this.#request, this.#head, {
      text,
      tokens,
      finish,
      numPromptTokens: this.#numPromptTokens,
    });
    return [
      this.#frame('response.output_text.done', { ...this.#place, text, logprobs: part.logprobs }),
      this.#frame('response.content_part.done', { ...this.#place, part }),
      this.#frame('response.output_item.done', { output_index: 0, item: toItem(this.#head, status, [part]) }),
      this.#frame(`response.${status}`, { response }),
    ];
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

  #frame(type: string, fields: object): Frame {
    const data = { type, sequence_number: this.#numSent, ...fields };
    this.#numSent += 1;
    return { event: type, data };
  }
}
