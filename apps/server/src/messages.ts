/** POST /v1/messages: Anthropic's protocol. */
import { toAnthropicBody } from './anthropic-error.js';
import { anthropicFields, anthropicSchema } from './anthropic-fields.js';
import { anthropicMessages } from './anthropic-messages.js';
import type { ChatFinish } from './chat-engine.js';
import { checkBody } from './check-fields.js';
import type { Frame } from './event-stream.js';
import { toMessagesPrompt } from './generation-request.js';
import type { AnswerHead, ParsedRequest, Protocol } from './protocol.js';
import { toGeneration } from './to-generation.js';

export const messages: Protocol<ParsedRequest> = {
  idPrefix: 'msg_',
  promptField: 'messages',

  parse: (json) => {
    const { stop_sequences: stop, max_tokens: maxTokens, ...given } = checkBody(json, anthropicFields, anthropicSchema);
    const prompt = toMessagesPrompt(anthropicMessages(given));
    const generation = toGeneration({ ...given, stop }, { prompt, maxTokens });
    return { model: given.model, stream: given.stream ?? false, generation };
  },

  whole: (_request, head, { text, finish, numPromptTokens }) => ({
    ...toMessage(head, [{ type: 'text', text, citations: null }]),
    ...toStop(finish),
    usage: toUsage(numPromptTokens, finish),
    ctkvr: finish.statistics,
  }),

  stream: (_request, head, numPromptTokens) => ({
    opened: () => {
      const message = { ...toMessage(head, []), ...notStopped, usage: toUsage(numPromptTokens, nothingYet) };
      const contentBlock = { type: 'text', text: '', citations: null };
      return [
        frame('message_start', { message }),
        frame('content_block_start', { index: 0, content_block: contentBlock }),
        frame('ping', {}),
      ];
    },
    text: (text) => [frame('content_block_delta', { index: 0, delta: { type: 'text_delta', text } })],
    finished: (finish) => {
      const usage = toUsage(numPromptTokens, finish);
      return [
        frame('content_block_stop', { index: 0 }),
        frame('message_delta', { delta: toStop(finish), usage, ctkvr: finish.statistics }),
        frame('message_stop', {}),
      ];
    },
    failed: (error) => [{ event: 'error', data: toAnthropicBody(error) }],
  }),
};

function frame(type: string, fields: object): Frame {
  return { event: type, data: { type, ...fields } };
}

function toMessage({ id, model }: AnswerHead, content: readonly object[]) {
  return { id, type: 'message', role: 'assistant', model, content, container: null };
}

const notStopped = { stop_reason: null, stop_sequence: null, stop_details: null };

function toStop({ reason, stopString }: ChatFinish) {
  const stopReason = stopString !== null ? 'stop_sequence' : reason === 'length' ? 'max_tokens' : 'end_turn';
  return { ...notStopped, stop_reason: stopReason, stop_sequence: stopString };
}

/** What a stream begins with; how much was stored before is known when the prompt is read. */
const nothingYet = { numCachedTokens: 0, numCompletionTokens: 0 };

/** `input_tokens` are those that no cache had. */
function toUsage(
  numPromptTokens: number,
  { numCachedTokens, numCompletionTokens }: Pick<ChatFinish, 'numCachedTokens' | 'numCompletionTokens'>,
) {
  return {
    input_tokens: numPromptTokens - numCachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: numCachedTokens,
    output_tokens: numCompletionTokens,
  };
}
