/**
 * Requests that say nothing of their answers' length wait for memory; none is refused for the longest answer it might have had. Needs
 * CTKVR_TEST_MODEL and the native build.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import { startModelServer } from './model-server.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `Requests and memory${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

describe.skipIf(!modelPath)(title, { timeout: 240_000 }, () => {
  let server: RunningServer;

  beforeAll(async () => {
    server = await startModelServer(modelPath!, {
      contextLength: 8192, // some 190 MB of keys and values
      maxRunning: 8,
      load: { sessionMemoryBytes: 60e6 },
    });
  }, 120_000);

  afterAll(async () => {
    await server?.close();
  });

  const ask = (content: string, more: object = {}) =>
    fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'test-model',
        messages: [{ role: 'user', content }],
        temperature: 0,
        ...more,
      }),
    });

  test('eight requests without max_tokens are all answered, as each is alone', async () => {
    const question = 'Name the capital of France.';
    const answer = async (response: Response) => {
      expect(response.status).toBe(200);
      const body = (await response.json()) as { choices: { message: { content: string }; finish_reason: string }[] };
      return body.choices[0]!;
    };
    const alone = await answer(await ask(question));
    expect(alone.message.content).toContain('Paris');
    const all = await Promise.all(Array.from({ length: 8 }, async () => answer(await ask(question))));
    expect(all).toEqual(Array.from({ length: 8 }, () => alone));
  });

  test('a stream that waits for memory begins at once', async () => {
    const leave = new AbortController();
    const long = { max_tokens: 1000, ignore_eos: true, stream: true };
    // The first two hold what there is: with their reserves nobody else fits.
    const holders = await Promise.all(
      [1, 2].map((n) =>
        fetch(`${server.url}/v1/chat/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({
            model: 'test-model',
            messages: [{ role: 'user', content: `Count to ${n}000.` }],
            ...long,
          }),
          signal: leave.signal,
        }),
      ),
    );
    const waiting = await ask('Name the capital of France.', { stream: true });
    expect([waiting.status, waiting.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
    leave.abort();
    await Promise.allSettled(holders.map((holder) => holder.text()));
    const text = await waiting.text();
    expect(text).toContain('Paris');
    expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true);
  });

  test('a prompt that all the memory cannot hold is refused with the reason', async () => {
    const refused = await ask('word '.repeat(4000));
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({ error: { code: 'insufficient_memory' } });
  });
});
