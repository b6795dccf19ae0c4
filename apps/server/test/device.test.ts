/** The server on a device that is lost, which a stand-in for the native binary has. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fakeCard as card, fakeNativeControl, fakeNativePath } from '@ctkvr/testkit';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type RunningServer, type StartServerOptions, startServer } from '../src/index.js';

process.env.CTKVR_NATIVE_PATH = fakeNativePath;
const control = fakeNativeControl();

let folder = '';
let file = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ctkvr-device-'));
  file = join(folder, 'model.gguf');
  await writeFile(file, 'not read by the stand-in');
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(() => {
  Object.assign(control, { devices: { devices: [card] }, loseAtStep: 0, stepMs: 0, loads: [] });
});

const lines: string[] = [];
const logger = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) });
const start = (more: Partial<StartServerOptions> = {}) =>
  startServer({
    model: file,
    port: 0,
    handleSignals: false,
    isolation: 'none', // the stand-in is told what to do in this process
    logger,
    load: { device: 'cuda', kvDeviceBudgetBytes: 2 ** 26 },
    ...more,
  });

function ask(server: RunningServer, more: object = {}): Promise<Response> {
  const body = { model: server.modelName, messages: [{ role: 'user', content: 'why?' }], max_tokens: 30, ...more };
  return fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

const lost = {
  error: { code: 'device_lost', type: 'server_error', param: null, message: expect.stringContaining('device is lost') },
};

describe('a server on a device', () => {
  it('passes the device and its budget on', async () => {
    await using server = await start();
    expect(control.loads).toMatchObject([{ device: 'cuda:0', kvBudgetBytes: 2 ** 26 }]);
    const answer = await ask(server);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ usage: { completion_tokens: 30 } });
    expect(await (await fetch(`${server.url}/health`)).json()).toMatchObject({ status: 'ok' });
  });

  it('that is lost answers 503 to those that run and those that come, hangs nobody, and says so in health and log', async () => {
    control.stepMs = 2;
    lines.length = 0;
    await using server = await start();
    const long = { max_tokens: 8000 }; // more than it says before the device is lost
    const stream = await ask(server, { ...long, stream: true });
    const wholes = [ask(server, long), ask(server, long)];
    const running = async () => ((await (await fetch(`${server.url}/health`)).json()) as { running: number }).running;
    while ((await running()) < 3) await delay(5);
    control.loseAtStep = 1;
    for (const response of await Promise.all(wholes)) {
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).toBeNull();
      expect(await response.json()).toMatchObject(lost);
    }
    expect(stream.status).toBe(200);
    const frames = (await stream.text()).split('\n\n').filter((frame) => frame.startsWith('data: '));
    expect(JSON.parse(frames.at(-1)!.slice('data: '.length))).toMatchObject(lost);
    for (const more of [{}, { stream: true }]) {
      const later = await ask(server, more);
      expect([later.status, await later.json()]).toMatchObject([503, lost]);
    }
    const health = await fetch(`${server.url}/health`);
    expect([health.status, await health.json()]).toMatchObject([503, { status: 'device_lost', running: 0, queued: 0 }]);
    expect(lines.join()).toMatch(/CTKVR_DEVICE_LOST|device is lost/);
  });

  it('that is lost in a process of its own is there again with the next process', async () => {
    lines.length = 0;
    // Its first steps read the prompt and say some tokens: one request is answered, a long one is not.
    process.env.CTKVR_FAKE_NATIVE = JSON.stringify({ devices: { devices: [card] }, loseAtStep: 100 });
    try {
      await using server = await start({ isolation: 'process' });
      expect((await ask(server)).status).toBe(200);
      const response = await ask(server, { max_tokens: 8000 });
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
      const message = expect.stringMatching(/device is lost.*started again/);
      expect(await response.json()).toMatchObject({ error: { code: 'engine_lost', message } });
      expect((await ask(server)).status).toBe(200);
      expect(lines.filter((line) => line.includes('engine lost'))).toHaveLength(1);
    } finally {
      delete process.env.CTKVR_FAKE_NATIVE;
    }
  }, 120_000);
});
