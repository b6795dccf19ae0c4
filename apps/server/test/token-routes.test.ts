/** /tokenize, /detokenize, /apply-template: bodies and answers as llama.cpp's server has them. */
import { describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';

async function post(path: string, body: unknown) {
  const response = await createApp({ engine: new EchoEngine() }).request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

describe('/tokenize', () => {
  test.each([
    [{ content: 'ab' }, [99, 100]],
    [{ content: 'ab', add_special: true }, [0, 99, 100]],
    [{ content: '<s>a' }, [0, 99]],
    [{ content: '<s>a', parse_special: false }, [62, 117, 64, 99]],
    [{ content: '' }, []],
    [{ content: 'a', model: 'echo' }, [99]],
    [
      { content: 'aé<s>', with_pieces: true },
      [
        { id: 99, piece: 'a' },
        { id: 197, piece: [195] },
        { id: 171, piece: [169] },
        { id: 0, piece: '<s>' },
      ],
    ],
  ])('%j', async (body, tokens) => {
    expect(await post('/tokenize', body)).toEqual({ status: 200, body: { tokens } });
  });
});

test('/detokenize is the way back, bytes joined before they become text', async () => {
  const text = 'a <s> é 🦊 '.repeat(300); // beyond what is done at once
  const { body } = await post('/tokenize', { content: text });
  expect(await post('/detokenize', body)).toEqual({ status: 200, body: { content: text } });
  expect((await post('/detokenize', { tokens: [] })).body).toEqual({ content: '' });
});

test('/apply-template takes a chat completion’s body, without need of a model', async () => {
  const messages = [
    { role: 'developer', content: 'x' },
    { role: 'user', content: [{ type: 'text', text: 'y' }] },
  ];
  const prompt = 'system: x\nuser: y\n';
  for (const more of [{}, { model: 'echo' }, { temperature: 0, stream: true }]) {
    expect(await post('/apply-template', { messages, ...more })).toEqual({ status: 200, body: { prompt } });
  }
});

describe('what is wrong is refused by name', () => {
  test.each<[string, object, string, string]>([
    ['/tokenize', {}, 'content', 'missing_required_parameter'],
    ['/tokenize', { content: ['a'] }, 'content', 'invalid_value'],
    ['/tokenize', { content: 'a', add_bos: true }, 'add_bos', 'unknown_parameter'],
    ['/tokenize', { content: 'a', model: 'other' }, 'model', 'model_not_found'],
    ['/detokenize', { tokens: [1, 258] }, 'tokens[1]', 'invalid_value'],
    ['/detokenize', { tokens: [-1] }, 'tokens[0]', 'invalid_value'],
    ['/detokenize', { tokens: [0.5] }, 'tokens[0]', 'invalid_value'],
    ['/detokenize', { tokens: [], model: 'other' }, 'model', 'model_not_found'],
    ['/apply-template', {}, 'messages', 'missing_required_parameter'],
    ['/apply-template', { messages: [{ role: 'user', content: '!refuse' }] }, 'messages', 'invalid_value'],
    ['/apply-template', { messages: [{ role: 'user', content: 'x' }], model: 'other' }, 'model', 'model_not_found'],
  ])('%s %j', async (path, body, param, code) => {
    const answer = await post(path, body);
    expect(answer.status).toBe(code === 'model_not_found' ? 404 : 400);
    expect(answer.body).toMatchObject({ error: { type: 'invalid_request_error', param, code } });
  });
});
