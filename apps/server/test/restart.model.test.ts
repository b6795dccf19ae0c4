/**
 * A long document after a restart: how long the first token takes beside the reading is printed, the answer is compared. Needs
 * CTKVR_TEST_MODEL, the native build and CTKVR_TEST_LONG=1 (`npm run test:model`).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, readMobyDick } from '@ctkvr/model-runner';
import { describe, expect, test } from 'vitest';
import { startModelServer } from './model-server.js';
import { readEvents } from './read-events.js';
import { ask, post, type Session, textOf } from './session-client.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const runs = modelPath !== undefined && process.env.CTKVR_TEST_LONG === '1';
const title = `A long document after a restart${runs ? '' : ' (skipped: needs CTKVR_TEST_MODEL and CTKVR_TEST_LONG=1)'}`;

/** Tokens to read: more where the model takes more. */
const LONG = 16_000;
const SHORT = 7_000;

describe.skipIf(!runs)(title, { timeout: 1_800_000 }, () => {
  test('is answered from its file as it was before', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ctkvr-restart-'));
    const question = 'Who is the captain of the ship?';
    const serve = async () => {
      const model = await loadModel(modelPath!);
      const server = await startModelServer(model, { sessionStore: { folder } });
      return {
        model,
        url: server.url,
        async [Symbol.asyncDispose]() {
          await server.close();
          await model.close();
        },
      };
    };
    try {
      let id: string;
      let before: string;
      let readMs: number;
      {
        await using server = await serve();
        const { model, url } = server;
        const wanted = model.contextLength > LONG + 1000 ? LONG : SHORT;
        const tokens = await model.tokenize(await readMobyDick());
        const text = model.detokenize(tokens.slice(0, wanted));
        const startedAt = performance.now();
        ({ id } = (await (await post(`${url}/v1/sessions`, { text })).json()) as Session);
        const events = await readEvents(await fetch(`${url}/v1/sessions/${id}/events`));
        readMs = performance.now() - startedAt;
        expect(events.at(-1)).toMatchObject({ state: 'ready' });
        before = textOf(await ask(url, id, question));
      }
      await using server = await serve();
      const startedAt = performance.now();
      const answer = await ask(server.url, id, question);
      const wholeMs = performance.now() - startedAt;
      expect(textOf(answer)).toBe(before);
      const { prompt_tokens: numPrompt, prompt_tokens_details: details } = answer.usage;
      expect(details.cached_tokens).toBeGreaterThan(numPrompt - 100);
      const firstMs = answer.ctkvr.time_to_first_token_ms;
      process.stderr.write(
        `${details.cached_tokens} tokens read in ${readMs.toFixed(0)} ms; after a restart the first token after ${firstMs.toFixed(0)} ms ` +
          `(${((100 * firstMs) / readMs).toFixed(1)} %), the whole answer after ${wholeMs.toFixed(0)} ms\n`,
      );
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
