import { CtkvrError } from '@ctkvr/core';
import { expect, it } from 'vitest';
import { loadModel } from '../src/index.js';
import { capital, describeWithModel, prose, textOf } from './test-model.js';

const code = (expected: string) => expect.objectContaining({ code: expected });

describeWithModel('limits, cancellation and closing', (model) => {
  it('refuses a prompt beyond the context before any work, with the numbers', async () => {
    await using session = model().createSession({ contextLength: 32 });
    await expect(session.prefill(Int32Array.from({ length: 33 }, () => 100))).rejects.toMatchObject({
      code: 'CTKVR_CONTEXT_EXCEEDED',
      fields: { contextLength: 32, length: 0, added: 33, needed: 33 },
    });
    expect(session.length).toBe(0);
    expect(session.memory.kvBytes).toBe(0);
    await session.prefill(Int32Array.from({ length: 30 }, () => 100));
    await expect(textOf(session, { maxTokens: 3 })).rejects.toMatchObject({
      code: 'CTKVR_CONTEXT_EXCEEDED',
      fields: { length: 30, maxNew: 3, needed: 33 },
    });
    await textOf(session, { ignoreEndOfTurn: true });
    expect(session.lastFinish).toMatchObject({ reason: 'length', numTokens: 2 });
    await expect(textOf(session)).rejects.toMatchObject({ code: 'CTKVR_CONTEXT_EXCEEDED' });
  });

  it('an aborted prefill leaves the session as it was', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    const before = session.tokens;
    const controller = new AbortController();
    const aborted = session.prefill(prose(2000), {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('enough')),
    });
    await expect(aborted).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    expect(session.tokens).toEqual(before);
    expect(session.native.length).toBe(before.length - 1);
    expect(await textOf(session, { maxTokens: 40 })).toContain('Paris');
  });

  it('an aborted generation throws, tells, and keeps what was generated', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    await using twin = session.fork();
    const whole = await textOf(twin, { maxTokens: 6 });
    const controller = new AbortController();
    let text = '';
    const run = async () => {
      for await (const event of session.generate({ maxTokens: 6, signal: controller.signal })) {
        text += event.text;
        if (text.split(' ').length > 2) controller.abort();
      }
    };
    await expect(run()).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    const { numTokens, reason } = session.lastFinish ?? expect.fail('there is a finish');
    expect(reason).toBe('aborted');
    expect(text + (await textOf(session, { maxTokens: 6 - numTokens }))).toBe(whole);
    await expect(textOf(session, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
  });

  it('an abort of one session leaves the others alone', async () => {
    await using kept = model().createSession();
    await using dropped = model().createSession();
    await kept.prefill(capital);
    await dropped.prefill(capital);
    const controller = new AbortController();
    const failing = textOf(dropped, { maxTokens: 40, ignoreEndOfTurn: true, signal: controller.signal });
    const settled = expect(failing).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    let text = '';
    for await (const event of kept.generate({ maxTokens: 40 })) {
      text += event.text;
      controller.abort();
    }
    await settled;
    expect(text).toContain('Paris');
  });

  it('refuses a second call while one runs, and any call after close', async () => {
    const session = model().createSession();
    const first = session.prefill(capital);
    await expect(session.prefill(capital)).rejects.toThrowError(code('CTKVR_BUSY'));
    expect(() => session.truncate(0)).toThrowError(code('CTKVR_BUSY'));
    await first;
    await session.close();
    await session.close();
    await expect(session.prefill(capital)).rejects.toThrowError(code('CTKVR_CLOSED'));
    await expect(textOf(session)).rejects.toThrowError(code('CTKVR_CLOSED'));
    expect(() => session.fork()).toThrowError(code('CTKVR_CLOSED'));
    expect(() => session.memory).toThrowError(code('CTKVR_CLOSED'));
  });

  it('closing a session ends what runs in it', async () => {
    const session = model().createSession();
    const running = session.prefill(prose(3000));
    const settled = expect(running).rejects.toThrowError(code('CTKVR_CLOSED'));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await session.close();
    await settled;
  });

  it('names what is wrong with a prompt or an option', async () => {
    await using session = model().createSession();
    await expect(session.prefill('')).rejects.toThrowError(code('CTKVR_INVALID_OPTION'));
    await expect(session.prefill([])).rejects.toThrowError(code('CTKVR_INVALID_OPTION'));
    await expect(session.prefill([model().info.vocabSize])).rejects.toThrowError(/token 0 of the prompt/);
    await expect(textOf(session)).rejects.toThrowError(/prefill a prompt/);
    await session.prefill(capital);
    await expect(textOf(session, { maxTokens: 0 })).rejects.toThrowError(/maxTokens/);
    await expect(textOf(session, { stop: '' })).rejects.toThrowError(/stop/);
    await expect(textOf(session, { sampling: { temperature: -1 } })).rejects.toThrowError(/temperature/);
    expect(() => model().createSession({ contextLength: 1e9 })).toThrowError(code('CTKVR_INVALID_OPTION'));
    expect(() => model().createSession({ selector: { numProbes: 0 } })).toThrowError(/numProbes/);
    expect(() => session.truncate(session.length + 1)).toThrowError(code('CTKVR_INVALID_OPTION'));
  });

  it('closing the model closes its sessions, also one in the middle of a prefill', async () => {
    const own = await loadModel(model().info.path, { numThreads: 1 });
    const [running, idle] = [own.createSession(), own.createSession()];
    const settled = expect(running.prefill(prose(3000))).rejects.toThrowError(code('CTKVR_CLOSED'));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await own.close();
    await own.close();
    await settled;
    expect(() => idle.fork()).toThrowError(code('CTKVR_CLOSED'));
    expect(() => own.createSession()).toThrowError(code('CTKVR_CLOSED'));
    await expect(own.tokenize('x')).rejects.toThrowError(code('CTKVR_CLOSED'));
  });

  it('closing the model while it tokenizes lets that end', async () => {
    const own = await loadModel(model().info.path, { numThreads: 1 });
    const tokens = own.tokenize(prose(3000));
    await own.close();
    expect((await tokens).length).toBeGreaterThan(1000);
  });

  it('refuses a context that memory cannot hold before allocating', async () => {
    const own = await loadModel(model().info.path, { contextLength: 2 ** 30, ropeFreqScale: 0.5 });
    try {
      own.createSession();
      expect.fail('a context of 2^30 tokens fits in no memory');
    } catch (error) {
      if (!CtkvrError.isInstance(error)) throw error;
      expect(error.code).toBe('CTKVR_OUT_OF_MEMORY');
      expect(Number(error.fields.neededBytes)).toBeGreaterThan(2 ** 30 * own.info.kvBytesPerToken - 1);
      expect(Number(error.fields.fittingContextLength)).toBeLessThan(2 ** 30);
    } finally {
      await own.close();
    }
  });
});
