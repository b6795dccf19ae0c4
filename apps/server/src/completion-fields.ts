/**
 * Every field of a completion request that OpenAI, vLLM and llama.cpp's server document. Most are those of a chat completion.
 *
 * Sources: the API reference of OpenAI (completions, legacy), vLLM's CompletionRequest, llama.cpp's tools/server/README.md.
 */
import { z } from 'zod';
import { extensionFields } from './ctkvr-fields.js';
import { type FieldTable, honoured, ignored, refused, schemaOf } from './field-rules.js';
import { requestFields } from './request-fields.js';

const {
  messages: _messages,
  max_completion_tokens: _limit,
  top_logprobs: _top,
  add_generation_prompt: _begin,
  continue_final_message: _goOn,
  chat_template_kwargs: _variables,
  reasoning_effort: _effort,
  session: _session,
  ctkvr: _ctkvr,
  ...shared
} = requestFields;

const tokenIds = z.array(z.int().min(0)).min(1);

export const completionFields = {
  ...shared,
  ...extensionFields,
  prompt: honoured(
    'OpenAI',
    z.union([z.string(), z.array(z.string()).length(1), tokenIds, z.array(tokenIds).length(1)]),
    'a text, in which the texts of control tokens are those tokens; or token ids; or a list of one of these',
  ),
  max_tokens: honoured('OpenAI', z.int().min(1), 'default 16; at most what the context has room for'),
  add_special_tokens: honoured(
    'vLLM',
    z.boolean(),
    'default true: a text begins with BOS, where the model’s prompts do',
  ),
  tools: refused('OpenAI', [[]], 'send messages to /v1/chat/completions'),
  tool_choice: refused('OpenAI', ['none', 'auto'], 'send messages to /v1/chat/completions'),
  parallel_tool_calls: ignored('OpenAI', 'without tools there are no calls'),
  logprobs: honoured(
    'OpenAI',
    z.int().min(0).max(20),
    'those of the answer’s tokens, before temperature, and as many of the likeliest in their places',
  ),
  messages: refused('OpenAI', [], 'send a prompt, or messages to /v1/chat/completions'),
} satisfies FieldTable;

export const completionSchema = schemaOf(completionFields, ['model', 'prompt']);

export type CompletionValues = z.infer<typeof completionSchema>;
