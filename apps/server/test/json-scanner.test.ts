import { propertyParameters } from '@ctkvr/testkit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { isWithinJsonBounds, JsonScanner, MAX_JSON_DEPTH, MAX_JSON_VALUES } from '../src/json-scanner.js';
import { toToolCall } from '../src/tools-as-text.js';
import { EchoEngine } from './echo-engine.js';

const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);

/** By walking what the parser makes of it: names count as values. */
function measure(value: unknown): { depth: number; values: number } {
  if (typeof value !== 'object' || value === null) return { depth: 0, values: 1 };
  const inner = Object.values(value).map(measure);
  const names = Array.isArray(value) ? 0 : inner.length;
  return {
    depth: 1 + Math.max(0, ...inner.map(({ depth }) => depth)),
    values: 1 + names + inner.reduce((sum, { values }) => sum + values, 0),
  };
}

describe('bounds of a JSON text', () => {
  test('of depth: as deep as may be, and one more', () => {
    expect(isWithinJsonBounds(nested(MAX_JSON_DEPTH))).toBe(true);
    expect(new JsonScanner().push(Buffer.from(nested(MAX_JSON_DEPTH + 1)))).toBe('depth');
    expect(isWithinJsonBounds(`[${`${nested(100)},`.repeat(50)}1]`)).toBe(true); // side by side is not deep
  });

  test('of values: as many as may be, and one more', () => {
    // The list is one of them, and each comma and bracket stands for one more.
    const list = (count: number) => Buffer.from(`[${Array.from({ length: count }, () => 1)}]`);
    expect(new JsonScanner().push(list(MAX_JSON_VALUES - 1))).toBe(null);
    expect(new JsonScanner().push(list(MAX_JSON_VALUES))).toBe('values');
  });

  test('what is inside a text is no structure, however it is escaped and cut', () => {
    const text = JSON.stringify({ text: `\\"${'[{,:'.repeat(MAX_JSON_VALUES)}\\` });
    const scanner = new JsonScanner();
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += 7) expect(scanner.push(bytes.subarray(at, at + 7))).toBe(null);
    expect(isWithinJsonBounds(`${JSON.stringify('\\')}${nested(MAX_JSON_DEPTH + 1)}`)).toBe(false);
  });

  test('random values are refused exactly when they are deeper than may be', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 8 }), fc.integer({ min: 0, max: MAX_JSON_DEPTH + 5 }), (inner, around) => {
        const text = '{"a":['.repeat(around / 2) + inner + ']}'.repeat(around / 2);
        const { depth, values } = measure(JSON.parse(text));
        expect(values).toBeLessThan(MAX_JSON_VALUES);
        expect(isWithinJsonBounds(text)).toBe(depth <= MAX_JSON_DEPTH);
      }),
      propertyParameters(500),
    );
  });
});

describe('requests beyond them', () => {
  const post = (path: string, body: string) =>
    createApp({ engine: new EchoEngine() }).request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });

  test.each(['/v1/chat/completions', '/v1/completions', '/v1/responses', '/v1/messages', '/tokenize', '/detokenize'])(
    '%s answers 413 and closes the connection, for what it has not read',
    async (path) => {
      for (const body of [nested(1_000_000), `[${'1,'.repeat(MAX_JSON_VALUES)}1]`]) {
        const response = await post(path, body);
        expect([response.status, response.headers.get('connection')]).toEqual([413, 'close']);
        expect(await response.json()).toMatchObject({ error: { message: expect.stringMatching(/this server takes/) } });
      }
    },
  );

  test('arguments of a call that are nested too deep stay the text that they are', () => {
    const args = `{"a":${nested(100_000)}}`;
    expect(toToolCall({ id: '1', name: 'f', args }).function.arguments).toBe(args);
  });
});
