import { describe, expect, it } from 'vitest';
import { listen, startServer } from '../src/index.js';

describe('options of the server', () => {
  it('names that do not exist are refused with the nearest, before a model is loaded', async () => {
    const start = (more: object) => startServer({ model: 'no-such-model', ...more });
    for (const [given, nearest] of [
      ['maxrunning', 'maxRunning'],
      ['context', 'contextLength'],
      ['threads', 'load.numThreads'],
      ['preset', 'selector.preset'],
    ]) {
      await expect(start({ [given!]: 1 })).rejects.toMatchObject({
        code: 'CTKVR_INVALID_OPTION',
        fields: { option: given, nearest },
      });
    }
    for (const wrong of [{ port: '80' }, { port: 70_000 }, { maxRunning: Number.NaN }, { maxQueued: -1 }]) {
      const option = Object.keys(wrong)[0];
      await expect(start(wrong)).rejects.toMatchObject({ code: 'CTKVR_INVALID_OPTION', fields: { option } });
    }
    for (const [given, said] of [
      [{ models: ['a'] }, /either 'model' or 'models'/],
      [{ model: undefined }, /either 'model' or 'models'/],
      [{ model: undefined, models: [] }, /must name a model/],
      [{ model: undefined, models: [3] }, /models\[0\]/],
      [{ model: undefined, models: ['x/a.gguf', 'y/a.gguf'] }, /two models have the name 'a'/],
      [{ model: undefined, models: ['a'], modelName: 'b' }, /modelName/],
      [{ model: undefined, models: ['a', 'b'], isolation: 'none' }, /several models need isolation 'process'/],
      [{ isolation: 'none', unloadAfterMs: 5 }, /unloadAfterMs: it needs isolation 'process'/],
      [{ isolation: 'none', engineTimeoutMs: 5 }, /engineTimeoutMs: it needs isolation 'process'/],
      [{ model: { info: { path: 'a.gguf' } }, isolation: 'process' }, /a loaded model runs in this process/],
      [{ isolation: 'thread' }, /one of process, none/],
    ] as const) {
      await expect(start(given)).rejects.toMatchObject({
        code: 'CTKVR_INVALID_OPTION',
        message: expect.stringMatching(said),
      });
    }
    await expect(listen({} as never, { ports: 0 } as never)).rejects.toMatchObject({ fields: { nearest: 'port' } });
  });
});
