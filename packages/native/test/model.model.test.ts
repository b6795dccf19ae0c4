/** The binary on a real model: what may happen while a step runs, and what is refused. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { resolveSelectorOptions } from '@ctkvr/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { NativeModel, NativeSequence } from '../src/index.js';
import {
  binding,
  entry,
  full,
  ids,
  loadTestModel,
  logitsAfter,
  modelPath,
  noBinding,
  noModel,
  sequenceWith,
} from './test-binding.js';

const code = (expected: string) => expect.objectContaining({ code: expected });

describe.skipIf(noBinding !== '' || noModel !== '')(`native model${noModel}${noBinding}`, { timeout: 180_000 }, () => {
  let model: NativeModel;
  beforeAll(async () => {
    model = await loadTestModel();
  });
  afterAll(async () => {
    await model.close();
  });

  it('describes build, machine and model', async () => {
    const build = binding().buildInfo();
    expect(build.availableIsas).toContain('scalar');
    expect(build.availableIsas).toContain(build.isa);
    expect(build.numUsableThreads).toBeGreaterThan(0);
    expect(build.availableMemoryBytes).toBeGreaterThan(2 ** 20);
    const memory = binding().processMemory();
    expect(memory.peakRssBytes).toBeGreaterThanOrEqual(memory.rssBytes);
    const info = await binding().inspectModel(modelPath);
    expect(info).toEqual(model.info);
    expect(info.kvBytesPerToken).toBe(info.numLayers * info.numKvHeads * info.headDim * 4);
    expect(info.unsupportedReason).toBeNull();
    expect(info.localLayers).toBeNull();
  });

  it('reports progress of a load from 0 to 1, rising', async () => {
    const fractions: number[] = [];
    const second = await binding().loadModel(modelPath, { numThreads: 1 }, (fraction) => fractions.push(fraction));
    await second.close();
    expect(fractions.at(-1)).toBe(1);
    expect([...fractions].sort((a, b) => a - b)).toEqual(fractions);
  });

  it('refuses a second step while one runs; cancel() ends it and leaves the sequence as before', async () => {
    const sequence = await sequenceWith(model, ids(3));
    const running = model.step([entry(sequence, ids(1500))], {});
    await expect(model.step([entry(sequence, [5])], {})).rejects.toThrowError(code('CTKVR_BUSY'));
    await expect(sequence.buildIndex()).rejects.toThrowError(code('CTKVR_BUSY'));
    for (const change of [() => sequence.fork(), () => sequence.truncate(0), () => sequence.setSelector(full)]) {
      expect(change).toThrowError(code('CTKVR_BUSY'));
    }
    model.cancel();
    await expect(running).rejects.toThrowError(code('CTKVR_ABORTED'));
    expect(sequence.length).toBe(3);
    model.cancel(); // nothing runs: nothing happens
    await model.step([entry(sequence, [5])], {});
    expect(sequence.length).toBe(4);
    sequence.close();
  });

  it('puts off changes of other sequences while a step runs, in order, and reads as if they were made', async () => {
    const [busy, other] = [await sequenceWith(model, []), await sequenceWith(model, ids(40))];
    const reference = await logitsAfter(model, other.fork(), 7);
    const running = model.step([entry(busy, ids(600))], {});
    const fork = other.fork();
    const nested = fork.fork();
    other.truncate(10);
    nested.truncate(30);
    fork.setSampler({ ...greedy, seed: 3 });
    fork.setSelector(resolveSelectorOptions({ method: 'streaming' }));
    fork.setSelector(full);
    expect([other.length, fork.length, nested.length]).toEqual([10, 40, 30]);
    expect(fork.memory.kvBytes).toBeGreaterThan(0);
    expect(() => other.truncate(11)).toThrowError(code('CTKVR_INVALID_OPTION'));
    other.close(); // its forks live on
    await running;
    expect([fork.length, nested.length, busy.length]).toEqual([40, 30, 600]);
    expect(await logitsAfter(model, fork, 7)).toEqual(reference);
    await model.step([entry(nested, ids(40).slice(30))], {});
    expect(argmax(await logitsAfter(model, nested, 7))).toBe(argmax(reference));
    for (const sequence of [busy, fork, nested]) sequence.close();
  });

  it('counts pages once and keeps to a budget of bytes', async () => {
    const { numLayers, numKvHeads, headDim } = model.info;
    const page = numLayers * numKvHeads * 256 * 2 * headDim * 2;
    for (const kvBudgetBytes of [-1, 0.5, Number.NaN]) {
      await expect(binding().loadModel(modelPath, { numThreads: 1, kvBudgetBytes })).rejects.toThrowError(
        code('CTKVR_INVALID_OPTION'),
      );
    }
    const small = await binding().loadModel(modelPath, { numThreads: 1, kvBudgetBytes: 2 * page });
    expect(small.kvUsage()).toEqual({ pages: 0, bytes: 0, sharedPages: 0, budgetBytes: 2 * page });
    const sequence = await sequenceWith(small, ids(3));
    const fork = sequence.fork();
    expect(small.kvUsage()).toEqual({ pages: 1, bytes: page, sharedPages: 1, budgetBytes: 2 * page });
    expect(fork.memory.kvBytes).toBe(page);
    await expect(small.step([entry(sequence, ids(600))], {})).rejects.toThrowError(code('CTKVR_OUT_OF_MEMORY'));
    expect([sequence.length, small.kvUsage().sharedPages]).toEqual([3, 1]);
    expect(await logitsAfter(small, fork, 7)).toEqual(await logitsAfter(small, sequence, 7));
    for (const open of [sequence, fork]) open.close();
    expect(small.kvUsage().pages).toBe(0);
    await small.close();
    expect(() => small.kvUsage()).toThrowError(code('CTKVR_CLOSED'));
    expect(model.kvUsage().budgetBytes).toBeNull();
  });

  it('builds an index part by part, with steps of others in between', async () => {
    const other = await sequenceWith(model, ids(3));
    const selector = resolveSelectorOptions({ denseBelow: 0 });
    const [whole, parts] = [600, 600].map((maxTokens) => model.createSequence({ maxTokens, selector }));
    for (const sequence of [whole!, parts!]) await model.step([entry(sequence, ids(500))], {});
    await whole!.buildIndex();
    let left = Number.POSITIVE_INFINITY;
    while (left > 0) {
      expect(parts!.indexedRange).toEqual({ start: 0, end: 0 });
      const { headsLeft } = await parts!.buildIndex(0);
      expect(headsLeft).toBeLessThan(left);
      left = headsLeft;
      await model.step([entry(other, [5])], {});
    }
    expect(parts!.indexedRange).toEqual(whole!.indexedRange);
    expect(await logitsAfter(model, parts!, 7)).toEqual(await logitsAfter(model, whole!, 7));
    for (const sequence of [other, whole!, parts!]) sequence.close();
  });

  it('a prompt in pieces of one token gives the same bits as at one go, and has no counters', async () => {
    const selector = resolveSelectorOptions({ denseBelow: 0 });
    const [whole, pieces] = [200, 200].map((maxTokens) => model.createSequence({ maxTokens, selector }));
    const prompt = Int32Array.from(ids(60));
    const prefill = (sequence: NativeSequence, tokens: Int32Array) =>
      model.step([{ sequence, tokens, phase: 'prefill', output: 'logits' }], {});
    const [expected] = (await prefill(whole!, prompt)).sequences;
    let last = expected;
    for (let i = 0; i < prompt.length; i++) [last] = (await prefill(pieces!, prompt.subarray(i, i + 1))).sequences;
    expect(last).toEqual(expected);
    expect(last!.counters).toBeNull();
    expect(await logitsAfter(model, pieces!, 7)).toEqual(await logitsAfter(model, whole!, 7));
    for (const sequence of [whole!, pieces!]) sequence.close();
  });

  it('refuses a decode of several tokens, and a phase that it does not know', async () => {
    const sequence = await sequenceWith(model, ids(3));
    const two = { sequence, tokens: Int32Array.of(1, 2), output: 'none' as const };
    await expect(model.step([{ ...two, phase: 'decode' }], {})).rejects.toThrowError(code('CTKVR_INVALID_OPTION'));
    await expect(model.step([{ ...two, phase: 'draft' as 'decode' }], {})).rejects.toThrowError(/prefill or decode/);
    expect(sequence.length).toBe(3);
    sequence.close();
  });

  it('creates, uses and closes sequences while a step runs', async () => {
    const busy = await sequenceWith(model, []);
    const running = model.step([entry(busy, ids(400))], {});
    const created = model.createSequence({ maxTokens: 100, selector: full });
    created.close();
    busy.close();
    expect(() => created.length).toThrowError(code('CTKVR_CLOSED'));
    await running;
    expect(() => busy.length).toThrowError(code('CTKVR_CLOSED'));
    await expect(model.step([entry(busy, [1])], {})).rejects.toThrowError(code('CTKVR_CLOSED'));
  });

  it('refuses plans that cannot be run, each with its reason', async () => {
    const [a, foreignModel] = [await sequenceWith(model, []), await loadTestModel()];
    const foreign = foreignModel.createSequence({ maxTokens: 8, selector: full });
    const tiny = model.createSequence({ maxTokens: 4, selector: full });
    const refused: [plan: Parameters<NativeModel['step']>[0], code: string][] = [
      [[], 'CTKVR_INVALID_OPTION'],
      [[entry(a, [])], 'CTKVR_INVALID_OPTION'],
      [[entry(a, [model.info.vocabSize])], 'CTKVR_INVALID_OPTION'],
      [[entry(a, [-1])], 'CTKVR_INVALID_OPTION'],
      [[entry(a, [1]), entry(a, [2])], 'CTKVR_INVALID_OPTION'],
      [[entry(foreign, [1])], 'CTKVR_INVALID_OPTION'],
      [[entry(tiny, ids(5))], 'CTKVR_CONTEXT_EXCEEDED'],
      [[{ ...entry(a, [1]), output: 'everything' as 'none' }], 'CTKVR_INVALID_OPTION'],
      [[{ ...entry(a, [1]), sequence: {} as never }], 'CTKVR_INVALID_OPTION'],
    ];
    for (const [plan, expected] of refused) await expect(model.step(plan, {})).rejects.toThrowError(code(expected));
    expect(a.length).toBe(0);
    expect(() => model.tokenBytes(-1, false)).toThrowError(code('CTKVR_INVALID_OPTION'));
    expect(() => model.createSequence({ maxTokens: 0, selector: full })).toThrowError(code('CTKVR_INVALID_OPTION'));
    const unknownFormat = { maxTokens: 8, kvFormat: 'q4' as 'q8', selector: full };
    expect(() => model.createSequence(unknownFormat)).toThrowError(/kvFormat must be f16 or q8/);
    await foreignModel.close();
    expect(() => foreign.length).toThrowError(code('CTKVR_CLOSED'));
  });

  it('close() waits for the running step, is idempotent, and everything after it is refused', async () => {
    const own = await loadTestModel();
    const sequence = await sequenceWith(own, ids(2));
    const order: string[] = [];
    const step = own.step([entry(sequence, ids(200))], {}).then(() => order.push('step'));
    const closed = [own.close(), own.close()].map((promise) => promise.then(() => order.push('closed')));
    await Promise.all([step, ...closed]);
    expect(order).toEqual(['step', 'closed', 'closed']);
    await expect(own.step([entry(sequence, [1])], {})).rejects.toThrowError(code('CTKVR_CLOSED'));
    expect(() => own.createSequence({ maxTokens: 8, selector: full })).toThrowError(code('CTKVR_CLOSED'));
    expect(() => own.tokenBytes(1, false)).toThrowError(code('CTKVR_CLOSED'));
    expect(own.info.architecture).toBe(model.info.architecture); // what it was can still be read
    sequence.close();
  });

  it.each([
    ['no such file', '/no/such/model.gguf', 'CTKVR_FILE_NOT_FOUND'],
    ['a text file', fileURLToPath(import.meta.url), 'CTKVR_NOT_GGUF'],
    ['a folder', fileURLToPath(new URL('.', import.meta.url)), 'CTKVR_FILE_UNREADABLE'],
  ])('names what is wrong with %s', async (_name, path, expected) => {
    await expect(binding().inspectModel(path)).rejects.toThrowError(code(expected));
    await expect(binding().loadModel(path, { numThreads: 1 })).rejects.toThrowError(code(expected));
  });

  it('refuses kernels this machine does not have', async () => {
    const options = { numThreads: 1, isa: 'imaginary' };
    await expect(binding().loadModel(modelPath, options)).rejects.toThrowError(code('CTKVR_INVALID_OPTION'));
  });

  it('lets a process exit in the middle of a step', async () => {
    const script = fileURLToPath(new URL('./exit-in-step.ts', import.meta.url));
    const args = ['--import', import.meta.resolve('tsx'), '--conditions=@ctkvr/source', script];
    const result = await promisify(execFile)(process.execPath, args).catch((error) => error);
    expect(result).toMatchObject({ code: 130, signal: null, stderr: '' });
    expect(result.stdout).toBe('step runs\n');
  });
});

const greedy = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repeatPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  typicalP: 1,
  penaltyWindow: 64,
  answerStart: 0,
  seed: 0,
};

function argmax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > (values[best] ?? 0) ? i : best), 0);
}
