/** POST /v1/chat/completions: OpenAI's chat completion protocol. */
import type { ChatFinish, LikelyToken, ScoredToken } from './chat-engine.js';
import { type ChatRequest, parseChatRequest } from './chat-request.js';
import type { AnswerHead, Protocol } from './protocol.js';
import type { ReadMap } from './read-map.js';
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
    ctkvr: { ...finish.statistics, ...toCtkvr(finish.readMap) },
  }),

  stream: ({ includeUsage, generation }, head, numPromptTokens) => {
    const hasLogprobs = generation.numTopLogprobs !== null;
    const chunk = (
      delta: Delta,
      more: Pick<ChunkPart, 'finish' | 'readMap'> & { tokens?: readonly ScoredToken[] } = {},
    ) => {
      const { tokens, ...part } = more;
      const logprobs = hasLogprobs && tokens !== undefined ? toLogprobs(tokens) : null;
      return { data: toChunk(head, { delta, logprobs, includeUsage, ...part }) };
    };
    return {
      opened: () => [chunk({ role: 'assistant', content: '' })],
      text: (content, tokens, readMap) => [chunk({ content }, { tokens, readMap })],
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
  return {
    content: tokens.map((token) => ({ ...toToken(token), top_logprobs: token.top.map(toToken) })),
    refusal: null,
  };
}

function toToken({ bytes, logprob }: LikelyToken) {
  return { token: Buffer.from(bytes).toString('utf8'), logprob, bytes: Array.from(bytes) };
}

interface Delta {
  readonly role?: 'assistant';
  readonly content?: string;
}

interface ChunkPart {
  readonly delta: Delta;
  readonly logprobs: object | null;
  readonly finish?: ChatFinish | undefined;
  readonly readMap?: ReadMap | null | undefined;
  readonly includeUsage: boolean;
}

/** A chunk that carries the role, some text, or the finish reason. */
function toChunk(head: AnswerHead, { delta, logprobs, finish, readMap, includeUsage }: ChunkPart) {
  return {
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs, finish_reason: finish?.reason ?? null }],
    ...(includeUsage ? { usage: null } : {}), // it is in a chunk of its own, the last
    ...(readMap === undefined ? {} : { ctkvr: toCtkvr(readMap) }),
    ...(finish === undefined ? {} : { ctkvr: finish.statistics }),
  };
}

function toCtkvr(readMap: ReadMap | null | undefined) {
  return readMap === undefined ? {} : { read_map: readMap };
}
