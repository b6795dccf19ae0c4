/**
 * Every field of a chat completion request that OpenAI, vLLM and llama.cpp's server document, and what becomes of it here. A field that is
 * not here is refused.
 *
 * Sources: the API reference of OpenAI (chat completions), vLLM's ChatCompletionRequest, llama.cpp's tools/server/README.md.
 */
import { z } from 'zod';
import { MAX_CHOICES } from './choices.js';
import { chatExtensionFields } from './ctkvr-fields.js';
import { each, type FieldTable, honoured, ignored, inside, refused, schemaOf } from './field-rules.js';
import { efforts } from './generation-request.js';
import { chatToolFields, responseFormatField } from './tools/openai-tool-fields.js';

/** More than any client is known to send; each is looked for in every token's text. */
const MAX_STOPS = 64;

const textPart = z.object({ type: z.literal('text'), text: z.string() });

/** Fields of one part of a message's content. */
export const partFields = {
  type: honoured('OpenAI', textPart.shape.type, 'only `text`'),
  text: honoured('OpenAI', textPart.shape.text, ''),
  cache_control: ignored('others', 'a hint for caches'),
} satisfies FieldTable;

const calledFunction = z.object({ name: z.string(), arguments: z.string().default('') });
const toolCall = z.object({
  id: z.string().default(''),
  type: z.literal('function').default('function'),
  function: calledFunction,
});

export const functionFields = {
  name: honoured('OpenAI', z.string(), ''),
  arguments: honoured('OpenAI', z.string(), 'JSON'),
} satisfies FieldTable;

/** Fields of one call of a tool, in an earlier answer. */
export const toolCallFields = {
  id: honoured('OpenAI', z.string(), ''),
  type: honoured('OpenAI', z.literal('function'), 'only `function`'),
  function: honoured('OpenAI', calledFunction, 'name and arguments', inside(functionFields)),
  index: ignored('others', 'calls are in order'),
} satisfies FieldTable;

/** Fields of one message. */
export const messageFields = {
  role: honoured(
    'OpenAI',
    z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
    '`developer` is rendered as `system`',
  ),
  content: honoured(
    'OpenAI',
    z.union([z.string(), z.array(textPart).min(1)]),
    'a text, or a list of text parts, which are joined; may be missing beside `tool_calls`',
    // Of a part of another kind the kind is at fault, not the fields that come with it.
    each((part) => ('type' in part && part.type !== 'text' ? null : partFields)),
  ),
  tool_calls: honoured(
    'OpenAI',
    z.array(toolCall),
    'of an assistant; see below',
    each(() => toolCallFields),
  ),
  tool_call_id: honoured('OpenAI', z.string(), 'of a tool: the call that it answers'),
  prefix: honoured('others', z.boolean(), 'default false; true = go on with this message, an assistant’s and the last'),
  name: ignored('OpenAI', 'chat templates have no place for it'),
  refusal: ignored('OpenAI', 'part of an earlier answer'),
  annotations: ignored('OpenAI', 'part of an earlier answer'),
  reasoning: ignored('others', 'part of an earlier answer'),
  reasoning_content: ignored('others', 'part of an earlier answer'),
  function_call: refused('OpenAI', [], 'function calls are not supported'),
  audio: refused('OpenAI', [], 'audio is not supported'),
} satisfies FieldTable;

const message = z.object({
  role: messageFields.role.schema,
  content: messageFields.content.schema.optional(),
  tool_calls: messageFields.tool_calls.schema.optional(),
  tool_call_id: messageFields.tool_call_id.schema.optional(),
  prefix: messageFields.prefix.schema.optional(),
});

export const streamOptionFields = {
  include_usage: honoured('OpenAI', z.boolean(), 'a last chunk with the usage'),
  include_obfuscation: ignored('OpenAI', 'no padding is sent'),
  continuous_usage_stats: refused('vLLM', [false], 'the usage is in the last chunk only: send include_usage'),
} satisfies FieldTable;

/** By which an answer is drawn and ends. */
export const drawingFields = {
  temperature: honoured('OpenAI', z.number().min(0).max(2), 'default 1; 0 = greedy'),
  top_p: honoured('OpenAI', z.number().gt(0).max(1), 'default 1'),
  top_k: honoured('vLLM', z.int().min(-1).max(0x7fff_ffff), 'default 0; 0 and -1 = all'),
  typical_p: honoured('llama.cpp', z.number().min(0).max(1), 'default 1 = all'),
  min_p: honoured('vLLM', z.number().min(0).max(1), 'default 0'),
  frequency_penalty: honoured('OpenAI', z.number().min(-2).max(2), 'default 0'),
  presence_penalty: honoured('OpenAI', z.number().min(-2).max(2), 'default 0'),
  repetition_penalty: honoured('vLLM', z.number().min(0.01).max(100), 'default 1; over the whole prompt and answer'),
  repeat_penalty: honoured(
    'llama.cpp',
    z.number().min(0.01).max(100),
    'default 1; over the last `repeat_last_n` tokens',
  ),
  repeat_last_n: honoured(
    'llama.cpp',
    z
      .int()
      .min(-1)
      .max(1 << 20),
    'default 64; -1 = all',
  ),
  logit_bias: honoured(
    'OpenAI',
    z.record(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100)),
    'from token ids to what is added to their logits before penalties; -100 all but forbids, 100 all but forces',
  ),
  seed: honoured('OpenAI', z.int(), 'taken modulo 2^32; default: drawn anew for each request'),
  stop: honoured(
    'OpenAI',
    z.union([z.string().min(1), z.array(z.string().min(1)).max(MAX_STOPS)]),
    `a text, or up to ${MAX_STOPS}`,
  ),
  ignore_eos: honoured('vLLM', z.boolean(), 'default false; true = generate on when the model ends its turn'),
} satisfies FieldTable;

/** What a request may begin from. */
export const cachingFields = {
  cache_salt: honoured('vLLM', z.string().min(1), 'only requests with the same one begin from each other’s prompts'),
  cache_prompt: honoured('llama.cpp', z.boolean(), 'default true; false = the whole prompt is read anew'),
} satisfies FieldTable;

const honouredFields = {
  model: honoured('OpenAI', z.string().min(1), 'the name served; another is a 404'),
  messages: honoured(
    'OpenAI',
    z.array(message).min(1),
    'at least one; see below',
    each(() => messageFields),
  ),
  max_completion_tokens: honoured(
    'OpenAI',
    z.int().min(1),
    'goes before `max_tokens`; at most what the context has room for',
  ),
  max_tokens: honoured('OpenAI', z.int().min(1), 'the same'),
  ...drawingFields,
  ...cachingFields,
  ...chatExtensionFields,
  n: honoured(
    'OpenAI',
    z.int().min(1).max(MAX_CHOICES),
    'default 1; answers to the prompt, with seeds that follow one another; each counts as a request in the queue',
  ),
  add_generation_prompt: honoured('vLLM', z.boolean(), 'default true; false = the prompt ends where the messages end'),
  continue_final_message: honoured(
    'vLLM',
    z.boolean(),
    'default: whether the last message is an assistant’s without tool calls; true = go on with it, false = answer it',
  ),
  chat_template_kwargs: honoured(
    'vLLM',
    z.record(z.string(), z.unknown()),
    'variables of the model’s chat template, such as `enable_thinking`; one that it does not mention is refused',
  ),
  reasoning_effort: honoured(
    'OpenAI',
    z.enum(efforts),
    'for templates that can be told to think: `none` = off; those that only know on and off take every other for on',
  ),
  logprobs: honoured('OpenAI', z.boolean(), 'default false; true = those of the answer’s tokens, before temperature'),
  top_logprobs: honoured('OpenAI', z.int().min(0).max(20), 'default 0; only with `logprobs`'),
  ...chatToolFields,
  response_format: responseFormatField,
  session: honoured(
    'CTkvr',
    z.string().min(1),
    'a document that was read (`/v1/sessions`) and that the messages are about; the first of them must be the user’s',
  ),
  stream: honoured('OpenAI', z.boolean(), 'default false'),
  stream_options: honoured(
    'OpenAI',
    z.object({ include_usage: z.boolean().optional() }),
    'only with `stream`; see below',
    inside(streamOptionFields),
  ),
} satisfies FieldTable;

const ignoredFields = {
  user: ignored('OpenAI', 'a label'),
  safety_identifier: ignored('OpenAI', 'a label'),
  metadata: ignored('OpenAI', 'a label'),
  request_id: ignored('vLLM', 'a label'),
  store: ignored('OpenAI', 'nothing is stored'),
  service_tier: ignored('OpenAI', 'there is one tier'),
  priority: ignored('vLLM', 'API keys have priorities, requests have none'),
  prompt_cache_key: ignored('OpenAI', 'a hint for caches'),
  prompt_cache_retention: ignored('OpenAI', 'a hint for caches'),
  n_cache_reuse: ignored('llama.cpp', 'a hint for caches'),
  id_slot: ignored('llama.cpp', 'a hint for caches'),
  prediction: ignored('OpenAI', 'a hint for speed'),
  parse_tool_calls: ignored('llama.cpp', 'calls are always taken out of the text'),
  guided_decoding_backend: ignored('vLLM', 'has a meaning only beside fields that are refused'),
  guided_whitespace_pattern: ignored('vLLM', 'has a meaning only beside fields that are refused'),
} satisfies FieldTable;

const noTools = 'an older form: send tools and tool_choice';
const noGrammar = 'to hold an answer to a schema send response_format';
const noLogprobs = 'log probabilities are of the answer’s tokens only: send logprobs';
const byLogitBias = 'tokens are made more or less likely one by one: send logit_bias';
const noSampler = 'this sampler is not supported';
const onePrompt = 'prompts are rendered by the model’s own chat template';
const noReasoning = 'models served here have no such setting';
const noTokenIds = 'answers are text only';
const noSearch = 'every choice that is drawn is returned: send n';

const refusedFields = {
  best_of: refused('vLLM', [1], noSearch),
  n_cmpl: refused('llama.cpp', [1], noSearch),
  use_beam_search: refused('vLLM', [false], noSearch),
  length_penalty: refused('vLLM', [1], noSearch),
  functions: refused('OpenAI', [[]], noTools),
  function_call: refused('OpenAI', ['none', 'auto'], noTools),
  guided_json: refused('vLLM', [], noGrammar),
  guided_regex: refused('vLLM', [], noGrammar),
  guided_choice: refused('vLLM', [], noGrammar),
  guided_grammar: refused('vLLM', [], noGrammar),
  structural_tag: refused('vLLM', [], noGrammar),
  structured_outputs: refused('vLLM', [], noGrammar),
  grammar: refused('llama.cpp', [''], noGrammar),
  grammar_lazy: refused('llama.cpp', [false], noGrammar),
  grammar_triggers: refused('llama.cpp', [[]], noGrammar),
  json_schema: refused('llama.cpp', [], noGrammar),
  prompt_logprobs: refused('vLLM', [0], noLogprobs),
  n_probs: refused('llama.cpp', [0], noLogprobs),
  post_sampling_probs: refused('llama.cpp', [false], noLogprobs),
  return_tokens_as_token_ids: refused('vLLM', [false], noTokenIds),
  return_token_ids: refused('vLLM', [false], noTokenIds),
  return_tokens: refused('llama.cpp', [false], noTokenIds),
  modalities: refused('OpenAI', [['text']], 'only text is generated'),
  audio: refused('OpenAI', [], 'only text is generated'),
  web_search_options: refused('OpenAI', [], 'nothing is searched'),
  verbosity: refused('OpenAI', ['medium'], noReasoning),
  include_reasoning: refused('vLLM', [true], noReasoning),
  thinking_token_budget: refused('vLLM', [], noReasoning),
  reasoning_format: refused('llama.cpp', ['none', 'auto'], noReasoning),
  reasoning_budget: refused('llama.cpp', [-1], noReasoning),
  thinking_forced_open: refused('llama.cpp', [false], noReasoning),
  allowed_token_ids: refused('vLLM', [], byLogitBias),
  bad_words: refused('vLLM', [[]], byLogitBias),
  logits_processors: refused('vLLM', [[]], byLogitBias),
  top_n_sigma: refused('llama.cpp', [-1], noSampler),
  dynatemp_range: refused('llama.cpp', [0], noSampler),
  dynatemp_exponent: refused('llama.cpp', [1], noSampler),
  xtc_probability: refused('llama.cpp', [0], noSampler),
  xtc_threshold: refused('llama.cpp', [0.1], noSampler),
  dry_multiplier: refused('llama.cpp', [0], noSampler),
  dry_base: refused('llama.cpp', [1.75], noSampler),
  dry_allowed_length: refused('llama.cpp', [2], noSampler),
  dry_penalty_last_n: refused('llama.cpp', [-1], noSampler),
  dry_sequence_breakers: refused('llama.cpp', [['\n', ':', '"', '*']], noSampler),
  mirostat: refused('llama.cpp', [0], noSampler),
  mirostat_tau: refused('llama.cpp', [5], noSampler),
  mirostat_eta: refused('llama.cpp', [0.1], noSampler),
  min_keep: refused('llama.cpp', [0], noSampler),
  samplers: refused('llama.cpp', [], 'the order of samplers is fixed'),
  min_tokens: refused('vLLM', [0], 'send ignore_eos with max_completion_tokens for an answer of a fixed length'),
  n_predict: refused('llama.cpp', [-1], 'send max_completion_tokens'),
  n_indent: refused('llama.cpp', [0], 'lines are not cut by their indentation'),
  t_max_predict_ms: refused('llama.cpp', [0], 'an answer has no time limit: send max_completion_tokens'),
  stop_token_ids: refused('vLLM', [[]], 'send stop strings'),
  include_stop_str_in_output: refused('vLLM', [false], 'a stop string is never in the answer'),
  skip_special_tokens: refused('vLLM', [true], 'control tokens are never in the answer'),
  spaces_between_special_tokens: refused('vLLM', [true], 'control tokens are never in the answer'),
  preserved_tokens: refused('llama.cpp', [[]], 'control tokens are never in the answer'),
  truncate_prompt_tokens: refused('vLLM', [-1], 'a prompt is never cut'),
  n_keep: refused('llama.cpp', [0], 'a prompt is never cut'),
  n_discard: refused('llama.cpp', [0], 'a prompt is never cut'),
  prompt: refused('OpenAI', [], 'send messages'),
  suffix: refused('OpenAI', [''], 'nothing is filled in between two texts'),
  echo: refused('OpenAI', [false], 'the prompt is not part of the answer'),
  add_special_tokens: refused('vLLM', [false], onePrompt),
  documents: refused('vLLM', [[]], onePrompt),
  chat_template: refused('vLLM', [], onePrompt),
  mm_processor_kwargs: refused('vLLM', [{}], 'only text is read'),
  media_io_kwargs: refused('vLLM', [{}], 'only text is read'),
  kv_transfer_params: refused('vLLM', [{}], 'nothing is transferred'),
  vllm_xargs: refused('vLLM', [{}], 'vLLM’s own extensions are not there'),
  lora: refused('llama.cpp', [[]], 'adapters are not supported'),
  timings_per_token: refused('llama.cpp', [false], 'times are in the field ctkvr of the answer'),
  return_progress: refused('llama.cpp', [false], 'the progress of a prompt is not reported'),
  response_fields: refused('llama.cpp', [[]], 'answers have all their fields'),
} satisfies FieldTable;

/** Fields of the request itself. */
export const requestFields = { ...honouredFields, ...ignoredFields, ...refusedFields } satisfies FieldTable;

/** Checks the honoured fields of an object without nulls. */
export const requestSchema = schemaOf(requestFields, ['model', 'messages']);

export type RequestValues = z.infer<typeof requestSchema>;
