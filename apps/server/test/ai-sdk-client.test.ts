/** The Vercel AI SDK against a listening server without a model: its default call (responses) and `.chat()`. */
import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, generateText, type LanguageModel, type ModelMessage, streamText } from 'ai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import type { EchoEngine } from './echo-engine.js';
import { startEchoServer } from './echo-server.js';
import { until } from './until.js';

let engine: EchoEngine;
let server: RunningServer;

beforeAll(async () => {
  ({ engine, server } = await startEchoServer());
});

afterAll(async () => {
  await server.close();
});

const keepIn =
  (errors: unknown[]) =>
  ({ error }: { error: unknown }): void => {
    errors.push(error);
  };

const provider = () => createOpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused' });

describe.each<[string, () => LanguageModel]>([
  ['default call', () => provider()('echo')],
  ['.chat()', () => provider().chat('echo')],
])('%s', (_name, model) => {
  test('generateText', async () => {
    const { text, usage, finishReason } = await generateText({ model: model(), prompt: 'one two' });
    expect(text).toBe('one two ');
    expect(finishReason).toBe('stop');
    expect(usage).toMatchObject({ inputTokens: 2, outputTokens: 2, totalTokens: 4 });
  });

  test('streamText, piece by piece', async () => {
    const errors: unknown[] = [];
    const answer = streamText({ model: model(), prompt: 'one two', onError: keepIn(errors) });
    const pieces: string[] = [];
    for await (const piece of answer.textStream) pieces.push(piece);
    expect(pieces).toEqual(['one ', 'two ']);
    expect(await answer.finishReason).toBe('stop');
    expect((await answer.usage).totalTokens).toBe(4);
    expect(errors).toEqual([]);
  });

  test('an answer that was cut says so', async () => {
    const { finishReason, usage } = await generateText({ model: model(), prompt: 'one two', maxOutputTokens: 1 });
    expect([finishReason, usage.outputTokens]).toEqual(['length', 1]);
  });

  test('an error is thrown with its status and message', async () => {
    const failed = generateText({ model: model(), prompt: 'w '.repeat(100), maxRetries: 0 });
    await expect(failed).rejects.toSatisfy(
      (error) => APICallError.isInstance(error) && error.statusCode === 400 && /fit/.test(error.message),
    );
  });

  test('one in the middle of a stream is told', async () => {
    const errors: unknown[] = [];
    const answer = streamText({ model: model(), prompt: 'one !fail', onError: keepIn(errors) });
    await answer.consumeStream();
    expect(JSON.stringify(errors)).toContain('internal_error');
  });

  test('leaving a stream frees its place', async () => {
    const client = new AbortController();
    const answer = streamText({ model: model(), prompt: 'one !hang', abortSignal: client.signal });
    const read = answer.consumeStream();
    await until(() => engine.numOpen === 1);
    client.abort();
    await read;
    await until(() => engine.numOpen === 0);
  });

  test('temperature and top_p reach the engine', async () => {
    await generateText({ model: model(), prompt: 'one', temperature: 0.5, topP: 0.25 });
    expect(engine.lastRequest).toMatchObject({ temperature: 0.5, topP: 0.25 });
  });
});

test('seed and stop strings reach the engine by .chat(); responses have no such fields', async () => {
  await generateText({ model: provider().chat('echo'), prompt: 'one', seed: 9, stopSequences: ['x'] });
  expect(engine.lastRequest).toMatchObject({ seed: 9, stop: ['x'] });
});

test('a history with a call of a tool and its result is read, by both protocols', async () => {
  const call = { type: 'tool-call' as const, toolCallId: 'c1', toolName: 'look', input: { at: 'sea' } };
  const output = { type: 'text' as const, value: 'grey' };
  const messages: ModelMessage[] = [
    { role: 'user', content: 'look' },
    { role: 'assistant', content: [{ type: 'text', text: 'I look.' }, call] },
    { role: 'tool', content: [{ type: 'tool-result', toolCallId: 'c1', toolName: 'look', output }] },
  ];
  for (const model of [provider()('echo'), provider().chat('echo')]) {
    const { text } = await generateText({
      model,
      system: 'be kind',
      messages,
      providerOptions: { openai: { store: false } },
    });
    expect(text).toBe('grey ');
    expect(engine.lastRequest?.prompt).toMatchObject({
      messages: [
        { role: 'system', content: 'be kind' },
        { role: 'user', content: 'look' },
        { role: 'assistant', content: 'I look.', tool_calls: [{ id: 'c1', function: { arguments: { at: 'sea' } } }] },
        { role: 'tool', content: 'grey', tool_call_id: 'c1' },
      ],
    });
  }
});

test('log probabilities of both protocols are those of the answer', async () => {
  for (const model of [provider()('echo'), provider().chat('echo')]) {
    const { providerMetadata } = await generateText({
      model,
      prompt: 'one two',
      providerOptions: { openai: { logprobs: 1 } },
    });
    expect([providerMetadata?.openai?.logprobs].flat(2)).toMatchObject([{ token: 'one ' }, { token: 'two ' }]);
  }
});
