import { expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { shortened } from '../src/shortened.js';
import { templateVariables } from '../src/template-variables.js';
import { EchoEngine } from './echo-engine.js';

test('a short text stays, a long one is cut between characters', () => {
  expect(shortened('x'.repeat(60))).toBe('x'.repeat(60));
  expect(shortened('x'.repeat(61))).toBe(`${'x'.repeat(60)}…`);
  expect(shortened(`${'x'.repeat(59)}😀 and more`)).toBe(`${'x'.repeat(59)}…`);
});

const long = 'y'.repeat(20_000);
const json = { 'content-type': 'application/json' };
const messages = [{ role: 'user', content: 'one' }];

/** Whatever names what was sent: that name is a client's, and can be a megabyte. */
const requests: readonly [string, string, RequestInit][] = [
  ['a model', '/v1/chat/completions', { headers: json, body: JSON.stringify({ model: long, messages }) }],
  ['a field', '/v1/chat/completions', { headers: json, body: JSON.stringify({ model: 'echo', messages, [long]: 1 }) }],
  [
    'a value',
    '/v1/chat/completions',
    { headers: json, body: JSON.stringify({ model: 'echo', messages, temperature: long }) },
  ],
  ['a type', '/v1/chat/completions', { headers: { 'content-type': long }, body: '{}' }],
  ['a path', `/${long}`, { headers: json, body: '{}' }],
];

test.each(requests)('%s of 20,000 letters is not sent back whole', async (_, route, init) => {
  const response = await createApp({ engine: new EchoEngine() }).request(route, { method: 'POST', ...init });
  const text = await response.text();
  expect(text).toContain('yyyy…');
  expect(text.length).toBeLessThan(2000);
  expect(response.status).toBeLessThan(500);
});

test("a variable's name of 20,000 letters is not sent back whole", () => {
  const render = () => templateVariables('', { variables: { [long]: 1 }, effort: null });
  expect(render).toThrow(/^.{0,200}yyyy….{0,200}$/);
});
