/** POST /v1/completions: OpenAI's older protocol, which continues a text as it is, without a chat template. */
import type { ChatFinish, ScoredToken } from './chat-engine.js';
import { checkBody } from './check-fields.js';
import { checkStreamOptions } from './check-stream-options.js';
import { type CompletionValues, completionFields, completionSchema } from './completion-fields.js';
import { CompletionLogprobs, type CompletionLogprobsValues } from './completion-logprobs.js';
import type { GenerationRequest, Prompt } from './generation-request.js';
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

  parse: (body) => {
    const given = checkBody(body, completionFields, completionSchema);
    const { max_tokens: maxTokens = DEFAULT_MAX_TOKENS, logprobs: numTopLogprobs = null } = given;
    const json = formatJson(given.response_format);
    return {
      ...checkStreamOptions(given),
      model: given.model,
      numChoices: given.n ?? 1,
      generation: toGeneration(given, { prompt: promptOf(given), maxTokens, numTopLogprobs, json }),
    };
  },

  whole: ({ generation }, head, { text, tokens, finish, numPromptTokens }) => ({
    ...head,
    object: 'text_completion',
    choices: [toChoice(text, { finish, logprobs: logprobsOf(generation)?.add(tokens) })],
    usage: toUsage(numPromptTokens, finish),
    ctkvr: finish.statistics,
  }),

  stream: ({ includeUsage, generation }, head, numPromptTokens) => {
    const object = 'text_completion';
    const logprobs = logprobsOf(generation);
    const chunk = (
      text: string,
      { tokens = [], finish }: { tokens?: readonly ScoredToken[]; finish?: ChatFinish },
    ) => ({
      data: {
        ...head,
        object,
        choices: [toChoice(text, { finish, logprobs: logprobs?.add(tokens) })],
        ...(includeUsage ? { usage: null } : {}), // it is in a chunk of its own, the last
        ...(finish === undefined ? {} : { ctkvr: finish.statistics }),
      },
    });
    return {
      opened: () => [],
      text: (text, tokens) => [chunk(text, { tokens })],
      finished: (finish) => {
        const usage = toUsage(numPromptTokens, finish);
        const last = { data: { ...head, object, choices: [], usage } };
        return [chunk('', { finish }), ...(includeUsage ? [last] : []), { data: '[DONE]' }];
      },
      failed: (error) => [{ data: error.toBody() }],
    };
  },
};

interface ChoiceState {
  readonly finish?: ChatFinish | undefined;
  readonly logprobs?: CompletionLogprobsValues | null | undefined;
}

function toChoice(text: string, { finish, logprobs = null }: ChoiceState) {
  return { index: 0, text, logprobs, finish_reason: finish?.reason ?? null };
}

function logprobsOf({ numTopLogprobs }: GenerationRequest): CompletionLogprobs | null {
  return numTopLogprobs === null ? null : new CompletionLogprobs();
}

function promptOf({ prompt, add_special_tokens: addSpecial = true }: CompletionValues): Prompt {
  const [first] = prompt;
  const one = typeof prompt !== 'string' && typeof first !== 'number' ? first! : (prompt as string | number[]);
  return typeof one === 'string' ? { type: 'text', text: one, addSpecial } : { type: 'tokens', tokens: one };
}
