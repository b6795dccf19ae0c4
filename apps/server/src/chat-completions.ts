/** POST /v1/chat/completions: OpenAI's chat completion protocol. */
import type { ChatFinish, ScoredToken } from './chat-engine.js';
import { type ChatRequest, parseChatRequest } from './chat-request.js';
import type { AnswerHead, Protocol } from './protocol.js';
import { toScored } from './scored-token.js';
import { toUsage } from './usage.js';

export const chatCompletions: Protocol<ChatRequest> = {
  idPrefix: 'chatcmpl-',
  promptField: 'messages',
  parse: parseChatRequest,

  whole: ({ generation }, head, { text, tokens, finish, numPromptTokens }) => ({
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: generation.numTopLogprobs === null ? null : toLogprobs(tokens),
        finish_reason: finish.reason,
      },
    ],
    usage: toUsage(numPromptTokens, finish),
    ctkvr: finish.statistics,
  }),

  stream: ({ includeUsage, generation }, head, numPromptTokens) => {
    const hasLogprobs = generation.numTopLogprobs !== null;
    const chunk = (delta: Delta, more: { finish?: ChatFinish; tokens?: readonly ScoredToken[] } = {}) => {
      const logprobs = hasLogprobs && more.tokens !== undefined ? toLogprobs(more.tokens) : null;
      return { data: toChunk(head, { delta, logprobs, finish: more.finish, includeUsage }) };
    };
    return {
      opened: () => [chunk({ role: 'assistant', content: '' })],
      text: (content, tokens) => [chunk({ content }, { tokens })],
      finished: (finish) => {
        const usage = toUsage(numPromptTokens, finish);
        const last = { data: { ...head, object: 'chat.completion.chunk', choices: [], usage } };
        return [chunk({}, { finish }), ...(includeUsage ? [last] : []), { data: '[DONE]' }];
      },
      failed: (error) => [{ data: error.toBody() }],
    };
  },
};

function toLogprobs(tokens: readonly ScoredToken[]) {
  return { content: tokens.map(toScored), refusal: null };
}

interface Delta {
  readonly role?: 'assistant';
  readonly content?: string;
}

/** A chunk that carries the role, some text, or the finish reason. */
function toChunk(
  head: AnswerHead,
  part: { delta: Delta; logprobs: object | null; finish: ChatFinish | undefined; includeUsage: boolean },
) {
  const { delta, logprobs, finish, includeUsage } = part;
  return {
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs, finish_reason: finish?.reason ?? null }],
    ...(includeUsage ? { usage: null } : {}), // it is in a chunk of its own, the last
    ...(finish === undefined ? {} : { ctkvr: finish.statistics }),
  };
}
