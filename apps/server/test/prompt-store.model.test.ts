/**
 * A conversation whose first turn was read by a server that has stopped since: its second turn begins from disk, with the answer of reading it anew.
 * Needs CTKVR_TEST_MODEL and the native build.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readMobyDick } from '@ctkvr/model-runner';
import { describe, expect, test } from 'vitest';
import { startModelServer } from './model-server.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `Prompts on disk${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

type Message = { readonly role: string; readonly content: string };

async function ask(url: string, messages: readonly Message[], more: object = {}) {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'test-model', messages, temperature: 0, max_tokens: 16, ...more }),
  });
  expect(response.status).toBe(200);
  const { choices, usage } = (await response.json()) as {
    choices: { message: { content: string } }[];
    usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
  };
  const { prompt_tokens: numTokens, prompt_tokens_details: details } = usage;
  return { text: choices[0]!.message.content, numTokens, numCached: details.cached_tokens };
}

describe.skipIf(!modelPath)(title, { timeout: 180_000 }, () => {
  test('a second turn after a restart, with the model in a process of its own', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ctkvr-prompts-'));
    const start = () => startModelServer(modelPath!, { load: { promptStore: { folder, maxBytes: 1e9 } } });
    try {
      const book = await readMobyDick();
      const messages: Message[] = [{ role: 'user', content: `${book.slice(0, 4000)}\n\nWho tells this story?` }];
      const before = await start();
      const first = await ask(before.url, messages);
      await before.close();
      messages.push({ role: 'assistant', content: first.text }, { role: 'user', content: 'Where does he go?' });
      const after = await start();
      try {
        const second = await ask(after.url, messages);
        expect(second.numCached).toBe(first.numTokens - 1);
        expect(second.text).toBe((await ask(after.url, messages, { cache_prompt: false })).text);
      } finally {
        await after.close();
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
