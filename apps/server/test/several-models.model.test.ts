/** Several models, each in a process of its own, that are loaded when they are asked for. Needs CTKVR_TEST_MODEL and the native build. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { ask, health, startLogged, textOf } from './logged-server.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const because = modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)';

describe.skipIf(!modelPath)(`Several models${because}`, { timeout: 120_000 }, () => {
  test('are loaded when they are asked for, make way for each other, and are unloaded when idle', async () => {
    const named = (name: string) => ({ model: modelPath!, name });
    const models = [named('a'), named('b')];
    const { server, lines } = await startLogged({ models, memoryBytes: 700e6, unloadAfterMs: 1500 });
    await using _ = server;
    const states = async () => (await health(server)).models.map((one) => (one as { state: string }).state);
    expect(await states()).toEqual(['unloaded', 'unloaded']);
    const stream = await ask(server, { model: 'b', max_tokens: 4, stream: true });
    expect([stream.status, await states()]).toEqual([200, ['unloaded', 'loading']]);
    const text = await stream.text();
    expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true);
    // The memory holds one of them: the other makes way. Both give the same answer, being the same file.
    const answers = await Promise.all(
      ['a', 'b'].map(async (model) => textOf(await ask(server, { model, max_tokens: 4 }))),
    );
    expect(new Set(answers).size).toBe(1);
    expect(lines.filter(({ msg }) => msg === 'unloaded').length).toBeGreaterThan(0);
    const unknown = await ask(server, { model: 'c' });
    expect(unknown.status).toBe(404);
    while ((await states()).some((state) => state !== 'unloaded')) await delay(50);
    expect(await textOf(await ask(server, { model: 'a', max_tokens: 4 }))).toBe(answers[0]);
    const list = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: object[] };
    expect(list.data).toMatchObject([
      { id: 'a', context_length: 8192 },
      { id: 'b', context_length: 8192 },
    ]);
  });
});
