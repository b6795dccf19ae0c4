/**
 * Thousands of bodies that no honest client sends, to every route that reads one: each is answered, or refused with an error that the page of
 * errors has. Replay a failure with CTKVR_TEST_SEED=<the seed it names>.
 */
import { propertyParameters } from '@ctkvr/testkit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { detokenizeFields, tokenizeFields } from '../src/token-fields.js';
import { EchoEngine } from './echo-engine.js';
import { type FieldPlace, protocolsWithFields } from './protocols-with-fields.js';

/** Deeper than any stack. */
const DEPTH = 30_000;

/** Of all routes together; more than 5,000. */
const NUM_BODIES = 6000;

const tokenPlaces: readonly [string, FieldPlace][] = [
  ['/tokenize', { title: '', table: tokenizeFields, path: '', put: (fields) => ({ content: 'one', ...fields }) }],
  ['/detokenize', { title: '', table: detokenizeFields, path: '', put: (fields) => ({ tokens: [2], ...fields }) }],
];
const places: readonly (readonly [string, FieldPlace])[] = [
  ...protocolsWithFields.flatMap(({ route, places: own }) => own.map((place) => [route, place] as const)),
  ...protocolsWithFields[0]!.places.map((place) => ['/apply-template', place] as const),
  ...tokenPlaces,
];

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom('\ud800', '\udfff', '\u0000', '\u202e', '{{', '<s>', '\\\\', '"', '\r\n', '\ufeff'),
  }),
  fc.constantFrom('__proto__', 'constructor', 'text', 'assistant', 'tool', 'x'.repeat(20_000)),
);
const anyNumber = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(0, -0, -1, 2 ** 31, 2 ** 53, 1e308, 5e-324));
const { value: anyValue } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(null, true, false, [], {}),
    anyNumber,
    anyText,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(anyText, fc.constantFrom('type', 'role', 'content', 'text', 'id', 'name')), tie('value'), {
      maxKeys: 4,
    }),
  ),
}));

/** A request with some fields of its place, and of no place, set to anything. */
const wrongFields = fc.constantFrom(...places).chain(([route, { table, put }]) =>
  fc
    .dictionary(
      fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...Object.keys(table)) }, { weight: 1, arbitrary: anyText }),
      anyValue,
      {
        maxKeys: 3,
      },
    )
    .map((fields) => ({ route, body: JSON.stringify(put(fields)) })),
);
const noRequest = fc
  .record({ place: fc.constantFrom(...places), value: anyValue })
  .map(({ place: [route], value }) => ({ route, body: JSON.stringify(value) }));
/** A request whose bytes were cut, changed and put in between. */
const wrongBytes = fc
  .record({
    right: wrongFields,
    changes: fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        drop: fc.nat({ max: 20 }),
        put: fc.uint8Array({ maxLength: 6 }),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  })
  .map(({ right: { route, body }, changes }) => {
    let bytes = Buffer.from(body);
    for (const { at, drop, put } of changes) {
      const from = Math.floor(at * bytes.length);
      bytes = Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + drop)]);
    }
    return { route, body: bytes };
  });

const engine = new EchoEngine();
const app = createApp({ engine });

async function send({ route, body }: { route: string; body: string | Uint8Array<ArrayBuffer> }) {
  const headers = { 'content-type': 'application/json' };
  const response = await app.request(route, { method: 'POST', headers, body });
  const text = await response.text();
  expect(engine.numOpen).toBe(0);
  return { status: response.status, text };
}

function expectDocumented({ status, text }: { status: number; text: string }): void {
  if (status === 200) return;
  expect([400, 404]).toContain(status);
  const { error } = JSON.parse(text) as { error: { type: string; message: string } };
  expect(error.type).toMatch(/^(invalid_request|not_found)_error$/);
  expect(error.message).not.toMatch(/^$|undefined|\[object|something else|at file:/);
  expect(error.message.length).toBeLessThan(2000); // bodies are not sent back
}

test(`${NUM_BODIES} bodies`, async () => {
  const statuses = new Map<number, number>();
  const bodies = fc.oneof(
    { weight: 6, arbitrary: wrongFields },
    { weight: 1, arbitrary: noRequest },
    { weight: 3, arbitrary: wrongBytes },
  );
  await fc.assert(
    fc.asyncProperty(bodies, async (body) => {
      const answer = await send(body);
      statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
      expectDocumented(answer);
    }),
    { ...propertyParameters(NUM_BODIES), timeout: 10_000 },
  );
  // Neither is all refused nor all answered.
  expect(statuses.get(200)).toBeGreaterThan(NUM_BODIES / 20);
  expect(statuses.get(400)).toBeGreaterThan(NUM_BODIES / 20);
}, 240_000);

describe.each(places.filter(([, { path }]) => path === '').map(([route, { put, table }]) => ({ route, put, table })))(
  '$route',
  ({ route, put, table }) => {
    test('deep nesting in any field is refused', async () => {
      const lists = `${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}`;
      const objects = `${'{"a":'.repeat(DEPTH)}1${'}'.repeat(DEPTH)}`;
      for (const [n, name] of Object.keys(table).entries()) {
        const body = JSON.stringify(put({ [name]: 'DEEP' })).replace('"DEEP"', n % 2 === 0 ? lists : objects);
        const { status, text } = await send({ route, body });
        expect([status, text]).toEqual([413, expect.stringContaining('levels')]);
      }
    });

    test('a body that is too large is a 413, told or not told before', async () => {
      const small = createApp({ engine, maxBodyBytes: 1000 });
      const body = JSON.stringify(put({ user: 'x'.repeat(2000) }));
      const headers = { 'content-type': 'application/json' };
      for (const length of [{}, { 'content-length': String(body.length) }]) {
        const response = await small.request(route, { method: 'POST', headers: { ...headers, ...length }, body });
        expect(response.status).toBe(413);
      }
    });

    test.each([
      'text/plain',
      'application/jsonp',
      'multipart/form-data; boundary=x',
      '',
      'application/x-www-form-urlencoded',
    ])('a body of type %j is a 415', async (type) => {
      const headers: Record<string, string> = type === '' ? {} : { 'content-type': type };
      const response = await app.request(route, {
        method: 'POST',
        headers,
        body: Buffer.from('{}'),
      });
      expect(response.status).toBe(415);
    });
  },
);
