/** Of each protocol: the tables of its fields, where they are in a request, and of each honoured field a value with its effect. */
import { expect } from 'vitest';
import {
  anthropicFields,
  countFields,
  textBlockFields,
  toolResultFields,
  toolUseFields,
  turnFields,
} from '../src/anthropic-fields.js';
import { completionFields } from '../src/completion-fields.js';
import { chatCtkvrFields } from '../src/ctkvr-fields.js';
import type { FieldTable } from '../src/field-rules.js';
import {
  functionFields,
  messageFields,
  partFields,
  requestFields,
  streamOptionFields,
  toolCallFields,
} from '../src/request-fields.js';
import {
  callItemFields,
  messageItemFields,
  reasoningFields,
  responseFields,
  responsePartFields,
  resultItemFields,
  textFields,
} from '../src/response-fields.js';

import {
  anthropicToolFields,
  outputConfigFields,
  outputFormatFields,
  thinkingFields,
  toolChoiceFields,
} from '../src/tools/anthropic-tool-fields.js';
import {
  jsonSchemaFields,
  responseFormatFields,
  responseToolFields,
  textFormatFields,
  toolFields,
  toolFunctionFields,
} from '../src/tools/openai-tool-fields.js';

export interface FieldPlace {
  readonly title: string;
  readonly table: FieldTable;
  /** Of its fields in errors. */
  readonly path: string;
  /** A request that has the given fields there. */
  readonly put: (fields: object) => object;
}

export interface FieldExample {
  /** Not the default. */
  readonly value: unknown;
  /** What reaches the engine by it, and not without. */
  readonly reaches?: object;
  /** What is in the response by it, and not without. */
  readonly answers?: RegExp;
}

export interface ProtocolWithFields {
  readonly route: string;
  readonly hello: object;
  readonly places: readonly FieldPlace[];
  /** By the name in errors. */
  readonly examples: Readonly<Record<string, FieldExample>>;
  /** Names in errors of what every request has: other tests show their effect. */
  readonly needed: readonly string[];
  /** By the name in errors: a value that it cannot have, where it can be any object. */
  readonly wrong?: Readonly<Record<string, unknown>>;
}

const drawing: Record<string, FieldExample> = {
  temperature: { value: 0.5, reaches: { temperature: 0.5 } },
  top_p: { value: 0.5, reaches: { topP: 0.5 } },
  top_k: { value: 7, reaches: { topK: 7 } },
  typical_p: { value: 0.4, reaches: { typicalP: 0.4 } },
  min_p: { value: 0.1, reaches: { minP: 0.1 } },
  logit_bias: { value: { 7: -100 }, reaches: { logitBias: { 7: -100 } } },
  frequency_penalty: { value: 0.5, reaches: { frequencyPenalty: 0.5 } },
  presence_penalty: { value: -0.5, reaches: { presencePenalty: -0.5 } },
  repetition_penalty: { value: 1.1, reaches: { repeatPenalty: 1.1, repeatWindow: 1 << 20 } },
  repeat_penalty: { value: 1.2, reaches: { repeatPenalty: 1.2, repeatWindow: 64 } },
  repeat_last_n: { value: 9, reaches: { repeatPenalty: 1, repeatWindow: 9 } },
  seed: { value: -1, reaches: { seed: 0xffff_ffff } },
  stop: {
    value: Array.from({ length: 16 }, (_, n) => `stop ${n}`),
    reaches: { stop: expect.arrayContaining(['stop 0', 'stop 15']) },
  },
  ignore_eos: { value: true, reaches: { ignoreEndOfTurn: true } },
};

const caching: Record<string, FieldExample> = {
  cache_salt: { value: 'a', reaches: { cacheSalt: 'a' } },
  cache_prompt: { value: false, reaches: { cachePrompt: false } },
};

const streaming: Record<string, FieldExample> = {
  stream: { value: true, answers: /^data: /m },
  'stream_options.include_usage': { value: true, answers: /"total_tokens":4/ },
};

const user = { role: 'user', content: 'one two' };
const chat = { model: 'echo', messages: [user] };
const completion = { model: 'echo', prompt: 'one two' };

const response = { model: 'echo', input: 'one two' };
const call = { type: 'function_call', call_id: 'c1', name: 'look', arguments: '{"at":"sea"}' };
const result = { type: 'function_call_output', call_id: 'c1', output: 'grey' };

const chatCall = { id: 'c1', type: 'function', function: { name: 'look', arguments: '{"at":"sea"}' } };
const withCall = (call: object) => ({ ...chat, messages: [{ role: 'assistant', content: null, tool_calls: [call] }] });
const anthropic = { ...chat, max_tokens: 16 };
const toolUse = { type: 'tool_use', id: 'c1', name: 'look', input: { at: 'sea' } };
const toolResult = { type: 'tool_result', tool_use_id: 'c1', content: 'grey' };

/** A conversation of three turns, with another block in one of them. */
function withBlock(turn: number, block: object) {
  const messages = [
    { role: 'user', content: [{ type: 'text', text: 'one two' }] },
    { role: 'assistant', content: [toolUse] },
    { role: 'user', content: [toolResult] },
  ];
  return { ...anthropic, messages: messages.with(turn, { ...messages[turn]!, content: [block as never] }) };
}

const schema = { type: 'object', properties: { at: { type: 'string' } } };
const lookTool = { name: 'look', description: 'looks', parameters: schema };
const chatTool = { type: 'function', function: lookTool };
const responseTool = { type: 'function', ...lookTool };
const anthropicTool = { name: 'look', description: 'looks', input_schema: schema };
const toolReaches = (tool: object) => ({ prompt: { toolUse: { tools: [tool] } } });

const inStreamOptions = (hello: object): FieldPlace => ({
  title: 'stream_options',
  table: streamOptionFields,
  path: 'stream_options.',
  put: (fields) => ({ ...hello, stream: true, stream_options: fields }),
});

export const protocolsWithFields: readonly ProtocolWithFields[] = [
  {
    route: '/v1/chat/completions',
    hello: chat,
    places: [
      { title: '', table: requestFields, path: '', put: (fields) => ({ ...chat, ...fields }) },
      {
        title: 'A message',
        table: messageFields,
        path: 'messages[0].',
        put: (fields) => ({ ...chat, messages: [{ ...user, ...fields }] }),
      },
      {
        title: 'A part of a message’s content',
        table: partFields,
        path: 'messages[0].content[0].',
        put: (fields) => ({
          ...chat,
          messages: [{ role: 'user', content: [{ type: 'text', text: 'one two', ...fields }] }],
        }),
      },
      {
        title: 'A call of a tool',
        table: toolCallFields,
        path: 'messages[0].tool_calls[0].',
        put: (fields) => withCall({ ...chatCall, ...fields }),
      },
      {
        title: 'Its function',
        table: functionFields,
        path: 'messages[0].tool_calls[0].function.',
        put: (fields) => withCall({ ...chatCall, function: { ...chatCall.function, ...fields } }),
      },
      inStreamOptions(chat),
      {
        title: 'A tool',
        table: toolFields,
        path: 'tools[0].',
        put: (fields) => ({ ...chat, tools: [{ ...chatTool, ...fields }] }),
      },
      {
        title: 'Its function',
        table: toolFunctionFields,
        path: 'tools[0].function.',
        put: (fields) => ({ ...chat, tools: [{ ...chatTool, function: { ...lookTool, ...fields } }] }),
      },
      {
        title: 'response_format',
        table: responseFormatFields,
        path: 'response_format.',
        put: (fields) => ({ ...chat, response_format: { type: 'json_schema', json_schema: { schema }, ...fields } }),
      },
      {
        title: 'Its schema',
        table: jsonSchemaFields,
        path: 'response_format.json_schema.',
        put: (fields) => ({
          ...chat,
          response_format: { type: 'json_schema', json_schema: { schema, ...fields } },
        }),
      },
      {
        title: 'ctkvr',
        table: chatCtkvrFields,
        path: 'ctkvr.',
        put: (fields) => ({ ...chat, ctkvr: fields }),
      },
    ],
    needed: [
      'session', // in session-routes.test.ts: it must be there
      'tools[0].type',
      'tools[0].function',
      'tools[0].function.name',
      'response_format.type', // this and the next in tools/protocols.test.ts
      'response_format.json_schema',
      'response_format.json_schema.schema',
      'tool_choice', // these two in tools/protocols.test.ts: only with tools
      'parallel_tool_calls',
      'messages[0].tool_calls', // these four in chat-history.test.ts: they need another conversation
      'messages[0].tool_call_id',
      'messages[0].prefix',
      'continue_final_message',
      'top_logprobs', // in routes.test.ts: only with logprobs
      'messages[0].tool_calls[0].function',
      'messages[0].tool_calls[0].function.name',
      'messages[0].tool_calls[0].type',
      'model',
      'messages',
      'messages[0].content',
      'messages[0].content[0].type',
      'messages[0].content[0].text',
      'messages[0].role',
    ],
    examples: {
      ...drawing,
      ...caching,
      ...streaming,
      max_completion_tokens: { value: 3, reaches: { maxTokens: 3 } },
      max_tokens: { value: 4, reaches: { maxTokens: 4 } },
      n: { value: 2, answers: /"index":1/ },
      'ctkvr.preset': { value: 'paper', reaches: { session: { selector: { preset: 'paper' } } } },
      'ctkvr.selector': { value: { numProbes: 7 }, reaches: { session: { selector: { numProbes: 7 } } } },
      'ctkvr.kvFormat': { value: 'q8', reaches: { session: { kvFormat: 'q8' } } },
      'ctkvr.read_map': { value: true, reaches: { readMap: true } },
      logprobs: { value: true, reaches: { numTopLogprobs: 0 }, answers: /"logprob":-0\.693/ },
      add_generation_prompt: { value: false, reaches: { prompt: { ending: 'none' } } },
      chat_template_kwargs: {
        value: { enable_thinking: false },
        reaches: { prompt: { variables: { enable_thinking: false } } },
      },
      tools: { value: [chatTool], reaches: toolReaches(lookTool) },
      'tools[0].function.description': { value: 'sees', reaches: toolReaches({ description: 'sees' }) },
      'tools[0].function.parameters': {
        value: { type: 'object', title: 'Where' },
        reaches: toolReaches({ parameters: { title: 'Where' } }),
      },
      reasoning_effort: { value: 'low', reaches: { prompt: { effort: { level: 'low', field: 'reasoning_effort' } } } },
      'messages[0].tool_calls[0].id': {
        value: 'c2',
        reaches: { prompt: { messages: [{ tool_calls: [{ id: 'c2' }] }] } },
      },
      'messages[0].tool_calls[0].function.arguments': {
        value: '{"at":"sky"}',
        reaches: { prompt: { messages: [{ tool_calls: [{ function: { arguments: { at: 'sky' } } }] }] } },
      },
    },
    wrong: {
      chat_template_kwargs: 'on',
      'tools[0].function.parameters': 'none',
      'response_format.json_schema.schema': 'any',
      'ctkvr.selector': 'paper',
    },
  },
  {
    route: '/v1/completions',
    hello: completion,
    places: [
      { title: '', table: completionFields, path: '', put: (fields) => ({ ...completion, ...fields }) },
      inStreamOptions(completion),
    ],
    needed: ['model', 'prompt'],
    examples: {
      ...drawing,
      ...caching,
      ...streaming,
      max_tokens: { value: 4, reaches: { maxTokens: 4 } },
      n: { value: 2, answers: /"index":1/ },
      logprobs: { value: 0, reaches: { numTopLogprobs: 0 }, answers: /"token_logprobs":\[-0\.693/ },
      add_special_tokens: { value: false, reaches: { prompt: { addSpecial: false } } },
    },
  },
  {
    route: '/v1/responses',
    hello: response,
    places: [
      { title: '', table: responseFields, path: '', put: (fields) => ({ ...response, ...fields }) },
      {
        title: 'reasoning',
        table: reasoningFields,
        path: 'reasoning.',
        put: (fields) => ({ ...response, reasoning: fields }),
      },
      {
        title: 'A message of the input',
        table: messageItemFields,
        path: 'input[0].',
        put: (fields) => ({ ...response, input: [{ type: 'message', ...user, ...fields }] }),
      },
      {
        title: 'A part of its content',
        table: responsePartFields,
        path: 'input[0].content[0].',
        put: (fields) => ({
          ...response,
          input: [{ role: 'user', content: [{ type: 'input_text', text: 'one two', ...fields }] }],
        }),
      },
      {
        title: 'A call of a tool',
        table: callItemFields,
        path: 'input[1].',
        put: (fields) => ({ ...response, input: [user, { ...call, ...fields }] }),
      },
      {
        title: 'A tool’s result',
        table: resultItemFields,
        path: 'input[2].',
        put: (fields) => ({ ...response, input: [user, call, { ...result, ...fields }] }),
      },
      {
        title: 'A tool',
        table: responseToolFields,
        path: 'tools[0].',
        put: (fields) => ({ ...response, tools: [{ ...responseTool, ...fields }] }),
      },
      { title: 'text', table: textFields, path: 'text.', put: (fields) => ({ ...response, text: fields }) },
      {
        title: 'text.format',
        table: textFormatFields,
        path: 'text.format.',
        put: (fields) => ({ ...response, text: { format: { type: 'json_schema', schema, ...fields } } }),
      },
    ],
    needed: [
      'tools[0].type',
      'tools[0].name',
      'text.format.type', // in tools/protocols.test.ts
      'text.format.schema',
      'tool_choice', // these two in tools/protocols.test.ts: only with tools
      'parallel_tool_calls',
      'model',
      'input',
      'top_logprobs', // in responses.test.ts: only with what it is included by
      'input[0].type',
      'input[0].role',
      'input[0].content',
      'input[0].content[0].type',
      'input[0].content[0].text',
      'input[1].type',
      'input[1].call_id',
      'input[1].name',
      'input[1].arguments',
      'input[2].type',
      'input[2].call_id',
      'input[2].output',
    ],
    examples: {
      ...drawing,
      stream: streaming.stream!,
      max_output_tokens: { value: 4, reaches: { maxTokens: 4 } },
      instructions: {
        value: 'be kind',
        reaches: { prompt: { messages: [{ role: 'system', content: 'be kind' }, {}] } },
      },
      'reasoning.effort': {
        value: 'low',
        reaches: { prompt: { effort: { level: 'low', field: 'reasoning.effort' } } },
      },
      include: {
        value: ['message.output_text.logprobs'],
        reaches: { numTopLogprobs: 0 },
        answers: /"logprob":-0\.693/,
      },
      metadata: { value: { of: 'mine' }, answers: /"metadata":\{"of":"mine"\}/ },
      tools: { value: [responseTool], reaches: toolReaches(lookTool) },
      'tools[0].description': { value: 'sees', reaches: toolReaches({ description: 'sees' }) },
      'tools[0].parameters': {
        value: { type: 'object', title: 'Where' },
        reaches: toolReaches({ parameters: { title: 'Where' } }),
      },
    },
    wrong: { 'tools[0].parameters': 'none', 'text.format.schema': 'any' },
  },
  {
    route: '/v1/messages',
    hello: anthropic,
    places: [
      { title: '', table: anthropicFields, path: '', put: (fields) => ({ ...anthropic, ...fields }) },
      {
        title: 'A message',
        table: turnFields,
        path: 'messages[0].',
        put: (fields) => ({ ...anthropic, messages: [{ ...user, ...fields }] }),
      },
      {
        title: 'A block of text',
        table: textBlockFields,
        path: 'messages[0].content[0].',
        put: (fields) => withBlock(0, { type: 'text', text: 'one two', ...fields }),
      },
      {
        title: 'A call of a tool',
        table: toolUseFields,
        path: 'messages[1].content[0].',
        put: (fields) => withBlock(1, { ...toolUse, ...fields }),
      },
      {
        title: 'A tool’s result',
        table: toolResultFields,
        path: 'messages[2].content[0].',
        put: (fields) => withBlock(2, { ...toolResult, ...fields }),
      },
      {
        title: 'A tool',
        table: anthropicToolFields,
        path: 'tools[0].',
        put: (fields) => ({ ...anthropic, tools: [{ ...anthropicTool, ...fields }] }),
      },
      {
        title: 'tool_choice',
        table: toolChoiceFields,
        path: 'tool_choice.',
        put: (fields) => ({ ...anthropic, tools: [anthropicTool], tool_choice: { type: 'auto', ...fields } }),
      },
      {
        title: 'thinking',
        table: thinkingFields,
        path: 'thinking.',
        put: (fields) => ({ ...anthropic, thinking: { type: 'adaptive', ...fields } }),
      },
      {
        title: 'output_config',
        table: outputConfigFields,
        path: 'output_config.',
        put: (fields) => ({ ...anthropic, output_config: fields }),
      },
      {
        title: 'output_format, output_config.format',
        table: outputFormatFields,
        path: 'output_format.',
        put: (fields) => ({ ...anthropic, output_format: { type: 'json_schema', schema, ...fields } }),
      },
    ],
    needed: [
      'tools[0].type',
      'tools[0].name',
      'tools[0].input_schema',
      'tool_choice.type',
      'tool_choice.name', // in tools/protocols.test.ts: only with the type `tool`
      'thinking.type',
      'output_format.type',
      'output_format.schema',
      'output_config.format',
      'model',
      'messages',
      'messages[0].role',
      'messages[0].content',
      'messages[0].content[0].type',
      'messages[0].content[0].text',
      'messages[1].content[0].type',
      'messages[1].content[0].id',
      'messages[1].content[0].name',
      'messages[1].content[0].input',
      'messages[2].content[0].type',
      'messages[2].content[0].tool_use_id',
      'max_tokens',
    ],
    wrong: {
      'messages[1].content[0].input': 'sea',
      'tools[0].input_schema': 'none',
      'output_format.schema': 'any',
    },
    examples: {
      tools: { value: [anthropicTool], reaches: toolReaches(lookTool) },
      'tools[0].description': { value: 'sees', reaches: toolReaches({ description: 'sees' }) },
      'tool_choice.disable_parallel_tool_use': { value: true, reaches: { prompt: { toolUse: { parallel: false } } } },
      'output_config.effort': {
        value: 'low',
        reaches: { prompt: { effort: { level: 'low', field: 'output_config.effort' } } },
      },
      system: { value: 'be kind', reaches: { prompt: { messages: [{ role: 'system', content: 'be kind' }, {}] } } },
      temperature: drawing.temperature!,
      top_p: drawing.top_p!,
      top_k: drawing.top_k!,
      stop_sequences: { value: ['a', 'b'], reaches: { stop: ['a', 'b'] } },
      stream: streaming.stream!,
      'messages[2].content[0].content': {
        value: 'blue',
        reaches: { prompt: { messages: [{}, {}, { role: 'tool', content: 'blue' }] } },
      },
      'messages[2].content[0].is_error': {
        value: true,
        reaches: { prompt: { messages: [{}, {}, { role: 'tool', content: 'Error: grey' }] } },
      },
    },
  },
  {
    route: '/v1/messages/count_tokens',
    hello: chat,
    places: [{ title: '', table: countFields, path: '', put: (fields) => ({ ...chat, ...fields }) }],
    needed: ['model', 'messages'],
    examples: {
      system: { value: 'be kind', answers: /"input_tokens":4/ },
      tools: { value: [anthropicTool], answers: /"input_tokens":3/ },
    },
  },
];
