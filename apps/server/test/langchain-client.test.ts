/** LangChain's ChatOpenAI against a listening server without a model. */
import { AIMessage, HumanMessage, SystemMessage, ToolMessage, type UsageMetadata } from '@langchain/core/messages';
import { ChatOpenAI, type ChatOpenAIFields } from '@langchain/openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
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

const chat = (fields: ChatOpenAIFields = {}) =>
  new ChatOpenAI({
    model: 'echo',
    apiKey: 'unused',
    maxRetries: 0,
    configuration: { baseURL: `${server.url}/v1` },
    ...fields,
  });

test.each([false, true])('invoke (responses: %s)', async (useResponsesApi) => {
  const answer = await chat({ useResponsesApi }).invoke('one two');
  expect(answer.text).toBe('one two ');
  expect(answer.usage_metadata).toMatchObject({ input_tokens: 2, output_tokens: 2, total_tokens: 4 });
});

test.each([false, true])('stream (responses: %s)', async (useResponsesApi) => {
  const pieces: string[] = [];
  let totalTokens = 0;
  for await (const chunk of await chat({ useResponsesApi }).stream('one two')) {
    pieces.push(chunk.text);
    totalTokens += (chunk.usage_metadata as UsageMetadata | undefined)?.total_tokens ?? 0;
  }
  expect(pieces.filter((piece) => piece !== '')).toEqual(['one ', 'two ']);
  expect(totalTokens).toBe(4);
});

test.each([false, true])('a history with a ToolMessage (responses: %s)', async (useResponsesApi) => {
  const answer = await chat({ useResponsesApi }).invoke([
    new SystemMessage('be kind'),
    new HumanMessage('look'),
    new AIMessage({ content: '', tool_calls: [{ id: 'c1', name: 'look', args: { at: 'sea' } }] }),
    new ToolMessage({ content: 'grey', tool_call_id: 'c1' }),
  ]);
  expect(answer.text).toBe('grey ');
  expect(engine.lastRequest?.prompt).toMatchObject({
    messages: [
      { role: 'system', content: 'be kind' },
      { role: 'user', content: 'look' },
      { role: 'assistant', tool_calls: [{ id: 'c1', function: { name: 'look', arguments: { at: 'sea' } } }] },
      { role: 'tool', content: 'grey', tool_call_id: 'c1' },
    ],
  });
});

test('several choices and log probabilities', async () => {
  const { generations } = await chat({ n: 2, logprobs: true, topLogprobs: 1 }).generate([[new HumanMessage('one')]]);
  expect(generations[0]?.map(({ text }) => text)).toEqual(['one ', 'one ']);
  const { logprobs } = generations[0]![0]!.generationInfo as { logprobs: object };
  expect(logprobs).toMatchObject({ content: [{ token: 'one ', top_logprobs: [{ token: 'o' }] }] });
});

test('an error is thrown with its code; one in the middle of a stream too', async () => {
  await expect(chat().invoke('w '.repeat(100))).rejects.toMatchObject({ code: 'context_length_exceeded' });
  const read = async () => {
    for await (const _ of await chat().stream('one !fail'));
  };
  await expect(read()).rejects.toMatchObject({ code: 'internal_error' });
});

test('leaving frees the place', async () => {
  const client = new AbortController();
  const answer = chat().invoke('one !hang', { signal: client.signal });
  const left = expect(answer).rejects.toThrow();
  await until(() => engine.numOpen === 1);
  client.abort();
  await left;
  await until(() => engine.numOpen === 0);
});
