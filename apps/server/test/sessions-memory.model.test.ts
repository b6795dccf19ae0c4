/** Documents on a real model with less memory than they need together. Needs CTKVR_TEST_MODEL and the native build. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, readMobyDick } from '@ctkvr/model-runner';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServer } from '../src/index.js';
import { readEvents } from './read-events.js';
import { ask, post, type Session, textOf } from './session-client.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `Memory of document sessions${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;
const logger = pino({ level: 'silent' });

describe.skipIf(!modelPath)(title, { timeout: 300_000 }, () => {
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-sessions-'));
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  test('documents that nobody asks make way for others, and come back', async () => {
    // Each may take 38 MiB.
    const small = await loadModel(modelPath!, {
      contextLength: 512,
      sessionMemoryBytes: 100 * 2 ** 20,
      prefixCacheBytes: 0,
    });
    const sessionStore = { folder: folder };
    const server = await startServer({
      model: small,
      modelName: 'test-model',
      port: 0,
      logger,
      handleSignals: false,
      sessionStore,
    });
    const { url } = server;
    const book = await readMobyDick();
    try {
      const ids: string[] = [];
      for (const begin of [0, 400, 800]) {
        const { id } = (await (
          await post(`${url}/v1/sessions`, { text: book.slice(begin, begin + 400) })
        ).json()) as Session;
        const events = await readEvents(await fetch(`${url}/v1/sessions/${id}/events`));
        expect(JSON.stringify(events.at(-1))).toMatch('"ready"');
        ids.push(id);
      }
      const states = async () =>
        Promise.all(ids.map(async (id) => ((await (await fetch(`${url}/v1/sessions/${id}`)).json()) as Session).state));
      expect((await states())[0]).toBe('saved');
      const answers: string[] = [];
      for (const id of [...ids, ...ids]) answers.push(textOf(await ask(url, id, 'Who tells this story?')));
      expect(answers.slice(3)).toEqual(answers.slice(0, 3));
      expect(await states()).toContain('saved');
      // A request without a session finds room too.
      const hello = { model: 'test-model', messages: [{ role: 'user', content: 'hi' }], max_tokens: 400 };
      expect((await post(`${url}/v1/chat/completions`, hello)).status).toBe(200);
    } finally {
      await server.close();
      await small.close();
    }
  });
});
