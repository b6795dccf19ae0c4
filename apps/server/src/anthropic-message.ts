/** The message object of Anthropic's protocol. */
import type { ChatFinish } from './chat-engine.js';
import type { Answer, AnswerHead } from './protocol.js';

export function toMessage({ id, model }: AnswerHead, content: readonly object[]) {
  return { id, type: 'message', role: 'assistant', model, content, container: null };
}

/** The blocks of a whole answer. One without anything has an empty text. */
export function toBlocks({ text, thinking, calls }: Answer): object[] {
  const isEmpty = thinking === '' && calls.length === 0;
  return [
    ...(thinking === '' ? [] : [{ type: 'thinking', thinking, signature: '' }]),
    ...(text === '' && !isEmpty ? [] : [{ type: 'text', text, citations: null }]),
    ...calls.map(({ id, name, arguments: args }) => ({
      type: 'tool_use',
      id,
      name,
      input: JSON.parse(args) as object,
    })),
  ];
}

/** @param finish null while the answer goes on. */
export function toStop(finish: ChatFinish | null) {
  return {
    stop_reason: finish === null ? null : stopReason(finish),
    stop_sequence: finish?.stopString ?? null,
    stop_details: null,
  };
}

function stopReason({ reason, stopString }: ChatFinish): string {
  if (reason === 'toolCalls') return 'tool_use';
  return stopString !== null ? 'stop_sequence' : reason === 'length' ? 'max_tokens' : 'end_turn';
}

/** `input_tokens` are those that no cache had. */
export function toMessageUsage(
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
