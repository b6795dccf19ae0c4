/** A model in a process of its own, that dies. Needs CTKVR_TEST_MODEL and the native build. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, health, type Logged, startLogged, textOf } from './logged-server.js';
import { isAlive, startServerProcess } from './server-process.js';
import { until } from './until.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const because = modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)';

const lost = {
  error: { code: 'engine_lost', type: 'server_error', message: expect.stringContaining('send the request again') },
};
const long = { max_tokens: 2000, ignore_eos: true };
const secret = 'The password is swordfish. ';

describe.skipIf(!modelPath)(`An engine that is killed${because}`, { timeout: 120_000 }, () => {
  let logged: Logged;
  beforeAll(async () => {
    logged = await startLogged({ model: modelPath!, modelName: 'test-model' });
  }, 60_000);
  afterAll(() => logged?.server.close());

  test('in a decode ends streams with an error event and whole answers with 503; the next request is answered as before', async () => {
    const { server, enginePid } = logged;
    const before = await textOf(await ask(server, { max_tokens: 8 }));
    const stream = await ask(server, { ...long, stream: true });
    const whole = ask(server, long);
    const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (let frames = 0; frames < 5; frames += 1) text += (await reader.read()).value ?? '';
    while ((await health(server)).running < 2) await delay(5);
    process.kill(enginePid(), 'SIGKILL');
    for (let read = await reader.read(); !read.done; read = await reader.read()) text += read.value;
    const frames = text.split('\n').filter((line) => line.startsWith('data: '));
    expect(JSON.parse(frames.at(-1)!.slice('data: '.length))).toMatchObject(lost);
    const failed = await whole;
    expect([failed.status, failed.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await failed.json()).toMatchObject(lost);
    expect(await textOf(await ask(server, { max_tokens: 8 }))).toBe(before);
    expect(await health(server)).toMatchObject({ status: 'ok', running: 0 });
  });

  test('in a prefill does the same, /health answers throughout, and who asks meanwhile waits', async () => {
    const { server, enginePid, lines } = logged;
    const statuses = new Set<string>();
    let isOver = false;
    const watching = (async () => {
      while (!isOver) {
        statuses.add((await health(server)).status);
        await delay(5);
      }
    })();
    const messages = [{ role: 'user', content: secret.repeat(900) }];
    const numStarted = lines.filter(({ msg }) => msg === 'started').length;
    const reading = ask(server, { messages, max_tokens: 5, cache_prompt: false });
    await until(() => lines.filter(({ msg }) => msg === 'started').length > numStarted);
    await delay(50);
    process.kill(enginePid(), 'SIGKILL');
    const failed = await reading;
    expect([failed.status, await failed.json()]).toMatchObject([503, lost]);
    // The engine is on its way back: the stream begins, and has its answer later.
    const [next, whole] = await Promise.all([
      ask(server, { max_tokens: 3, stream: true }),
      ask(server, { max_tokens: 3 }),
    ]);
    expect([next.status, whole.status]).toEqual([200, 200]);
    expect((await next.text()).trimEnd().endsWith('data: [DONE]')).toBe(true);
    isOver = true;
    await watching;
    expect([...statuses].sort()).toEqual(['ok', 'restarting']);
    expect(lines.filter(({ msg }) => msg === 'engine lost').at(-1)).toMatchObject({
      model: 'test-model',
      restartInMs: expect.any(Number),
    });
    expect(JSON.stringify(lines)).not.toContain('swordfish');
  });

  test('because it hangs in the midst of an answer does the same', async () => {
    const hanging = await startLogged({ model: modelPath!, modelName: 'test-model', engineTimeoutMs: 4000 });
    try {
      const answer = ask(hanging.server, long);
      await until(() => hanging.lines.some(({ msg }) => msg === 'started'));
      process.kill(hanging.enginePid(), 'SIGSTOP');
      const failed = await answer;
      expect([failed.status, await failed.json()]).toMatchObject([503, lost]);
      expect(await textOf(await ask(hanging.server, { max_tokens: 3 }))).not.toBe('');
      const why = hanging.lines.find(({ msg }) => msg === 'engine lost')!.why;
      expect(why).toBe('it hung: no answer for 4 s');
    } finally {
      await hanging.server.close();
    }
  });

  test('and does not outlive its server, however that ends', async () => {
    const { enginePid, kill } = await startServerProcess({ model: modelPath! });
    expect(isAlive(enginePid)).toBe(true);
    await kill();
  });
});
