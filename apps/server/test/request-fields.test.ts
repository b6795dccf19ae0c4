/** Every field of the tables, one by one, through the route; and the page that is made from them. */
import { describe, expect, test } from 'vitest';
import { createApp, parseChatRequest } from '../src/index.js';
import {
  type FieldRule,
  type FieldTable,
  messageFields,
  partFields,
  requestFields,
  streamOptionFields,
} from '../src/request-fields.js';
import { EchoEngine } from './echo-engine.js';
import { requestFieldsPage } from './request-fields-page.js';

const hello = { model: 'echo', messages: [{ role: 'user', content: 'one two' }] };

async function post(body: unknown) {
  const engine = new EchoEngine();
  const response = await createApp({ engine }).request('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  const error = response.ok ? null : (JSON.parse(text).error as Record<string, string | null>);
  return { status: response.status, error, text, request: engine.lastRequest };
}

/** Each table, the path of its fields in errors, and a request that has one of them. */
const places: { table: FieldTable; path: string; put: (field: object) => object }[] = [
  { table: requestFields, path: '', put: (field) => ({ ...hello, ...field }) },
  {
    table: messageFields,
    path: 'messages[0].',
    put: (field) => ({ ...hello, messages: [{ ...hello.messages[0], ...field }] }),
  },
  {
    table: partFields,
    path: 'messages[0].content[0].',
    put: (field) => ({
      ...hello,
      messages: [{ role: 'user', content: [{ type: 'text', text: 'one two', ...field }] }],
    }),
  },
  {
    table: streamOptionFields,
    path: 'stream_options.',
    put: (field) => ({ ...hello, stream: true, stream_options: field }),
  },
];
const fields = places.flatMap(({ table, path, put }) =>
  Object.entries(table).map(([name, rule]) => ({ name, param: path + name, rule, put, path })),
);
const ofTreatment = <T extends FieldRule['treatment']>(treatment: T) =>
  fields.flatMap(({ rule, ...rest }) =>
    rule.treatment === treatment ? [{ ...rest, rule: rule as Extract<FieldRule, { treatment: T }> }] : [],
  );

/** Of no field a value that it can have. */
const nonsense = { surely: ['not', 'this'] };

/** Of each honoured field of the request: a value that is not the default, and what reaches the engine. */
const honoured: Record<string, [unknown, object]> = {
  model: ['echo', { model: 'echo' }],
  messages: [[{ role: 'developer', content: 'x' }], { messages: [{ role: 'system', content: 'x' }] }],
  max_completion_tokens: [3, { maxTokens: 3 }],
  max_tokens: [4, { maxTokens: 4 }],
  temperature: [0.5, { temperature: 0.5 }],
  top_p: [0.5, { topP: 0.5 }],
  top_k: [7, { topK: 7 }],
  min_p: [0.1, { minP: 0.1 }],
  frequency_penalty: [0.5, { frequencyPenalty: 0.5 }],
  presence_penalty: [-0.5, { presencePenalty: -0.5 }],
  repetition_penalty: [1.1, { repeatPenalty: 1.1, repeatWindow: 1 << 20 }],
  repeat_penalty: [1.2, { repeatPenalty: 1.2, repeatWindow: 64 }],
  repeat_last_n: [9, { repeatPenalty: 1, repeatWindow: 9 }],
  seed: [-1, { seed: 0xffff_ffff }],
  stop: [Array.from({ length: 16 }, (_, n) => `stop ${n}`), { stop: expect.arrayContaining(['stop 0', 'stop 15']) }],
  cache_salt: ['a', { cacheSalt: 'a' }],
  cache_prompt: [false, { cachePrompt: false }],
  ignore_eos: [true, { ignoreEndOfTurn: true }],
  stream: [true, { stream: true }],
};

describe('every honoured field', () => {
  const own = ofTreatment('honoured').filter(({ path, name }) => path === '' && name !== 'stream_options');

  test('of the request has an example here', () => {
    expect(own.map(({ name }) => name).sort()).toEqual(Object.keys(honoured).sort());
  });

  test.each(own)('$param reaches the engine', async ({ name, put }) => {
    const [value, expected] = honoured[name]!;
    expect((await post(put({ [name]: value }))).request).toMatchObject(expected);
    const byDefault = (await post(hello)).request;
    if (name !== 'model') expect(byDefault).not.toMatchObject(expected);
  });

  test.each(ofTreatment('honoured'))('$param is refused by name when it is nonsense', async ({ name, param, put }) => {
    const { status, error } = await post(put({ [name]: nonsense }));
    expect([status, error?.type]).toEqual([400, 'invalid_request_error']);
    expect(error?.param?.startsWith(param)).toBe(true); // inside stream_options a field of it
    if (name !== 'stream_options') expect(error?.message).toMatch(/^'[\w.[\]]+' must be .+, got /); // there a field is unknown
    expect(error?.message).not.toMatch(/undefined|something else/);
  });

  test('include_usage adds the usage', async () => {
    const body = { ...hello, stream: true, stream_options: { include_usage: true } };
    expect((await post(body)).text).toContain('"total_tokens":4');
  });
});

test.each(ofTreatment('ignored'))('$param is ignored, whatever it says', async ({ name, put }) => {
  const { status, request } = await post(put({ [name]: nonsense }));
  expect(status).toBe(200);
  expect(request).toEqual((await post(put({}))).request);
});

describe('every refused field', () => {
  test.each(ofTreatment('refused'))('$param is refused by name', async ({ name, param, put, rule }) => {
    for (const value of [nonsense, true, 1.5, 'text'].filter((one) => !rule.off.includes(one))) {
      const { status, error } = await post(put({ [name]: value }));
      expect(status).toBe(400);
      expect(error).toMatchObject({ type: 'invalid_request_error', param, code: 'unsupported_parameter' });
      expect(error?.message).toContain(rule.note);
    }
  });

  test.each(ofTreatment('refused'))('$param may ask for nothing', async ({ name, put, rule }) => {
    for (const off of rule.off) expect((await post(put({ [name]: off }))).status).toBe(200);
  });
});

test('null counts as absent, in every field that may be', async () => {
  const needed = ['model', 'messages', 'role', 'content', 'type', 'text'];
  for (const { name, put } of fields.filter((field) => !needed.includes(field.name))) {
    expect([name, (await post(put({ [name]: null }))).status]).toEqual([name, 200]);
  }
});

describe('an unknown field', () => {
  test.each([
    ['maxTokens', 'max_tokens'],
    ['temprature', 'temperature'],
    ['topK', 'top_k'],
    ['repetition_penality', 'repetition_penalty'],
    ['stopp', 'stop'],
  ])('%s is refused, and the nearest name told', async (name, nearest) => {
    const { status, error } = await post({ ...hello, [name]: 1 });
    expect(status).toBe(400);
    expect(error).toMatchObject({ param: name, code: 'unknown_parameter' });
    expect(error?.message).toContain(`Did you mean '${nearest}'?`);
  });

  test('without a near name it is refused with the list', async () => {
    const { error } = await post({ ...hello, wizardry: 1 });
    expect(error).toMatchObject({ param: 'wizardry', code: 'unknown_parameter' });
    expect(error?.message).toContain('max_completion_tokens, max_tokens, temperature');
  });

  test.each(['__proto__', 'constructor', 'toString', 'x'.repeat(100_000)])('%.20s is only a name', async (name) => {
    const body = JSON.stringify(hello).replace('{', `{${JSON.stringify(name)}: 1, `);
    expect(() => parseChatRequest(JSON.parse(body))).toThrow(/is not a field/);
  });

  test('is found at every depth', async () => {
    for (const { path, put } of places) {
      expect((await post(put({ wizardry: 1 }))).error).toMatchObject({ param: `${path}wizardry` });
    }
  });
});

test('the two repetition penalties exclude each other', async () => {
  expect((await post({ ...hello, repetition_penalty: 1.1, repeat_penalty: 1.1 })).error?.param).toBe('repeat_penalty');
});

test('the page says what the tables say', async () => {
  await expect(requestFieldsPage()).toMatchFileSnapshot('../request-fields.md');
});
