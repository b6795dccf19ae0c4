/** POST /v1/chat/completions: OpenAI's chat completion protocol. */
import type { ChatFinish } from './chat-engine.js';
import { type ChatRequest, parseChatRequest } from './chat-request.js';
import type { AnswerHead, Protocol } from './protocol.js';
import { toUsage } from './usage.js';

export const chatCompletions: Protocol<ChatRequest> = {
  idPrefix: 'chatcmpl-',
  promptField: 'messages',
  parse: parseChatRequest,

  whole: (_request, head, { text, finish, numPromptTokens }) => ({
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: null,
        finish_reason: finish.reason,
      },
    ],
    usage: toUsage(numPromptTokens, finish),
    ctkvr: finish.statistics,
  }),

  stream: ({ includeUsage }, head, numPromptTokens) => {
    const chunk = (delta: Delta, finish?: ChatFinish) => ({ data: toChunk(head, { delta, finish, includeUsage }) });
    return {
      opened: () => [chunk({ role: 'assistant', content: '' })],
      text: (content) => [chunk({ content })],
      finished: (finish) => {
        const usage = toUsage(numPromptTokens, finish);
        const last = { data: { ...head, object: 'chat.completion.chunk', choices: [], usage } };
        return [chunk({}, finish), ...(includeUsage ? [last] : []), { data: '[DONE]' }];
      },
      failed: (error) => [{ data: error.toBody() }],
    };
  },
};

interface Delta {
  readonly role?: 'assistant';
  readonly content?: string;
}

/** A chunk that carries the role, some text, or the finish reason. */
function toChunk(
  head: AnswerHead,
  { delta, finish, includeUsage }: { delta: Delta; finish: ChatFinish | undefined; includeUsage: boolean },
) {
  return {
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish?.reason ?? null }],
    ...(includeUsage ? { usage: null } : {}), // it is in a chunk of its own, the last
    ...(finish === undefined ? {} : { ctkvr: finish.statistics }),
  };
}
