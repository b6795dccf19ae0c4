/** POST /v1/messages and /v1/messages/count_tokens: what is their own, and Anthropic's own client on a listening server. */
import Anthropic from '@anthropic-ai/sdk';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { createApp, type ListenOptions, listen, type RunningServer } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { newAnswerTo } from './new-answer.js';
import { readEvents } from './read-events.js';
import { until } from './until.js';

async function post(more: object, route = '/v1/messages') {
  const engine = new EchoEngine();
  const response = await createApp({ engine }).request(route, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'anthropic-version': '2023-06-01', 'x-api-key': 'none' },
    body: JSON.stringify({ model: 'echo', max_tokens: 16, ...more }),
  });
  return { response, request: engine.lastRequest };
}

const user = (content: unknown) => ({ role: 'user', content });
const assistant = (content: unknown) => ({ role: 'assistant', content });
const text = (one: string) => ({ type: 'text', text: one });
const use = (id: string, at: string) => ({ type: 'tool_use', id, name: 'look', input: { at } });
const result = (id: string, content: unknown) => ({ type: 'tool_result', tool_use_id: id, content });
const toolCall = (id: string, at: string) => ({ id, type: 'function', function: { name: 'look', arguments: { at } } });

describe('blocks become messages', () => {
  test.each<[string, object, object[]]>([
    ['a text', { messages: [user('hi')] }, [user('hi')]],
    ['an empty text', { messages: [user('')] }, [user('')]],
    [
      'a system of blocks',
      {
        system: [{ ...text('be kind'), cache_control: { type: 'ephemeral' } }, text('be short')],
        messages: [user('hi')],
      },
      [{ role: 'system', content: 'be kind\n\nbe short' }, user('hi')],
    ],
    [
      'turns of one role, which are one',
      { messages: [user('a'), user([text('b'), text('c')]), assistant('d'), user('e')] },
      [user('a\n\nb\n\nc'), assistant('d'), user('e')],
    ],
    [
      'thinking of an earlier answer, which is left out',
      {
        messages: [
          user('a'),
          assistant([
            { type: 'thinking', thinking: 'hm', signature: 'x' },
            { type: 'redacted_thinking', data: 'x' },
            text('b'),
          ]),
          user('c'),
        ],
      },
      [user('a'), assistant('b'), user('c')],
    ],
    [
      'calls and results',
      {
        messages: [
          user('Look.'),
          assistant([text('I look.'), use('a', 'sea'), use('b', 'sky')]),
          user([result('a', 'grey'), result('b', [text('blue'), text('and white')]), text('Go on.')]),
          assistant([use('c', 'land')]),
          user([{ type: 'tool_result', tool_use_id: 'c' }]),
        ],
      },
      [
        user('Look.'),
        { ...assistant('I look.'), tool_calls: [toolCall('a', 'sea'), toolCall('b', 'sky')] },
        { role: 'tool', content: 'grey', tool_call_id: 'a' },
        { role: 'tool', content: 'blue\n\nand white', tool_call_id: 'b' },
        user('Go on.'),
        { ...assistant(''), tool_calls: [toolCall('c', 'land')] },
        { role: 'tool', content: '', tool_call_id: 'c' },
      ],
    ],
  ])('%s', async (_name, more, messages) => {
    const { response, request } = await post(more);
    expect(response.status).toBe(200);
    expect(request?.prompt).toEqual(newAnswerTo(messages));
  });
});

test('an answer that stands last goes on', async () => {
  const { request } = await post({ messages: [user('Count.'), assistant('1, 2,')] });
  expect(request?.prompt).toMatchObject({ ending: 'continue', messages: [user('Count.'), assistant('1, 2,')] });
});

describe('what is wrong is told in Anthropic’s shape', () => {
  test.each<[string, object, RegExp]>([
    ['no limit', { messages: [user('x')], max_tokens: null }, /^'max_tokens' must be an integer/],
    ['no messages', {}, /^'messages' must be/],
    [
      'an image',
      { messages: [user([{ type: 'image', source: {} }])] },
      /^'messages\[0\]\.content\[0\]\.type' must be "text" or/,
    ],
    [
      'no text',
      { messages: [user([{ type: 'text' }])] },
      /^'messages\[0\]\.content\[0\]\.text' must be there, got nothing/,
    ],
    [
      'a user’s call',
      { messages: [user([use('a', 'sea')])] },
      /^'messages\[0\]\.content\[0\]\.type' must be a block of an assistant/,
    ],
    ['an assistant’s result', { messages: [assistant([result('a', 'x')])] }, /must be a block of a user/],
    [
      'tools',
      { messages: [user('x')], tools: [{ name: 'look' }] },
      /^'tools\[0\]\.input_schema' must be an object, got nothing/,
    ],
    ['too much', { messages: [user('w '.repeat(100))] }, /words, 50 fit/],
    ['what the template refuses', { messages: [user('!refuse')] }, /refused/],
  ])('%s', async (_name, more, message) => {
    const { response } = await post(more);
    expect(response.status).toBe(400);
    const error = { type: 'invalid_request_error', message: expect.stringMatching(message) };
    expect(await response.json()).toEqual({ type: 'error', error });
  });

  test.each([
    ['!memory', 503, 'overloaded_error'],
    ['!lost', 503, 'api_error'],
    ['!fail', 500, 'api_error'],
  ])('%s is %i %s', async (order, status, type) => {
    const { response } = await post({ messages: [user(order)] });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ type: 'error', error: { type } });
    const events = await readEvents((await post({ messages: [user(`a ${order}`)], stream: true })).response);
    expect(events.at(-1)).toMatchObject({ type: 'error', error: { type } });
  });

  test('a route that is not there', async () => {
    const { response } = await post({}, '/v1/messages/batches');
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ type: 'error', error: { type: 'not_found_error' } });
  });
});

const usage = { input_tokens: 3, output_tokens: 3, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };

test('a whole answer is one message with one block', async () => {
  const { response } = await post({ messages: [user('one two three')] });
  expect(await response.json()).toMatchObject({
    id: expect.stringMatching(/^msg_/),
    type: 'message',
    role: 'assistant',
    model: 'echo',
    content: [{ type: 'text', text: 'one two three ' }],
    stop_reason: 'end_turn',
    stop_sequence: null,
    usage,
    ctkvr: { ms_per_token: 1 },
  });
});

test.each<[object, object]>([
  [{ max_tokens: 2 }, { stop_reason: 'max_tokens', stop_sequence: null }],
  [{ stop_sequences: ['x', 'three'] }, { stop_reason: 'stop_sequence', stop_sequence: 'three' }],
])('with %j it ends %j, whole and streamed', async (more, stop) => {
  const body = { messages: [user('one two three')], ...more };
  expect(await (await post(body)).response.json()).toMatchObject({ ...stop, content: [{ text: 'one two ' }] });
  const events = await readEvents((await post({ ...body, stream: true })).response);
  expect(events.at(-2)).toMatchObject({ type: 'message_delta', delta: stop });
});

test('a stream has the events of one block, under their names', async () => {
  const { response } = await post({ messages: [user('one two three')], stream: true });
  const names = (await response.clone().text()).match(/(?<=^event: ).*$/gm);
  const events = await readEvents(response);
  expect(events.map(({ type }) => type)).toEqual(names);
  expect(names).toEqual([
    'message_start',
    'ping',
    'content_block_start',
    'content_block_delta',
    'content_block_delta',
    'content_block_delta',
    'content_block_stop',
    'message_delta',
    'message_stop',
  ]);
  expect(events[0].message).toMatchObject({
    content: [],
    stop_reason: null,
    usage: { input_tokens: 3, output_tokens: 0 },
  });
  expect(events.at(-2)).toMatchObject({ delta: { stop_reason: 'end_turn' }, usage });
});

test('count_tokens counts the prompt, and runs nothing', async () => {
  const engine = new EchoEngine();
  const response = await createApp({ engine }).request('/v1/messages/count_tokens', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'echo', system: 'be kind', messages: [user('one two three')] }),
  });
  expect(await response.json()).toEqual({ input_tokens: 5 });
  expect(engine.lastRequest).toBeNull();
  const refused = await post({ messages: [user('!refuse')], max_tokens: null }, '/v1/messages/count_tokens');
  expect(refused.response.status).toBe(400);
});

const open: RunningServer[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

describe('Anthropic’s client', () => {
  async function start(options: ListenOptions = {}) {
    const engine = new EchoEngine();
    const logger = pino({ level: 'silent' });
    const server = await listen(engine, { port: 0, handleSignals: false, logger, ...options });
    open.push(server);
    return { engine, client: new Anthropic({ baseURL: server.url, apiKey: 'none', maxRetries: 0 }) };
  }
  const ask = (content: string) => ({ model: 'echo', max_tokens: 16, messages: [{ role: 'user' as const, content }] });

  test('gets an answer, counts, and puts a stream together', async () => {
    const { client } = await start();
    expect((await client.messages.create(ask('one two'))).content).toMatchObject([{ type: 'text', text: 'one two ' }]);
    const { max_tokens: _limit, ...prompt } = ask('one two');
    expect((await client.messages.countTokens(prompt)).input_tokens).toBe(2);
    const stream = client.messages.stream(ask('one two'));
    let streamed = '';
    stream.on('text', (delta) => {
      streamed += delta;
    });
    const final = await stream.finalMessage();
    expect(streamed).toBe('one two ');
    expect(final).toMatchObject({
      content: [{ type: 'text', text: 'one two ' }],
      stop_reason: 'end_turn',
      usage: { input_tokens: 2, output_tokens: 2 },
    });
  });

  test('throws its typed errors, also from the middle of a stream', async () => {
    const { client } = await start();
    await expect(client.messages.create({ ...ask('x'), model: 'other' })).rejects.toBeInstanceOf(
      Anthropic.NotFoundError,
    );
    await expect(client.messages.create({ ...ask('x'), ...{ temperature: 9 } })).rejects.toMatchObject({
      status: 400,
      type: 'invalid_request_error',
      apiMessage: "'temperature' must be a number from 0 to 2, got 9",
    });
    await expect(client.messages.stream(ask('one !fail')).finalMessage()).rejects.toMatchObject({ type: 'api_error' });
  });

  test('leaving a stream frees its place', async () => {
    const { client, engine } = await start({ maxRunning: 1 });
    for await (const event of await client.messages.create({ ...ask('one !hang'), stream: true })) {
      if (event.type === 'content_block_delta') break;
    }
    await until(() => engine.numOpen === 0);
    expect((await client.messages.create(ask('on'))).stop_reason).toBe('end_turn');
  });
});
