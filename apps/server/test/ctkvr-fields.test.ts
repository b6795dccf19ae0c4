/** The field `ctkvr` of requests: what it changes of a session, and what it refuses. */
import { describe, expect, test } from 'vitest';
import { changedSession, toSessionChanges } from '../src/ctkvr-fields.js';
import { createApp } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';

test('without it nothing changes', () => {
  const server = { kvFormat: 'q8', selector: { numProbes: 3 } } as const;
  expect(toSessionChanges()).toEqual({});
  expect(changedSession(server, toSessionChanges({}))).toEqual(server);
});

test('single options change what the server has; a preset begins anew', () => {
  const server = { kvFormat: 'q8', selector: { numProbes: 3, tail: false } } as const;
  const changed = (given: Parameters<typeof toSessionChanges>[0]) => changedSession(server, toSessionChanges(given));
  expect(changed({ selector: { numProbes: 5, topP: null } })).toEqual({
    kvFormat: 'q8',
    selector: { numProbes: 5, tail: false },
  });
  expect(changed({ preset: 'exact', selector: { numProbes: 5 } })).toEqual({
    kvFormat: 'q8',
    selector: { preset: 'exact', numProbes: 5 },
  });
  expect(changed({ kvFormat: 'f16' })).toEqual({ ...server, kvFormat: 'f16' });
});

describe.each([
  ['/v1/chat/completions', { messages: [{ role: 'user', content: 'one' }] }],
  ['/v1/completions', { prompt: 'one' }],
  ['/v1/responses', { input: 'one' }],
  ['/v1/messages', { messages: [{ role: 'user', content: 'one' }], max_tokens: 4 }],
])('%s', (route, body) => {
  const post = async (ctkvr: object) => {
    const engine = new EchoEngine();
    const response = await createApp({ engine }).request(route, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'echo', ...body, ctkvr }),
    });
    const { error } = (await response.json()) as { error?: { message: string } };
    return { status: response.status, message: error?.message ?? '', session: engine.lastRequest?.session };
  };

  test('reaches the engine', async () => {
    expect(await post({ preset: 'paper', kvFormat: 'q8' })).toMatchObject({
      status: 200,
      session: { kvFormat: 'q8', selector: { preset: 'paper' } },
    });
  });

  test.each([
    [{ presets: 'paper' }, "'ctkvr.presets' is not a field of this request. Did you mean 'ctkvr.preset'?"],
    [{ preset: 'best' }, '\'ctkvr.preset\' must be "balanced" or "paper" or "exact", got "best"'],
    [{ selector: { numProbs: 1 } }, 'numProbes'],
    [{ selector: { numProbes: 0 } }, 'numProbes must be an integer from 1'],
    [{ selector: { preset: 'paper' } }, 'ctkvr.preset'],
  ])('%j is refused by name', async (ctkvr, message) => {
    const refused = await post(ctkvr);
    expect(refused.status).toBe(400);
    expect(refused.message).toContain(message);
  });
});
