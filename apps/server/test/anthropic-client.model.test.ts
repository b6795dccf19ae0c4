/** Anthropic's client against a listening server with a real model. Needs CTKVR_TEST_MODEL (SmolLM2-135M-Instruct in our own runs) and the native build. */
import Anthropic from '@anthropic-ai/sdk';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import { startModelServer } from './model-server.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `Anthropic client${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

describe.skipIf(!modelPath)(title, { timeout: 240_000 }, () => {
  let server: RunningServer;
  let client: Anthropic;

  beforeAll(async () => {
    server = await startModelServer(modelPath!, {
      contextLength: 4096,
    });
    client = new Anthropic({ baseURL: server.url, apiKey: 'none', maxRetries: 0 });
  }, 120_000);

  afterAll(async () => {
    await server?.close();
  });

  const prompt = {
    model: 'test-model',
    system: 'You are a helpful assistant.',
    messages: [{ role: 'user' as const, content: 'Name the capital of France.' }],
  };
  const greedy = { max_tokens: 16, ...{ temperature: 0 } };

  test('answers whole and streamed, with the tokens that were counted before', async () => {
    const whole = await client.messages.create({ ...prompt, ...greedy });
    expect(whole.content).toMatchObject([{ type: 'text', text: expect.stringContaining('Paris') }]);
    expect(whole.stop_reason).toBe('end_turn');
    expect((await client.messages.countTokens(prompt)).input_tokens).toBe(whole.usage.input_tokens);
    const streamed = await client.messages.stream({ ...prompt, ...greedy }).finalMessage();
    expect([streamed.content, streamed.usage, streamed.stop_reason]).toEqual([
      whole.content,
      whole.usage,
      whole.stop_reason,
    ]);
  });

  test('says which stop sequence ended it', async () => {
    const stopped = await client.messages.create({ ...prompt, ...greedy, stop_sequences: ['never', 'Paris'] });
    expect(stopped).toMatchObject({ stop_reason: 'stop_sequence', stop_sequence: 'Paris' });
    expect(JSON.stringify(stopped.content)).not.toContain('Paris');
  });

  test('reads a history with calls of tools, and goes on from its own answer', async () => {
    const first = await client.messages.create({ ...prompt, ...greedy });
    const answer = await client.messages.create({
      ...prompt,
      ...greedy,
      messages: [
        ...prompt.messages,
        { role: 'assistant', content: first.content },
        { role: 'user', content: 'What is the weather there?' },
        { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'weather', input: { city: 'Paris' } }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: 'sunny, 30 degrees' }] },
      ],
    });
    expect(JSON.stringify(answer.content)).toMatch(/sunny|30/);
  });
});
