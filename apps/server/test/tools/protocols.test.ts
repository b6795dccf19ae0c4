/** Tools, thoughts and forms of an answer in every protocol: what reaches the engine, and what its parts become, whole and streamed. */
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { createApp } from '../../src/index.js';
import { EchoEngine } from '../echo-engine.js';

const schema = { type: 'object', properties: { at: { type: 'string' } }, required: ['at'] };
const look = { name: 'look', description: 'looks', parameters: schema };
const sail = { name: 'sail', description: null, parameters: { type: 'object', properties: {} } };

/** What the engine gives: an answer of every kind of part. */
const orders = [
  { type: 'thinking', text: 'Hm,' },
  { type: 'thinking', text: 'so.' },
  { type: 'text', text: 'I-' },
  { type: 'text', text: 'look.' },
  { type: 'toolCall', call: { id: 'call1', name: 'look', arguments: '{"at":"sea"}' } },
  { type: 'toolCall', call: { id: 'call2', name: 'sail', arguments: '{}' } },
]
  .map((event) => `!part:${JSON.stringify(event)}`)
  .join(' ');

const chatTools = [
  { type: 'function' as const, function: { name: 'look', description: 'looks', parameters: schema } },
  { type: 'function' as const, function: { name: 'sail' } },
];
const responseTools = [
  { type: 'function' as const, name: 'look', description: 'looks', parameters: schema, strict: false },
  { type: 'function' as const, name: 'sail', parameters: null, strict: null },
];
const anthropicTools = [
  { name: 'look', description: 'looks', input_schema: schema },
  { name: 'sail', input_schema: { type: 'object', properties: {} } },
];

const routes = {
  chat: ['/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }], tools: chatTools }],
  responses: ['/v1/responses', { input: 'x', tools: responseTools }],
  anthropic: ['/v1/messages', { messages: [{ role: 'user', content: 'x' }], max_tokens: 9, tools: anthropicTools }],
} as const;

async function post(route: keyof typeof routes, more: object = {}) {
  const engine = new EchoEngine();
  const [path, body] = routes[route];
  const response = await createApp({ engine }).request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'echo', ...body, ...more }),
  });
  const answer = (await response.json()) as { error?: { message: string; param?: string } };
  const prompt = engine.lastRequest?.prompt;
  return {
    status: response.status,
    error: answer.error,
    json: engine.lastRequest?.json,
    toolUse: prompt?.type === 'messages' ? prompt.toolUse : undefined,
    effort: prompt?.type === 'messages' ? prompt.effort : undefined,
  };
}

describe('tools reach the engine', () => {
  test.each(['chat', 'responses', 'anthropic'] as const)('%s: by default any number of any', async (route) => {
    const { toolUse } = await post(route);
    expect(toolUse).toEqual({ tools: [look, sail], choice: 'auto', parallel: true, field: 'tools' });
  });

  test.each([
    ['chat', { tool_choice: 'required', parallel_tool_calls: false }],
    ['responses', { tool_choice: 'required', parallel_tool_calls: false }],
    ['anthropic', { tool_choice: { type: 'any', disable_parallel_tool_use: true } }],
  ] as const)('%s: one that has to come', async (route, more) => {
    expect((await post(route, more)).toolUse).toMatchObject({ choice: 'required', parallel: false });
  });

  test.each([
    ['chat', { tool_choice: { type: 'function', function: { name: 'sail' } } }],
    ['responses', { tool_choice: { type: 'function', name: 'sail' } }],
    ['anthropic', { tool_choice: { type: 'tool', name: 'sail' } }],
  ] as const)('%s: one by its name', async (route, more) => {
    expect((await post(route, more)).toolUse).toMatchObject({ choice: { name: 'sail' }, tools: [look, sail] });
  });

  test.each([
    ['chat', { tool_choice: 'none' }],
    ['responses', { tool_choice: 'none' }],
    ['anthropic', { tool_choice: { type: 'none' } }],
    ['chat', { tools: [] }],
    ['chat', { tools: null }],
  ] as const)('%s: none with %j', async (route, more) => {
    const { status, toolUse } = await post(route, more);
    expect([status, toolUse]).toEqual([200, null]);
  });

  test.each([
    [
      'chat',
      { tool_choice: { type: 'function', function: { name: 'fly' } } },
      'tool_choice',
      /one of the tools: look, sail, got "fly"/,
    ],
    ['responses', { tool_choice: { type: 'function', name: 'fly' } }, 'tool_choice', /one of the tools/],
    ['anthropic', { tool_choice: { type: 'tool', name: 'fly' } }, undefined, /'tool_choice' must be one of the tools/],
    [
      'anthropic',
      { tool_choice: { type: 'tool' } },
      undefined,
      /'tool_choice.name' must be one of the tools, got nothing/,
    ],
    ['chat', { tools: [], tool_choice: 'required' }, 'tools', /there with this tool_choice/],
    ['chat', { tools: [...chatTools, chatTools[0]] }, 'tools[2]', /another name/],
    ['chat', { tools: [{ type: 'custom', custom: { name: 'x' } }] }, 'tools[0].type', /"function"/],
    [
      'chat',
      { tools: [{ type: 'function', function: { name: 'a b' } }] },
      'tools[0].function.name',
      /a text that matches/,
    ],
    ['responses', { tools: [{ type: 'web_search' }] }, 'tools[0].type', /"function"/],
    [
      'anthropic',
      { tools: [{ type: 'bash_20250124', name: 'bash' }] },
      undefined,
      /'tools\[0\]\.type' must be "custom"/,
    ],
  ] as const)('%s: %j is refused by name', async (route, more, param, message) => {
    const { status, error } = await post(route, more);
    expect([status, error?.param]).toEqual([400, param]);
    expect(error?.message).toMatch(message);
  });
});

describe('the form of an answer reaches the engine', () => {
  const form = { type: 'json_schema', schema };
  test.each([
    [
      'chat',
      { response_format: { type: 'json_schema', json_schema: { name: 'a', strict: true, schema } } },
      'response_format.json_schema',
    ],
    ['responses', { text: { format: { ...form, name: 'a' } } }, 'text.format'],
    ['anthropic', { output_config: { format: form } }, 'output_config.format'],
    ['anthropic', { output_format: form }, 'output_format'],
  ] as const)('%s: %j', async (route, more, field) => {
    expect((await post(route, more)).json).toEqual({ schema, field });
  });

  test.each([
    ['chat', { response_format: { type: 'text' } }],
    ['responses', { text: { format: { type: 'text' } } }],
    ['responses', { text: {} }],
    ['anthropic', {}],
  ] as const)('%s: any text with %j', async (route, more) => {
    expect((await post(route, more)).json).toBe(null);
  });

  test.each([
    [
      'chat',
      { response_format: { type: 'json_schema' } },
      /'response_format.json_schema' must be a JSON schema, got nothing/,
    ],
    ['responses', { text: { format: { type: 'json_schema', name: 'a' } } }, /'text.format' must be a JSON schema/],
    ['anthropic', { output_format: form, output_config: { format: form } }, /'output_format' must be left out/],
  ] as const)('%s: %j is refused', async (route, more, message) => {
    const { status, error } = await post(route, more);
    expect(status).toBe(400);
    expect(error?.message).toMatch(message);
  });
});

test.each([
  [{ thinking: { type: 'enabled', budget_tokens: 2000 } }, { level: 'medium', field: 'thinking' }],
  [
    { thinking: { type: 'disabled' }, output_config: { effort: 'high' } },
    { level: 'none', field: 'thinking' },
  ],
  [{ thinking: { type: 'adaptive' } }, null],
  [{ output_config: { effort: 'high' } }, { level: 'high', field: 'output_config.effort' }],
])('Anthropic’s %j', async (more, effort) => expect((await post('anthropic', more)).effort).toEqual(effort));

const app = createApp({ engine: new EchoEngine() });
const options = {
  baseURL: 'http://localhost/v1',
  apiKey: 'none',
  maxRetries: 0,
  fetch: async (url: unknown, init?: RequestInit) => app.request(new Request(String(url), init)),
};
const ask = { model: 'echo', messages: [{ role: 'user' as const, content: orders }] };

describe('OpenAI’s client', () => {
  const client = new OpenAI(options);
  const calls = [
    { id: 'call1', type: 'function', function: { name: 'look', arguments: '{"at":"sea"}' } },
    { id: 'call2', type: 'function', function: { name: 'sail', arguments: '{}' } },
  ];

  test('a chat completion', async () => {
    const [choice] = (await client.chat.completions.create({ ...ask, tools: chatTools })).choices;
    const message = { content: 'I-look.', reasoning_content: 'Hm,so.', tool_calls: calls };
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message });
  });

  test('a chat completion of a call alone has no content', async () => {
    const call = orders.split(' ').at(-1)!;
    const alone = { ...ask, messages: [{ role: 'user' as const, content: call }] };
    const [choice] = (await client.chat.completions.create({ ...alone, tools: chatTools })).choices;
    expect(choice?.message).toEqual({ role: 'assistant', content: null, refusal: null, tool_calls: [calls[1]] });
  });

  test('a streamed chat completion', async () => {
    const stream = client.chat.completions.stream({ ...ask, tools: chatTools });
    let thoughts = '';
    for await (const chunk of stream) {
      const delta = chunk.choices[0]?.delta as { reasoning_content?: string } | undefined;
      thoughts += delta?.reasoning_content ?? '';
    }
    const [choice] = (await stream.finalChatCompletion()).choices;
    expect(thoughts).toBe('Hm,so.');
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: 'I-look.', tool_calls: calls } });
  });

  const output = [
    { type: 'reasoning', content: [{ type: 'reasoning_text', text: 'Hm,so.' }] },
    { type: 'message', content: [{ type: 'output_text', text: 'I-look.' }] },
    { type: 'function_call', call_id: 'call1', name: 'look', arguments: '{"at":"sea"}' },
    { type: 'function_call', call_id: 'call2', name: 'sail', arguments: '{}' },
  ];

  test('a response, whole and streamed', async () => {
    const asked = { model: 'echo', input: orders, tools: responseTools };
    const whole = await client.responses.create(asked);
    expect(whole).toMatchObject({ status: 'completed', output });
    const stream = client.responses.stream(asked);
    const deltas: string[] = [];
    stream.on('response.function_call_arguments.delta', ({ delta }) => deltas.push(delta));
    const streamed = await stream.finalResponse();
    expect(streamed).toMatchObject({ status: 'completed', output });
    expect(deltas).toEqual(['{"at":"sea"}', '{}']);
    const withoutIds = (items: readonly object[]) =>
      items.map((item) => ({ ...item, id: null, parsed_arguments: null }));
    const parsed = streamed.output.map((item) => JSON.parse(JSON.stringify(item)) as object);
    expect(new Set(streamed.output.map(({ id }) => id)).size).toBe(4);
    expect(withoutIds(parsed)).toMatchObject(withoutIds(whole.output));
  });
});

describe('Anthropic’s client', () => {
  const client = new Anthropic({ ...options, baseURL: 'http://localhost' });
  const asked = { ...ask, max_tokens: 20, tools: anthropicTools as Anthropic.Tool[] };
  const content = [
    { type: 'thinking', thinking: 'Hm,so.', signature: '' },
    { type: 'text', text: 'I-look.', citations: null },
    { type: 'tool_use', id: 'call1', name: 'look', input: { at: 'sea' } },
    { type: 'tool_use', id: 'call2', name: 'sail', input: {} },
  ];

  test('a message, whole and streamed', async () => {
    const whole = await client.messages.create(asked);
    expect(whole.stop_reason).toBe('tool_use');
    expect(whole.content).toEqual(content);
    const stream = client.messages.stream(asked);
    const indexes: number[] = [];
    stream.on('streamEvent', (event) => {
      if (event.type === 'content_block_start') indexes.push(event.index);
    });
    const streamed = await stream.finalMessage();
    expect(streamed.stop_reason).toBe('tool_use');
    expect(streamed.content).toMatchObject(content);
    expect(indexes).toEqual([0, 1, 2, 3]);
  });

  test('an answer of nothing is an empty text', async () => {
    const nothing = { ...asked, messages: [{ role: 'user' as const, content: '!part:{"type":"text","text":""}' }] };
    expect((await client.messages.stream(nothing).finalMessage()).content).toMatchObject([{ type: 'text', text: '' }]);
  });
});
