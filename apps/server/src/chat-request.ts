/** The body of POST /v1/chat/completions, checked field by field against the tables of request-fields.ts. */
import { checkBody } from './check-fields.js';
import { checkStreamOptions } from './check-stream-options.js';
import { type ChatMessage, type Prompt, toGeneration } from './generation-request.js';
import { mustBe } from './invalid-value.js';
import type { ParsedRequest } from './protocol.js';
import { type RequestValues, requestFields, requestSchema } from './request-fields.js';

export interface ChatRequest extends ParsedRequest {
  readonly includeUsage: boolean;
}

/** Returns the checked request. @throws {ApiError} 400 with `param` naming the first field that is wrong. */
export function parseChatRequest(json: unknown): ChatRequest {
  const given = checkBody(json, requestFields, requestSchema);
  const maxTokens = given.max_completion_tokens ?? given.max_tokens ?? null;
  const prompt = messagesOf(given);
  return { ...checkStreamOptions(given), model: given.model, generation: toGeneration(given, { prompt, maxTokens }) };
}

function messagesOf({ messages }: RequestValues): Prompt {
  messages.forEach(({ role, content }, index) => {
    if (role !== 'user' || plainText(content).trim() !== '') return;
    throw mustBe(`messages[${index}].content`, 'a text that is not empty in a message of the user', content);
  });
  return {
    type: 'messages',
    messages: messages.map(({ role, content }) => ({ role: templateRole(role), content: plainText(content) })),
  };
}

/** GGUF chat templates know `system`; `developer` is OpenAI's newer word for it. */
function templateRole(role: 'system' | 'developer' | 'user' | 'assistant'): ChatMessage['role'] {
  return role === 'developer' ? 'system' : role;
}

function plainText(value: RequestValues['messages'][number]['content']): string {
  return typeof value === 'string' ? value : value.map((part) => part.text).join('');
}
