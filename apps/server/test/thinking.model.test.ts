/** Thoughts of a real model, told apart in every protocol. Its template puts examples in front, so that so small a model thinks in tags. */
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import { startModelServer } from './model-server.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `thoughts${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

const examples = ['red', 'green', 'blue', 'black'].map(
  (colour) => `Q: ${colour}?\n<think>It is ${colour}.</think>${colour}\n`,
);
const chatTemplate = `${examples.join('')}Q: {{ messages[0].content }}?\n`;

describe.skipIf(!modelPath)(title, { timeout: 240_000 }, () => {
  let server: RunningServer;
  let client: OpenAI;

  beforeAll(async () => {
    server = await startModelServer(modelPath!, { contextLength: 1024, load: { chatTemplate } });
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  }, 120_000);

  afterAll(async () => {
    await server?.close();
  });

  const asked = {
    model: 'test-model',
    messages: [{ role: 'user' as const, content: 'white' }],
    temperature: 0,
    stop: 'Q:',
    max_tokens: 60,
  };

  test('a chat completion, whole and streamed', async () => {
    const { message } = (await client.chat.completions.create(asked)).choices[0]!;
    expect(message).toMatchObject({ content: 'white\n', reasoning_content: 'It is white.' });
    const parts = { content: '', reasoning_content: '' };
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      const delta = (chunk.choices[0]?.delta ?? {}) as Partial<typeof parts>;
      for (const name of ['content', 'reasoning_content'] as const) parts[name] += delta[name] ?? '';
    }
    expect(parts).toEqual({ content: 'white\n', reasoning_content: 'It is white.' });
  });

  test('before JSON', async () => {
    const schema = {
      type: 'object',
      properties: { colour: { enum: ['white'] } },
      required: ['colour'],
      additionalProperties: false,
    };
    const response_format = { type: 'json_schema' as const, json_schema: { name: 'a', schema } };
    const { message } = (await client.chat.completions.create({ ...asked, stop: null, response_format })).choices[0]!;
    expect(JSON.parse(message.content!)).toEqual({ colour: 'white' });
    expect(message).toMatchObject({ reasoning_content: 'It is white.' });
  });

  test('a response and a message', async () => {
    const { model, temperature, max_tokens, messages } = asked;
    const response = await client.responses.create({
      model,
      temperature,
      input: messages,
      max_output_tokens: max_tokens,
    });
    expect(response.output[0]).toMatchObject({ type: 'reasoning', content: [{ text: 'It is white.' }] });
    expect(response.output_text.startsWith('white')).toBe(true);
    const anthropic = new Anthropic({ baseURL: server.url, apiKey: 'none', maxRetries: 0 });
    const stop_sequences = ['Q:'];
    const message = await anthropic.messages
      .stream({ model, max_tokens, temperature, messages, stop_sequences })
      .finalMessage();
    expect(message.content).toMatchObject([
      { type: 'thinking', thinking: 'It is white.' },
      { type: 'text', text: 'white\n' },
    ]);
  });
});
