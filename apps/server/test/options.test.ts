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
    await expect(listen({} as never, { ports: 0 } as never)).rejects.toMatchObject({ fields: { nearest: 'port' } });
  });
});
