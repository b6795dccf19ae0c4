/** Every field of the tables, one by one, through its route; and the page that is made from them. */
import { describe, expect, test } from 'vitest';
import type { FieldRule } from '../src/field-rules.js';
import { createApp, parseChatRequest } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { type FieldPlace, protocolsWithFields } from './protocols-with-fields.js';
import { requestFieldsPage } from './request-fields-page.js';

async function post(route: string, body: unknown) {
  const engine = new EchoEngine();
  const response = await createApp({ engine }).request(route, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  const error = response.ok ? null : (JSON.parse(text).error as Record<string, string | null>);
  return { status: response.status, error, text, request: engine.lastRequest };
}

/** Of no field a value that it can have. */
const nonsense = { surely: ['not', 'this'] };

describe.each(protocolsWithFields)('$route', ({ route, hello, places, examples, needed, wrong }) => {
  const fields = places.flatMap(({ table, path, put }: FieldPlace) =>
    Object.entries(table).map(([name, rule]) => ({ name, param: path + name, rule, put, path })),
  );
  const ofTreatment = <T extends FieldRule['treatment']>(treatment: T) =>
    fields.flatMap(({ rule, ...rest }) =>
      rule.treatment === treatment ? [{ ...rest, rule: rule as Extract<FieldRule, { treatment: T }> }] : [],
    );

  describe('every honoured field', () => {
    const own = ofTreatment('honoured').filter(
      ({ param, rule }) => !needed.includes(param) && rule.inner?.isList !== false,
    );

    test('has an example', () => {
      expect(own.map(({ param }) => param).sort()).toEqual(Object.keys(examples).sort());
    });

    test.each(own)('$param has its effect', async ({ name, param, put }) => {
      const { value, reaches, answers } = examples[param]!;
      const [given, byDefault] = [await post(route, put({ [name]: value })), await post(route, put({}))];
      expect(given.status).toBe(200);
      if (reaches !== undefined) {
        expect(given.request).toMatchObject(reaches);
        expect(byDefault.request).not.toMatchObject(reaches);
      }
      if (answers !== undefined) {
        expect(given.text).toMatch(answers);
        expect(byDefault.text).not.toMatch(answers);
      }
    });

    test.each(ofTreatment('honoured'))(
      '$param is refused by name when it is nonsense',
      async ({ name, param, put, rule }) => {
        const { status, error } = await post(route, put({ [name]: wrong?.[param] ?? nonsense }));
        expect([status, error?.type]).toEqual([400, 'invalid_request_error']);
        const isInside = rule.inner !== null && !rule.inner.isList; // there a field of it is unknown
        expect(error?.message).toMatch(new RegExp(`^'${param.replace(/[[\].]/g, '\\$&')}`));
        if (!isInside) expect(error?.message).toMatch(/^'[\w.[\]]+' must be .+, got /);
        expect(error?.message).not.toMatch(/undefined|something else/);
      },
    );
  });

  test.each(ofTreatment('ignored'))('$param is ignored, whatever it says', async ({ name, put }) => {
    const { status, request } = await post(route, put({ [name]: nonsense }));
    expect(status).toBe(200);
    expect(request).toEqual((await post(route, put({}))).request);
  });

  describe.each(ofTreatment('refused'))('$param is refused', ({ name, param, put, rule }) => {
    test('by name', async () => {
      for (const value of [nonsense, true, 1.5, 'text'].filter((one) => !rule.off.includes(one))) {
        const { status, error } = await post(route, put({ [name]: value }));
        expect(status).toBe(400);
        expect(error?.type).toBe('invalid_request_error');
        expect(error?.message).toMatch(`'${param}' cannot be honoured: ${rule.note}`);
      }
    });

    test('but may ask for nothing', async () => {
      for (const off of rule.off) expect((await post(route, put({ [name]: off }))).status).toBe(200);
    });
  });

  test('null counts as absent, in every field that may be', async () => {
    for (const { name, param, put } of fields.filter((field) => !needed.includes(field.param))) {
      expect([param, (await post(route, put({ [name]: null }))).status]).toEqual([param, 200]);
    }
  });

  test('an unknown field is found at every depth', async () => {
    for (const { path, put } of places) {
      const { status, error } = await post(route, put({ wizardry: 1 }));
      expect(status).toBe(400);
      expect(error?.message).toMatch(`'${path}wizardry' is not a field of this request`);
    }
  });

  test('a body that is no object is refused', async () => {
    for (const body of [[], 'text', 1, null]) {
      expect((await post(route, body)).error?.message).toMatch(/^the body must be an object/);
    }
  });

  test('another model is a 404 that names the one served', async () => {
    const { status, error } = await post(route, { ...hello, model: 'gpt-5' });
    expect(status).toBe(404);
    expect(error?.message).toContain("this server runs 'echo'");
  });
});

const hello = { model: 'echo', messages: [{ role: 'user', content: 'one two' }] };
const chat = (body: unknown) => post('/v1/chat/completions', body);

test('errors of OpenAI’s protocols say field and kind', async () => {
  expect((await chat({ ...hello, best_of: 2 })).error).toMatchObject({
    param: 'best_of',
    code: 'unsupported_parameter',
  });
  expect((await chat({ ...hello, wizardry: 2 })).error).toMatchObject({ param: 'wizardry', code: 'unknown_parameter' });
});

describe('an unknown field', () => {
  test.each([
    ['maxTokens', 'max_tokens'],
    ['temprature', 'temperature'],
    ['topK', 'top_k'],
    ['repetition_penality', 'repetition_penalty'],
    ['stopp', 'stop'],
  ])('%s is refused, and the nearest name told', async (name, nearest) => {
    const { status, error } = await chat({ ...hello, [name]: 1 });
    expect(status).toBe(400);
    expect(error?.message).toContain(`Did you mean '${nearest}'?`);
  });

  test('without a near name it is refused with the list', async () => {
    const { error } = await chat({ ...hello, wizardry: 1 });
    expect(error?.message).toContain('max_completion_tokens, max_tokens, temperature');
  });

  test.each(['__proto__', 'constructor', 'toString', 'x'.repeat(100_000)])('%.20s is only a name', async (name) => {
    const body = JSON.stringify(hello).replace('{', `{${JSON.stringify(name)}: 1, `);
    expect(() => parseChatRequest(JSON.parse(body))).toThrow(/is not a field/);
  });
});

test('the two repetition penalties exclude each other', async () => {
  expect((await chat({ ...hello, repetition_penalty: 1.1, repeat_penalty: 1.1 })).error?.param).toBe('repeat_penalty');
});

test('the page says what the tables say', async () => {
  await expect(requestFieldsPage()).toMatchFileSnapshot('../request-fields.md');
});
