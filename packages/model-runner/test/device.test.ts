/** Models on devices, which the stand-in for the native binary has: what is chosen, and what a lost device costs. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fakeCard as card, fakeNativeControl, fakeNativePath } from '@ctkvr/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type LoadModelOptions, loadModel, type Session } from '../src/index.js';

process.env.CTKVR_NATIVE_PATH = fakeNativePath;
const control = fakeNativeControl();
const noDriver = control.devices;
const page = 256 * 128; // bytes of one, of the stand-in's model

let folder = '';
let file = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ctkvr-device-'));
  file = join(folder, 'model.gguf');
  await writeFile(file, 'not read by the stand-in');
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(() => {
  Object.assign(control, { devices: { devices: [card] }, refusals: {}, loseAtStep: 0, loads: [] });
});

/** Loads, and returns the warnings that came of it too. */
async function load(options: LoadModelOptions) {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on('warning', onWarning);
  const model = await loadModel(file, { numThreads: 1, ...options });
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', onWarning);
  return { model, warnings };
}

async function drawn(session: Session, maxTokens: number): Promise<string> {
  let text = '';
  for await (const event of session.generate({ maxTokens })) text += event.text;
  return text;
}

describe('the device of a model', () => {
  it('is the CPU unless asked, and the engine is then told of no device', async () => {
    for (const options of [{}, { device: 'cpu' }] as const) {
      const { model, warnings } = await load(options);
      expect([model.device, warnings]).toEqual(['cpu', []]);
      await model.close();
    }
    for (const options of control.loads) expect(options).not.toHaveProperty('device');
  });

  it.each(['auto', 'cuda', 'cuda:0'] as const)(
    '%s: the engine gets its name and the budget of its pages',
    async (device) => {
      const { model, warnings } = await load({ device, kvDeviceBudgetBytes: 4 * page });
      expect([model.device, warnings]).toEqual(['cuda:0', []]);
      expect(control.loads).toMatchObject([{ device: 'cuda:0', kvBudgetBytes: 4 * page }]);
      expect(model.longestContext()).toBe(4 * 256);
      expect(() => model.createSession({ contextLength: 5 * 256 })).toThrowError(/CTKVR_OUT_OF_MEMORY|would fit/);
      await model.close();
    },
  );

  it("without a budget, sessions have nine tenths of what is free on the device, not of this machine's memory", async () => {
    control.devices = { devices: [{ ...card, freeBytes: 4.5 * page }] };
    const { model } = await load({ device: 'cuda' });
    expect(control.loads[0]).not.toHaveProperty('kvBudgetBytes');
    expect(model.longestContext()).toBe(4 * 256);
    await model.close();
    const { model: less } = await load({ device: 'cuda', sessionMemoryBytes: 2 * page });
    expect(less.longestContext()).toBe(2 * 256);
    await less.close();
  });

  it('hybrid layers are in this machine’s memory: the engine is told how many, and the device bounds its own part', async () => {
    for (const [hybridLayers, told] of [
      [3, 3],
      ['all', 0xffff_ffff],
    ] as const) {
      const { model } = await load({ device: 'cuda', hybridLayers, kvDeviceBudgetBytes: 2 * page });
      expect(control.loads.at(-1)).toMatchObject({ device: 'cuda:0', hybridLayers: told, kvBudgetBytes: 2 * page });
      expect(model.longestContext()).toBe(8192);
      await model.close();
    }
    const { model } = await load({ device: 'cuda', hybridLayers: 0 });
    expect(control.loads.at(-1)).not.toHaveProperty('hybridLayers');
    await model.close();
  });

  it('auto says nothing where there is no driver', async () => {
    control.devices = noDriver;
    const { model, warnings } = await load({ device: 'auto', kvDeviceBudgetBytes: page });
    expect([model.device, warnings]).toEqual(['cpu', []]);
    expect(control.loads).toHaveLength(1);
    expect(control.loads[0]).not.toHaveProperty('kvBudgetBytes');
    expect(model.longestContext()).toBe(8192); // a budget of the device's does not bound the CPU's
    await model.close();
  });

  it('auto uses the CPU where the driver has no device of use, with one warning', async () => {
    control.devices = { devices: [], reason: 'the CUDA driver is too old' };
    const { model, warnings } = await load({ device: 'auto' });
    expect(model.device).toBe('cpu');
    expect(warnings).toMatchObject([{ name: 'CtkvrWarning', message: expect.stringContaining('driver is too old') }]);
    await model.close();
  });

  it('auto uses the CPU where the device does not take the model, with one warning', async () => {
    control.refusals = { 'cuda:0': { code: 'CTKVR_OUT_OF_MEMORY', message: '9 bytes are needed, 8 are available' } };
    const { model, warnings } = await load({ device: 'auto' });
    expect(model.device).toBe('cpu');
    expect(warnings).toMatchObject([{ message: expect.stringMatching(/cuda:0 did not take the model: 9 bytes/) }]);
    expect(control.loads.map(({ device = 'cpu' }) => device)).toEqual(['cuda:0', 'cpu']);
    await model.close();
    await expect(load({ device: 'cuda' })).rejects.toMatchObject({ code: 'CTKVR_OUT_OF_MEMORY' });
  });

  it('what is wrong on the CPU too is told as the CPU tells it, without a warning', async () => {
    const refusal = { code: 'CTKVR_NOT_GGUF', message: 'no magic' };
    control.refusals = { 'cuda:0': refusal, cpu: refusal };
    await expect(load({ device: 'auto' })).rejects.toMatchObject({ code: 'CTKVR_NOT_GGUF' });
  });

  it('a device that is not there is told before a model is looked for', async () => {
    control.devices = noDriver;
    await expect(loadModel('no-such-model', { device: 'cuda' })).rejects.toMatchObject({
      code: 'CTKVR_DEVICE_UNAVAILABLE',
      message: expect.stringContaining('libcuda.so.1'),
      fields: { device: 'cuda' },
    });
  });

  it('names that are none are refused with the nearest, and a budget without a device', async () => {
    await expect(load({ device: 'gpu' as 'cuda' })).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      message: expect.stringContaining('did you mean cuda?'),
    });
    for (const options of [{ kvDeviceBudgetBytes: page }, { device: 'cpu', kvDeviceBudgetBytes: page }] as const) {
      await expect(load(options)).rejects.toMatchObject({
        code: 'CTKVR_INVALID_OPTION',
        fields: { option: 'kvDeviceBudgetBytes' },
      });
    }
    for (const options of [
      { hybridLayers: 1 },
      { device: 'cpu', hybridLayers: 'all' },
      { device: 'cuda', hybridLayers: -1 },
    ] as const) {
      await expect(load(options)).rejects.toMatchObject({
        code: 'CTKVR_INVALID_OPTION',
        fields: { option: 'hybridLayers' },
      });
    }
    await expect(load({ device: 'cuda', kvDeviceBudgetBytes: 0.5 })).rejects.toMatchObject({
      fields: { option: 'kvDeviceBudgetBytes' },
    });
    expect(control.loads).toEqual([]);
  });
});

describe('a device that is lost', () => {
  const lost = { code: 'CTKVR_DEVICE_LOST' };

  it('ends what runs and what waits, and every later call, with that code; what was saved goes on elsewhere', async () => {
    const saved = join(folder, 'saved.ctkvr');
    const { model } = await load({ device: 'cuda' });
    const session = model.createSession({ contextLength: 600 });
    await session.prefill('once upon a time');
    await drawn(session, 5);
    await session.save(saved);
    const copy = session.fork();
    const other = model.createSession();
    expect(model.failure).toBeNull();

    control.loseAtStep = (model.native as unknown as { numSteps: number }).numSteps + 3;
    const ends = await Promise.allSettled([drawn(session, 50), drawn(copy, 50), other.prefill('x'.repeat(5000))]);
    for (const end of ends) expect(end).toMatchObject({ status: 'rejected', reason: lost });
    expect(model.failure).toMatchObject(lost);

    await expect(drawn(session, 1)).rejects.toMatchObject(lost);
    await expect(other.prefill('again')).rejects.toMatchObject(lost);
    await expect(session.save(join(folder, 'other.ctkvr'))).rejects.toMatchObject(lost);
    await expect(session.buildIndex()).rejects.toMatchObject(lost);
    await expect(model.restoreSession(saved)).rejects.toMatchObject(lost);
    await expect(model.admitSession({ promptLength: 10 })).rejects.toMatchObject(lost);
    expect(() => model.createSession()).toThrowError(expect.objectContaining(lost));
    expect(() => session.fork()).toThrowError(expect.objectContaining(lost));
    await expect(model.readDocument('text')).rejects.toMatchObject(lost);
    expect(model.detokenize(await model.tokenize('words'))).toBe('words');
    await model.close();
    expect(() => model.createSession()).toThrowError(expect.objectContaining({ code: 'CTKVR_CLOSED' }));

    for (const device of ['cuda', 'cpu'] as const) {
      control.loseAtStep = 0;
      const { model: next } = await load({ device });
      const restored = await next.restoreSession(saved);
      expect(restored.length).toBe('once upon a time'.length + 5);
      expect(await drawn(restored, 5)).toHaveLength(5);
      await next.close();
    }
  });

  it('ends those who wait for memory, though who holds it does not close', async () => {
    const { model } = await load({ device: 'cuda', kvDeviceBudgetBytes: 3 * page });
    const holder = await model.admitSession({ contextLength: 700, promptLength: 600 });
    await holder.prefill('x'.repeat(600));
    const waits = [1, 2].map(() => model.admitSession({ contextLength: 700, promptLength: 600 }));
    control.loseAtStep = (model.native as unknown as { numSteps: number }).numSteps + 1;
    await expect(drawn(holder, 5)).rejects.toMatchObject(lost);
    for (const wait of waits) await expect(wait).rejects.toMatchObject(lost);
    await model.close();
  });
});
