import { expect, it } from 'vitest';
import { describeWithModel } from './test-model.js';

describeWithModel('options of a loaded model', (model) => {
  const refused = (option: string, nearest?: string) =>
    expect.objectContaining({
      code: 'CTKVR_INVALID_OPTION',
      fields: expect.objectContaining({ option, ...(nearest === undefined ? {} : { nearest }) }),
    });

  it('a message without its list, and other things that are no prompt, are refused', async () => {
    await using session = model().createSession();
    const one = { role: 'user', content: 'Hi' };
    for (const wrong of [one, null, undefined, 3, true, { length: 1.5 }]) {
      await expect(session.prefill(wrong as never)).rejects.toThrowError(refused('prompt'));
    }
    await expect(session.prefill([one, 'Hi'] as never)).rejects.toThrowError(refused('messages'));
    await expect(session.prefill([1, 'Hi'] as never)).rejects.toThrowError(refused('tokens'));
    expect(session.length).toBe(0);
    await expect(model().applyChatTemplate(one as never)).rejects.toThrowError(refused('prompt'));
  });

  it('names that do not exist are refused with the nearest', async () => {
    expect(() => model().createSession({ contextSize: 99 } as never)).toThrowError(refused('contextSize'));
    expect(() => model().createSession({ preset: 'paper' } as never)).toThrowError(
      refused('preset', 'selector.preset'),
    );
    expect(() => model().createSession({ selector: { numProbe: 1 } as never })).toThrowError(
      refused('numProbe', 'numProbes'),
    );
    await expect(model().admitSession({ promptSize: 3 } as never)).rejects.toThrowError(refused('promptSize'));
    await expect(model().admitSession({} as never)).rejects.toThrowError(refused('promptLength'));
    expect(() => model().longestContext({ contextLength: 9 } as never)).toThrowError(refused('contextLength'));
    await using session = model().createSession();
    await expect(session.prefill('Hi', { onprogress: () => {} } as never)).rejects.toThrowError(
      refused('onprogress', 'onProgress'),
    );
    await session.prefill('Hi');
    const generate = (options: object) => session.generate(options).next();
    await expect(generate({ temperature: 0 })).rejects.toThrowError(refused('temperature', 'sampling.temperature'));
    await expect(generate({ max_tokens: 3 })).rejects.toThrowError(refused('max_tokens', 'maxTokens'));
    await expect(generate({ maxTokens: Number.NaN })).rejects.toThrowError(refused('maxTokens'));
    await expect(generate({ maxTokens: '3' })).rejects.toThrowError(refused('maxTokens'));
    await expect(generate({ sampling: { temprature: 1 } })).rejects.toThrowError(refused('temprature', 'temperature'));
    await expect(generate({ stop: 3 })).rejects.toThrowError(refused('stop'));
    await expect(session.force([1], { numToken: 1 } as never).next()).rejects.toThrowError(refused('numToken'));
    await expect(session.buildIndex({ sign: 1 } as never)).rejects.toThrowError(refused('sign'));
    await expect(model().tokenize('Hi', { special: true } as never)).rejects.toThrowError(refused('special'));
    await expect(model().tokenize(3 as never)).rejects.toThrowError(refused('text'));
    expect(() => model().detokenize([1], { parseSpecial: true } as never)).toThrowError(refused('parseSpecial'));
  });

  it('penalties of frequency and presence do not count the prompt', async () => {
    await using session = model().createSession();
    await session.prefill('Hello\n'.repeat(20));
    const first = async (sampling: object) => {
      await using fork = session.fork();
      for await (const { tokenId } of fork.generate({ maxTokens: 1, sampling: { temperature: 0, ...sampling } })) {
        return tokenId;
      }
      return null;
    };
    const plain = await first({});
    expect(model().detokenize([plain!])).toBe('Hello');
    expect(await first({ frequencyPenalty: 2 })).toBe(plain);
    expect(await first({ presencePenalty: 2 })).toBe(plain);
    expect(await first({ repeatPenalty: 50 })).not.toBe(plain);
    expect(await first({ repeatPenalty: 50, penaltyWindow: 0 })).toBe(plain);
  });

  it('an abort has the name that the platform gives it', async () => {
    await using session = model().createSession();
    const aborted = session.prefill('Hi', { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError', code: 'CTKVR_ABORTED' });
  });
});
