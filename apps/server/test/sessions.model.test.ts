/** Documents on a real model: read once, asked many times, there again after a restart. Needs CTKVR_TEST_MODEL and the native build. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, type Model, readMobyDick } from '@ctkvr/model-runner';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startModelServer } from './model-server.js';
import { readEvents } from './read-events.js';
import { ask, post, type Session, type Shares, textOf } from './session-client.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `Document sessions${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

describe.skipIf(!modelPath)(title, { timeout: 300_000 }, () => {
  let model: Model;
  let folder: string;
  let text: string;

  beforeAll(async () => {
    model = await loadModel(modelPath!);
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-sessions-'));
    text = (await readMobyDick()).slice(0, 1500);
  }, 120_000);

  afterAll(async () => {
    await model?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const start = () => startModelServer(model, { sessionStore: { folder } });

  const [who, where] = ['Who tells this story?', 'Where does he go?'];

  test('one is read, asked twice at once, and answers the same after a restart, from an export and as a fork', async () => {
    let id: string;
    let answers: string[];
    let snapshot: ArrayBuffer;
    {
      await using server = await start();
      const { url } = server;
      const created = await post(`${url}/v1/sessions`, { name: 'Moby-Dick', text });
      expect(created.status).toBe(202);
      const session = (await created.json()) as Session;
      expect(session).toMatchObject({ object: 'session', name: 'Moby-Dick', state: 'reading', tokens_done: 0 });
      ({ id } = session);

      const events = await readEvents(await fetch(`${url}/v1/sessions/${id}/events`));
      expect(events.at(-1)).toMatchObject({ id, state: 'ready' });
      const { tokens_done: done, tokens_total: total } = events.at(-1) as Session;
      expect([done, total > 200]).toEqual([total, true]);

      const both = await Promise.all([ask(url, id, who, { ctkvr: { read_map: true } }), ask(url, id, where)]);
      answers = both.map(textOf);
      for (const { usage } of both) {
        expect(usage.prompt_tokens_details.cached_tokens).toBeGreaterThan(total - 3);
        expect(usage.prompt_tokens).toBeGreaterThan(total);
      }
      const map = both[0]!.ctkvr.read_map!;
      expect(map.length).toBeGreaterThan(5);
      const sum = map.reduce((all, [, share]) => all + share, 0);
      expect(sum).toBeGreaterThan(0.9);
      expect(sum).toBeLessThan(1.01);

      const { passages, passage_tokens: size } = (await (await fetch(`${url}/v1/sessions/${id}/passages`)).json()) as {
        passages: string[];
        passage_tokens: number;
      };
      expect([size, passages.length]).toEqual([32, Math.ceil(total / 32)]);
      expect(passages.join('')).toContain(text.trim());

      const exported = await fetch(`${url}/v1/sessions/${id}/export`);
      expect(exported.status).toBe(200);
      snapshot = await exported.arrayBuffer();
    }

    await using server = await start();
    const { url } = server;
    const listed = (await (await fetch(`${url}/v1/sessions`)).json()) as { data: Session[] };
    expect(listed.data).toMatchObject([{ id, name: 'Moby-Dick', state: 'saved' }]);
    const first = await ask(url, id, who);
    process.stderr.write(
      `after a restart: ${listed.data[0]!.tokens_total} tokens, first token after ${first.ctkvr.time_to_first_token_ms} ms\n`,
    );
    expect([textOf(first), textOf(await ask(url, id, where))]).toEqual(answers);
    expect(await (await fetch(`${url}/v1/sessions/${id}`)).json()).toMatchObject({ state: 'ready' });

    const forked = (await (await fetch(`${url}/v1/sessions/${id}/fork`, { method: 'POST' })).json()) as Session;
    expect(forked.id).not.toBe(id);
    expect((await fetch(`${url}/v1/sessions/${id}`, { method: 'DELETE' })).status).toBe(200);
    expect((await fetch(`${url}/v1/sessions/${id}`)).status).toBe(404);
    expect(textOf(await ask(url, forked.id, who))).toBe(answers[0]);

    const imported = await fetch(`${url}/v1/sessions/import?name=back`, { method: 'POST', body: snapshot });
    expect(imported.status).toBe(201);
    const back = (await imported.json()) as Session;
    expect(back).toMatchObject({ name: 'back', state: 'ready' });
    expect(textOf(await ask(url, back.id, where))).toBe(answers[1]);

    const bad = await fetch(`${url}/v1/sessions/import`, { method: 'POST', body: snapshot.slice(0, 5000) });
    expect(bad.status).toBe(400);
    expect(await bad.json()).toMatchObject({ error: { code: 'bad_snapshot' } });
  });

  test('a stream about one that is still being read waits for it; earlier turns count; every piece tells what was read', async () => {
    await using server = await start();
    const { url } = server;
    const { id } = (await (await post(`${url}/v1/sessions`, { text })).json()) as Session;
    const response = await post(`${url}/v1/chat/completions`, {
      model: 'test-model',
      session: id,
      messages: [
        { role: 'user', content: who },
        { role: 'assistant', content: 'Ishmael does.' },
        { role: 'user', content: where },
      ],
      temperature: 0,
      max_tokens: 8,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
      ctkvr: { read_map: true },
    });
    expect(response.status).toBe(200);
    const chunks = (await readEvents(response)) as {
      choices: { delta: { content?: string } }[];
      usage: { prompt_tokens: number } | null;
      ctkvr?: { read_map: Shares };
    }[];
    const withText = chunks.filter(({ choices }) => choices?.[0]?.delta.content);
    expect(withText.length).toBeGreaterThan(3);
    for (const { ctkvr } of withText) {
      const passages = ctkvr!.read_map.map(([passage]) => passage);
      expect(passages).toEqual([...passages].sort((a, b) => a - b));
      expect(ctkvr!.read_map.every(([, share]) => share > 0.0005 && share <= 1)).toBe(true);
    }
    const { tokens_total: total } = (await (await fetch(`${url}/v1/sessions/${id}`)).json()) as Session;
    expect(chunks.at(-2)?.usage?.prompt_tokens).toBeGreaterThan(total + 15);
  });

  test('one that is too long has failed, and says so to whoever asks', async () => {
    await using server = await start();
    const { url } = server;
    const long = 'word '.repeat(model.contextLength + 100);
    const { id } = (await (await post(`${url}/v1/sessions`, { text: long })).json()) as Session;
    const events = await readEvents(await fetch(`${url}/v1/sessions/${id}/events`));
    expect(events.at(-1)).toMatchObject({ state: 'failed', error: { code: 'context_length_exceeded' } });
    const question = { model: 'test-model', session: id, messages: [{ role: 'user', content: 'why?' }] };
    const refused = await post(`${url}/v1/chat/completions`, question);
    expect(refused.status).toBe(400);
  });
});
