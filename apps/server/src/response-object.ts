/** The response object of POST /v1/responses: what it repeats of the request, and what its state adds. */
import type { ChatFinish } from './chat-engine.js';
import type { AnswerHead, ParsedRequest } from './protocol.js';
import type { ResponseValues } from './response-fields.js';

export interface ResponseRequest extends ParsedRequest {
  /** What the response repeats. */
  readonly given: ResponseValues;
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
export function toResponse({ given, generation }: ResponseRequest, head: AnswerHead, state: State) {
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
    parallel_tool_calls: given.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: given.reasoning?.effort ?? null, summary: null },
    store: false,
    temperature: generation.temperature,
    text: { format: given.text?.format ?? { type: 'text' } },
    tool_choice: given.tool_choice ?? 'auto',
    tools: given.tools ?? [],
    top_logprobs: given.top_logprobs ?? 0,
    top_p: generation.topP,
    truncation: 'disabled',
    usage: null,
    ...state,
  };
}

export interface EndedResponse {
  readonly output: readonly object[];
  readonly finish: ChatFinish;
  readonly numPromptTokens: number;
}

/** A response that has ended. */
export function endedResponse(request: ResponseRequest, head: AnswerHead, given: EndedResponse) {
  const { output, finish, numPromptTokens } = given;
  const status = endStatus(finish);
  return toResponse(request, head, {
    status,
    output,
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

export function endStatus(finish: ChatFinish): 'completed' | 'incomplete' {
  return finish.reason === 'length' ? 'incomplete' : 'completed';
}
