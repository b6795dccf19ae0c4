/** POST /v1/chat/completions: OpenAI's chat completion protocol. */
import type { ChatFinish, ScoredToken } from './chat-engine.js';
import { type ChatRequest, parseChatRequest } from './chat-request.js';
import type { AnswerHead, Protocol } from './protocol.js';
import type { ReadMap } from './read-map.js';
import { toScored } from './scored-token.js';
import type { AnswerCall } from './tools/tool-use.js';
import { toUsage } from './usage.js';

export const chatCompletions: Protocol<ChatRequest> = {
  idPrefix: 'chatcmpl-',
  promptField: 'messages',
  parse: parseChatRequest,

  whole: ({ generation }, head, { text, thinking, calls, tokens, finish, numPromptTokens }) => ({
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: toMessage(text, thinking, calls),
        logprobs: generation.numTopLogprobs === null ? null : toLogprobs(tokens),
        finish_reason: toReason(finish),
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
    let numCalls = 0;
    return {
      opened: () => [chunk({ role: 'assistant', content: '' })],
      text: (content, tokens, readMap) => [chunk({ content }, { tokens, readMap })],
      thinking: (reasoning, tokens) => [chunk({ reasoning_content: reasoning }, { tokens })],
      toolCall: (call, tokens) => {
        const delta = { tool_calls: [{ index: numCalls, ...toCall(call) }] };
        numCalls += 1;
        return [chunk(delta, { tokens })];
      },
      finished: (finish) => {
        const usage = toUsage(numPromptTokens, finish);
        const last = { data: { ...head, object: 'chat.completion.chunk', choices: [], usage } };
        return [chunk({}, { finish }), ...(includeUsage ? [last] : []), { data: '[DONE]' }];
      },
      failed: (error) => [{ data: error.toBody() }],
    };
  },
};

/** A call may stand alone; what has neither text nor calls has the empty text. */
function toMessage(text: string, thinking: string, calls: readonly AnswerCall[]) {
  return {
    role: 'assistant',
    content: text === '' && calls.length > 0 ? null : text,
    refusal: null,
    ...(thinking === '' ? {} : { reasoning_content: thinking }),
    ...(calls.length === 0 ? {} : { tool_calls: calls.map(toCall) }),
  };
}

function toCall({ id, name, arguments: args }: AnswerCall) {
  return { id, type: 'function', function: { name, arguments: args } };
}

function toReason({ reason }: ChatFinish): string {
  return reason === 'toolCalls' ? 'tool_calls' : reason;
}

function toLogprobs(tokens: readonly ScoredToken[]) {
  return { content: tokens.map(toScored), refusal: null };
}

interface Delta {
  readonly role?: 'assistant';
  readonly content?: string;
  readonly reasoning_content?: string;
  /** Whole ones. */
  readonly tool_calls?: readonly object[];
}

interface ChunkPart {
  readonly delta: Delta;
  readonly logprobs: object | null;
  readonly finish?: ChatFinish | undefined;
  readonly readMap?: ReadMap | null | undefined;
  readonly includeUsage: boolean;
}

/** A chunk that carries the role, some text, some thoughts, a call, or the finish reason. */
function toChunk(head: AnswerHead, { delta, logprobs, finish, readMap, includeUsage }: ChunkPart) {
  return {
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs, finish_reason: finish === undefined ? null : toReason(finish) }],
    ...(includeUsage ? { usage: null } : {}), // it is in a chunk of its own, the last
    ...(readMap === undefined ? {} : { ctkvr: toCtkvr(readMap) }),
    ...(finish === undefined ? {} : { ctkvr: finish.statistics }),
  };
}

function toCtkvr(readMap: ReadMap | null | undefined) {
  return readMap === undefined ? {} : { read_map: readMap };
}
