/** POST /v1/completions: what is its own; running and queueing are those of every protocol (routes.test.ts). */
import { describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { readEvents } from './read-events.js';

async function post(more: object) {
  const engine = new EchoEngine();
  const response = await createApp({ engine }).request('/v1/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'echo', ...more }),
  });
  return { response, request: engine.lastRequest };
}

describe('a prompt', () => {
  const text = { type: 'text', text: 'one two', addSpecial: true };
  const tokens = { type: 'tokens', tokens: [7, 8] };

  test.each([
    ['one two', text],
    [['one two'], text],
    [[7, 8], tokens],
    [[[7, 8]], tokens],
    ['', { ...text, text: '' }],
  ])('%j', async (prompt, expected) => {
    const { response, request } = await post({ prompt });
    expect(response.status).toBe(200);
    expect(request?.prompt).toEqual(expected);
  });

  test.each([[[]], [[[]]], [['one', 'two']], [[[1], [2]]], [[-1]], [[1.5]], [['one', 2]], [7], [undefined]])(
    '%j is refused',
    async (prompt) => {
      const { response } = await post({ prompt });
      expect(response.status).toBe(400);
      const { error } = (await response.json()) as { error: { param: string; message: string } };
      expect(error.param).toMatch(/^prompt/);
      expect(error.message).toMatch(/must be .+, got /);
    },
  );

  test('that is too long is the prompt’s fault', async () => {
    const { response } = await post({ prompt: 'w '.repeat(100) });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code: 'context_length_exceeded', param: 'prompt' } });
  });
});

test('an answer is a text completion of 16 tokens unless told otherwise', async () => {
  const { response, request } = await post({ prompt: 'one two three' });
  expect(request?.maxTokens).toBe(16);
  expect(await response.json()).toMatchObject({
    id: expect.stringMatching(/^cmpl-/),
    object: 'text_completion',
    model: 'echo',
    choices: [{ index: 0, text: 'one two three ', logprobs: null, finish_reason: 'stop' }],
    usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6 },
    ctkvr: { ms_per_token: 1 },
  });
});

test('a stream has text, finish, usage and [DONE], one id throughout', async () => {
  const { response } = await post({ prompt: 'one two', stream: true, stream_options: { include_usage: true } });
  const events = await readEvents(response);
  expect(events.at(-1)).toBe('[DONE]');
  const chunks = events.slice(0, -1);
  expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
  expect(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join('')).toBe('one two ');
  expect(chunks.at(-2)).toMatchObject({ choices: [{ text: '', finish_reason: 'stop' }], usage: null });
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 4 } });
});

test('a failure in mid-stream is an error frame and no [DONE]', async () => {
  const events = await readEvents((await post({ prompt: 'a !fail', stream: true })).response);
  expect(events.at(-1)).toMatchObject({ error: { type: 'server_error', code: 'internal_error' } });
});
