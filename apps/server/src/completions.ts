/** POST /v1/completions: OpenAI's older protocol, which continues a text as it is, without a chat template. */
import type { ChatFinish } from './chat-engine.js';
import { checkBody } from './check-fields.js';
import { checkStreamOptions } from './check-stream-options.js';
import { type CompletionValues, completionFields, completionSchema } from './completion-fields.js';
import type { Prompt } from './generation-request.js';
import type { ParsedRequest, Protocol } from './protocol.js';
import { toGeneration } from './to-generation.js';
import { formatJson } from './tools/openai-tool-fields.js';
import { toUsage } from './usage.js';

export interface CompletionRequest extends ParsedRequest {
  readonly includeUsage: boolean;
}

/** What OpenAI generates when it is not told how much. */
const DEFAULT_MAX_TOKENS = 16;

export const completions: Protocol<CompletionRequest> = {
  idPrefix: 'cmpl-',
  promptField: 'prompt',

  parse: (json) => {
    const given = checkBody(json, completionFields, completionSchema);
    const drawn = {
      prompt: promptOf(given),
      maxTokens: given.max_tokens ?? DEFAULT_MAX_TOKENS,
      json: formatJson(given.response_format),
    };
    return { ...checkStreamOptions(given), model: given.model, generation: toGeneration(given, drawn) };
  },

  whole: (_request, head, { text, finish, numPromptTokens }) => ({
    ...head,
    object: 'text_completion',
    choices: [toChoice(text, finish)],
    usage: toUsage(numPromptTokens, finish),
    ctkvr: finish.statistics,
  }),

  stream: ({ includeUsage }, head, numPromptTokens) => {
    const object = 'text_completion';
    const chunk = (text: string, finish?: ChatFinish) => ({
      data: {
        ...head,
        object,
        choices: [toChoice(text, finish)],
        ...(includeUsage ? { usage: null } : {}), // it is in a chunk of its own, the last
        ...(finish === undefined ? {} : { ctkvr: finish.statistics }),
      },
    });
    return {
      opened: () => [],
      text: (text) => [chunk(text)],
      finished: (finish) => {
        const usage = toUsage(numPromptTokens, finish);
        const last = { data: { ...head, object, choices: [], usage } };
        return [chunk('', finish), ...(includeUsage ? [last] : []), { data: '[DONE]' }];
      },
      failed: (error) => [{ data: error.toBody() }],
    };
  },
};

function toChoice(text: string, finish: ChatFinish | undefined) {
  return { index: 0, text, logprobs: null, finish_reason: finish?.reason ?? null };
}

function promptOf({ prompt, add_special_tokens: addSpecial = true }: CompletionValues): Prompt {
  const [first] = prompt;
  const one = typeof prompt !== 'string' && typeof first !== 'number' ? first! : (prompt as string | number[]);
  return typeof one === 'string' ? { type: 'text', text: one, addSpecial } : { type: 'tokens', tokens: one };
}
