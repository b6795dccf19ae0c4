/** Real processes that die, and are started again. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { RestartPolicy } from '../src/isolation/restart-policy.js';
import { SupervisedProcess } from '../src/isolation/supervised-process.js';
import type { RemoteCaller } from '../src/remote/remote-caller.js';
import { isAlive } from './server-process.js';
import { until } from './until.js';

const entry = fileURLToPath(new URL('./answering-process.mjs', import.meta.url));
const open: SupervisedProcess<Ready>[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.stop()));
});

interface Ready {
  readonly pid: number;
  readonly call: (method: string) => Promise<unknown>;
}

/** @param env of each process, as many as are started. */
function start(env: (start: number) => object = () => ({}), silenceMs = 0) {
  const log: Record<string, unknown>[] = [];
  let numStarts = 0;
  let numEnded = 0;
  const supervised = new SupervisedProcess<Ready>({
    name: 'm',
    spawn: () => {
      numStarts += 1;
      return fork(entry, [], {
        execArgv: [],
        env: { ...process.env, ...env(numStarts) },
        serialization: 'advanced',
        stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      });
    },
    begin: async (caller: RemoteCaller) => {
      const call = (method: string) => caller.call({ service: 'any', method }, []);
      return { pid: (await call('pid')) as number, call };
    },
    end: async () => {
      numEnded += 1;
    },
    silenceMs,
    limits: { delaysMs: [0, 1, 1], settledMs: 60_000 },
    logger: pino({ level: 'info' }, { write: (line: string) => void log.push(JSON.parse(line)) }),
  });
  open.push(supervised);
  return { supervised, log, numStarts: () => numStarts, numEnded: () => numEnded };
}

describe('a supervised process', () => {
  test('that is killed fails what it was doing with a typed error, and is there again for who waits', async () => {
    const { supervised, log } = start();
    const first = await supervised.ready();
    const waiting = first.call('hang');
    process.kill(first.pid, 'SIGKILL');
    await expect(waiting).rejects.toMatchObject({ code: 'CTKVR_ENGINE_LOST', fields: { model: 'm' } });
    await expect(waiting).rejects.toThrow(/SIGKILL/);
    await expect(first.call('pid')).rejects.toMatchObject({ code: 'CTKVR_ENGINE_LOST' });
    const second = await supervised.ready();
    expect(await second.call('pid')).toBe(second.pid);
    expect(second.pid).not.toBe(first.pid);
    expect(supervised.state).toBe('ready');
    expect(log.map(({ msg }) => msg)).toEqual(['engine ready', 'engine lost', 'engine ready']);
  });

  test.each(['is stopped', 'never comes back from a call'])(
    'that %s is found out, killed and there again',
    async (how) => {
      const { supervised, log } = start(undefined, 1000);
      const first = await supervised.ready();
      const waiting = first.call(how === 'is stopped' ? 'hang' : 'spin');
      if (how === 'is stopped') process.kill(first.pid, 'SIGSTOP');
      await expect(waiting).rejects.toMatchObject({
        code: 'CTKVR_ENGINE_LOST',
        fields: { model: 'm', why: 'it hung: no answer for 1 s' },
      });
      const second = await supervised.ready();
      expect([second.pid === first.pid, isAlive(first.pid), supervised.state]).toEqual([false, false, 'ready']);
      expect(log.find(({ msg }) => msg === 'engine lost')).toMatchObject({ why: 'it hung: no answer for 1 s' });
    },
  );

  test('that ends by itself is told with its exit status', async () => {
    const { supervised } = start();
    await expect((await supervised.ready()).call('die')).rejects.toThrow(/exit status 7/);
  });

  test('is started again at the word of its owner, for the reason that it gives', async () => {
    const { supervised } = start();
    const first = await supervised.ready();
    const waiting = first.call('hang');
    supervised.restart('its device is lost');
    supervised.restart('its device is lost'); // each of those who saw it says so
    await expect(waiting).rejects.toThrow(/its device is lost/);
    expect((await supervised.ready()).pid).not.toBe(first.pid);
  });

  test('that dies at once again and again is given up, with the reason', async () => {
    const { supervised, numStarts, log } = start((start) => (start > 1 ? { DIES_AT_ONCE: '1' } : {}));
    const first = await supervised.ready();
    process.kill(first.pid, 'SIGKILL');
    await until(() => supervised.state !== 'ready');
    await expect(supervised.ready()).rejects.toMatchObject({
      code: 'CTKVR_ENGINE_FAILED',
      message: expect.stringContaining('exit status 9'),
    });
    expect([supervised.state, numStarts()]).toEqual(['failed', 4]);
    expect(log.at(-1)).toMatchObject({ msg: 'engine lost', restartInMs: null });
  });

  test('whose first start fails is not tried again', async () => {
    const { supervised, numStarts } = start(() => ({ DIES_AT_ONCE: '1' }));
    await expect(supervised.ready()).rejects.toMatchObject({ code: 'CTKVR_ENGINE_LOST' });
    expect([supervised.state, numStarts()]).toEqual(['stopped', 1]);
  });

  test('is stopped in order, once, and nobody waits for it any more', async () => {
    const { supervised, numEnded } = start();
    const { pid } = await supervised.ready();
    await supervised.stop();
    await supervised.stop();
    expect(numEnded()).toBe(1);
    expect(isAlive(pid)).toBe(false);
    const restarting = start();
    process.kill((await restarting.supervised.ready()).pid, 'SIGKILL');
    await until(() => restarting.supervised.state !== 'ready');
    await restarting.supervised.stop();
    await expect(restarting.supervised.ready()).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
  });

  test('is waited for as long as the one who waits wants', async () => {
    const { supervised } = start();
    await expect(supervised.ready(AbortSignal.abort(new Error('left')))).rejects.toThrow('left');
  });
});

test('restarts wait longer and longer, and a process that ran long is like new', () => {
  const policy = new RestartPolicy({ delaysMs: [0, 10, 100], settledMs: 1000 });
  expect([0, 500, 999, 0].map((readyMs) => policy.died(readyMs))).toEqual([0, 10, 100, null]);
  expect(policy.quickDeaths).toBe(4);
  expect([1000, 0, 5000, 0].map((readyMs) => policy.died(readyMs))).toEqual([0, 10, 0, 10]);
});
