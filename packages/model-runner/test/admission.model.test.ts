/** Sessions that wait for memory: what they are answered is what they are answered alone, however often they were computed again. */
import { expect, it } from 'vitest';
import { estimateMemory, loadModel, type Model, type SelectorChoice, type Session, selectorFor } from '../src/index.js';
import { describeWithModel, prose, textOf } from './test-model.js';

const contextLength = 1000;
const grows: SelectorChoice = {
  numSinkTokens: 4,
  recentWindow: 32,
  denseBelow: 0,
  maxSelected: 48,
  appendSize: 8,
  numCentroids: 32,
};
const full: SelectorChoice = { method: 'full' };

/** Bytes of a session of so many stored tokens. */
function bytesOf(model: Model, selector: SelectorChoice, numTokens: number): number {
  const question = { info: model.info, contextLength, numTokens, selector: selectorFor(model.info, selector) };
  const { kvBytes, indexBytes } = estimateMemory(question);
  return kvBytes + indexBytes;
}

interface Asked {
  readonly selector: SelectorChoice;
  readonly numPrompt: number;
  readonly numAnswer: number;
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function prompt(model: Model, { numPrompt }: Asked): Promise<Int32Array> {
  return (await model.tokenize(prose(2 * numPrompt))).subarray(0, numPrompt);
}

async function answer(session: Session, tokens: Int32Array, { numAnswer }: Asked, onToken = async () => {}) {
  await session.prefill(tokens);
  const [drawn, distributions]: [number[], Float32Array[]] = [[], []];
  const sampling = { temperature: 0.9, seed: 5, repeatPenalty: 1.1 };
  for await (const event of session.generate({
    maxTokens: numAnswer,
    logits: true,
    ignoreEndOfTurn: true,
    sampling,
  })) {
    drawn.push(event.tokenId);
    distributions.push(event.logits!);
    await onToken();
  }
  return { drawn, distributions };
}

describeWithModel('sessions that wait for memory', (model) => {
  it('the newest is preempted for the oldest, and both are told the same bits as alone', async () => {
    // The first goes from 2 pages to 3 while the second holds 2 and memory has 4.
    const [first, second]: [Asked, Asked] = [
      { selector: full, numPrompt: 508, numAnswer: 12 },
      { selector: grows, numPrompt: 250, numAnswer: 60 },
    ];
    const alone = [];
    for (const asked of [first, second]) {
      await using session = model().createSession({ contextLength, selector: asked.selector });
      alone.push(await answer(session, await prompt(model(), asked), asked));
    }
    const sessionMemoryBytes = bytesOf(model(), full, 512) + bytesOf(model(), grows, 512);
    await using small = await loadModel(model().info.path, { numThreads: 1, sessionMemoryBytes });
    const admit = (asked: Asked) =>
      small.admitSession({ contextLength, selector: asked.selector, promptLength: asked.numPrompt });
    const sessions = [await admit(first), await admit(second)] as const;
    const lengths: number[] = [];
    const watch = async () => {
      // The first goes on when the second has its second page.
      if (lengths.length === 0) await until(() => sessions[1].native.length > 256);
      lengths.push(sessions[1].native.length);
    };
    const together = await Promise.all([
      answer(sessions[0], await prompt(small, first), first, watch).finally(() => sessions[0].close()),
      answer(sessions[1], await prompt(small, second), second).finally(() => sessions[1].close()),
    ]);
    expect(lengths.some((length, i) => length < (lengths[i - 1] ?? 0))).toBe(true); // it was preempted
    for (const [i, { drawn, distributions }] of together.entries()) {
      expect(drawn).toEqual(alone[i]!.drawn);
      for (const [k, distribution] of distributions.entries()) {
        const [a, b] = [distribution, alone[i]!.distributions[k]!].map((x) => Buffer.from(x.buffer));
        expect(a!.equals(b!), `the distribution of token ${k} of session ${i}`).toBe(true);
      }
    }
  });

  it('many wait in order of arrival, whatever their answers may become, and memory stays within its bound', async () => {
    const sessionMemoryBytes = 2 * bytesOf(model(), full, 512);
    await using small = await loadModel(model().info.path, { numThreads: 1, sessionMemoryBytes });
    const tokens = await prompt(small, { selector: full, numPrompt: 100, numAnswer: 5 });
    const [begun, waited]: [number[], number[]] = [[], []];
    const open = new Set<Session>();
    const one = async (i: number) => {
      await using session = await small.admitSession({
        contextLength,
        selector: full,
        promptLength: tokens.length,
        onWait: () => waited.push(i),
      });
      open.add(session);
      begun.push(i);
      await session.prefill(tokens);
      expect([...open].reduce((sum, { heldBytes }) => sum + heldBytes, 0)).toBeLessThanOrEqual(sessionMemoryBytes);
      const text = await textOf(session, { maxTokens: 5, ignoreEndOfTurn: true });
      open.delete(session);
      return text;
    };
    const answers = await Promise.all(Array.from({ length: 7 }, (_, i) => one(i)));
    expect(new Set(answers).size).toBe(1);
    expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(waited.length).toBeGreaterThan(3);
  });

  it('who stops waiting lets the next one through; what can never fit is refused; closing ends the waiting', async () => {
    const sessionMemoryBytes = bytesOf(model(), full, 700);
    const own = await loadModel(model().info.path, { numThreads: 1, sessionMemoryBytes });
    const options = { contextLength: 700, selector: full };
    expect(own.longestContext({ selector: full })).toBeGreaterThanOrEqual(700);
    await expect(own.admitSession({ ...options, contextLength: 3000, promptLength: 10 })).rejects.toMatchObject({
      code: 'CTKVR_OUT_OF_MEMORY',
    });
    const holder = await own.admitSession({ ...options, promptLength: 600 });
    const leaving = new AbortController();
    const gone = own.admitSession({ ...options, promptLength: 600, signal: leaving.signal });
    const next = own.admitSession({ ...options, promptLength: 10 });
    leaving.abort(new Error('gone'));
    await expect(gone).rejects.toThrowError('gone');
    await holder.close();
    await (await next).close();
    const second = await own.admitSession({ ...options, promptLength: 600 });
    const left = own.admitSession({ ...options, promptLength: 600 });
    const ended = expect(left).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    await own.close();
    await ended;
    expect(() => second.memory).toThrowError(/closed/);
  });

  it('a created session is promised its whole context, and admitted ones live beside it', async () => {
    const sessionMemoryBytes = bytesOf(model(), full, 1000) + bytesOf(model(), full, 512);
    await using own = await loadModel(model().info.path, { numThreads: 1, sessionMemoryBytes });
    const created = own.createSession({ contextLength, selector: full });
    expect(() => own.createSession({ contextLength, selector: full })).toThrowError(
      /A context of \d+ tokens would fit/,
    );
    await using admitted = await own.admitSession({ contextLength, selector: full, promptLength: 20 });
    let isWaiting = false;
    const onWait = () => {
      isWaiting = true;
    };
    const waiting = own.admitSession({ contextLength, selector: full, promptLength: 500, onWait });
    expect([isWaiting, admitted.isAdmitted, created.isAdmitted]).toEqual([true, true, false]);
    await created.close();
    await (await waiting).close();
  });
});
