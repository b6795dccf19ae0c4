/** The AI SDK and LangChain against a listening server with a real model. Needs CTKVR_TEST_MODEL and the native build. */
import { createOpenAI } from '@ai-sdk/openai';
import { ChatOpenAI } from '@langchain/openai';
import { streamText } from 'ai';
import { expect, test } from 'vitest';
import type { ChatStatistics } from '../src/chat-engine.js';
import { describeWithServer } from './model-server.js';

const question = 'Name the capital of France.';

describeWithServer('Clients', 120_000, (server) => {
  test('the AI SDK streams an answer', async () => {
    const model = createOpenAI({ baseURL: `${server().url}/v1`, apiKey: 'unused' })('test-model');
    const answer = streamText({ model, prompt: question, temperature: 0, maxOutputTokens: 16 });
    let text = '';
    for await (const piece of answer.textStream) text += piece;
    expect(text).toContain('Paris');
    expect((await answer.usage).outputTokens).toBeGreaterThan(1);
  });

  test('LangChain has an answer', async () => {
    const configuration = { baseURL: `${server().url}/v1` };
    const chat = new ChatOpenAI({
      model: 'test-model',
      apiKey: 'unused',
      configuration,
      temperature: 0,
      maxTokens: 16,
    });
    expect((await chat.invoke(question)).text).toContain('Paris');
  });

  test('milliseconds a token are told by stage', async () => {
    const response = await fetch(`${server().url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'test-model', prompt: 'The sea was', max_tokens: 12, ignore_eos: true }),
    });
    const { ctkvr } = (await response.json()) as { ctkvr: ChatStatistics };
    const { linear, attention, sampling, ...others } = ctkvr.ms_by_stage!;
    expect(Math.min(linear, attention, sampling)).toBeGreaterThan(0);
    expect(others).toEqual({ retrieval: expect.any(Number), index: expect.any(Number) });
  });

  test('a request says how its keys are read', async () => {
    const keysRead = async (ctkvr: object) => {
      const response = await fetch(`${server().url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'test-model', prompt: 'The sea was calm. '.repeat(12), max_tokens: 3, ctkvr }),
      });
      const { ctkvr: said } = (await response.json()) as { ctkvr: Record<string, number> };
      return [said.keys_read_per_head, said.keys_per_head];
    };
    const [all, of] = await keysRead({});
    expect(all).toBe(of);
    const selector = { method: 'streaming', numSinkTokens: 4, recentWindow: 8, denseBelow: 0 };
    const [read, total] = await keysRead({ selector, kvFormat: 'q8' });
    expect(total).toBe(of);
    expect(read).toBeLessThan(20); // sinks, window, and what came since its index was made
  });
});
