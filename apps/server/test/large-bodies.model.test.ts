/** A body of 25 MB with a real model: others are answered while it is read, rendered and looked at, and it is refused without being tokenized. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { loadModel } from '@ctkvr/model-runner';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp, SessionChatEngine } from '../src/index.js';

const path = process.env.CTKVR_TEST_MODEL;
const MEGABYTES = 25;

const reason = path === undefined ? ' (skipped: CTKVR_TEST_MODEL names no GGUF file)' : '';

describe.skipIf(!path)(`a large body${reason}`, () => {
  let model: Awaited<ReturnType<typeof loadModel>>;
  beforeAll(async () => {
    model = await loadModel(path!, { numThreads: 1 });
  });
  afterAll(() => model.close());

  /** In pieces of a socket's size, with a turn of the event loop between them. */
  function slowly(text: string): ReadableStream<Uint8Array> {
    const bytes = Buffer.from(text);
    let at = 0;
    return new ReadableStream({
      async pull(controller) {
        await nextTurn();
        controller.enqueue(bytes.subarray(at, at + 65_536));
        at += 65_536;
        if (at >= bytes.length) controller.close();
      },
    });
  }

  test.each([
    ['/v1/chat/completions', (text: string) => ({ messages: [{ role: 'user', content: text }] })],
    ['/v1/completions', (text: string) => ({ prompt: text })],
  ])('to %s leaves /health answered all the while', async (route, body) => {
    const engine = new SessionChatEngine({ model, modelId: 'small', contextLength: model.contextLength });
    const app = createApp({ engine });
    const text = JSON.stringify({ model: 'small', ...body('A'.repeat(MEGABYTES << 20)) });
    let isAnswered = false;
    const init: RequestInit = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: slowly(text),
      duplex: 'half',
    };
    const answering = Promise.resolve(app.request(route, init)).finally(() => {
      isAnswered = true;
    });
    let [numHealthy, slowestMs] = [0, 0];
    while (!isAnswered) {
      const askedAt = performance.now();
      await nextTurn(); // behind whatever else the event loop has to do
      if ((await app.request('/health')).status === 200) numHealthy += 1;
      slowestMs = Math.max(slowestMs, performance.now() - askedAt);
    }
    const response = await answering;
    process.stdout.write(`${route}: /health answered ${numHealthy} times, the slowest in ${slowestMs.toFixed(0)} ms\n`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { code: 'context_length_exceeded', message: expect.stringMatching(/characters has at least/) },
    });
    // Once a piece of the body at the least: nothing reads or looks at the whole of it in one go.
    expect(numHealthy).toBeGreaterThan((MEGABYTES << 20) / 65_536 / 2);
  });
});
