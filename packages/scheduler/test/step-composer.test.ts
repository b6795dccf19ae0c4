import { CtkvrError } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';
import { StepComposer } from '../src/index.js';
import { CountingEngine, CountingSequence, VOCAB_SIZE } from './counting-engine.js';

const limits = { prefillChunk: 8, prefillChunkBesideDecode: 4 };
const ids = (count: number, first = 1) => Int32Array.from({ length: count }, (_, i) => (first + i * 7) % VOCAB_SIZE);

function make() {
  const engine = new CountingEngine();
  return { engine, composer: new StepComposer(engine, limits) };
}

type Engine = CountingEngine;
const sizes = (engine: Engine) => engine.plans.map((plan) => plan.map((entry) => entry.numTokens));

/** Decodes `count` tokens, each drawn from the one before; what a caller's loop does. */
async function decodeLoop(composer: StepComposer<CountingSequence>, sequence: CountingSequence, count: number) {
  const drawn: number[] = [];
  let token = 5;
  for (let i = 0; i < count; i++) {
    const result = await composer.append(sequence, [token], { phase: 'decode', output: 'sample' });
    token = result.tokenId ?? -1;
    drawn.push(token);
  }
  return drawn;
}

/** The same on a sequence of its own, without a composer. */
async function decodeAlone(prompt: Int32Array, count: number): Promise<number[]> {
  const engine = new CountingEngine();
  const sequence = new CountingSequence();
  if (prompt.length > 0) await engine.step([{ sequence, tokens: prompt, phase: 'prefill', output: 'none' }]);
  const drawn: number[] = [];
  let token = 5;
  for (let i = 0; i < count; i++) {
    const step = await engine.step([{ sequence, tokens: Int32Array.of(token), phase: 'decode', output: 'sample' }]);
    token = step.sequences[0]?.tokenId ?? -1;
    drawn.push(token);
  }
  return drawn;
}

describe('one sequence', () => {
  it('splits a prefill into chunks, reports progress and gives the last token its output', async () => {
    const { engine, composer } = make();
    const sequence = new CountingSequence();
    const done: number[] = [];
    const result = await composer.append(sequence, ids(20), {
      phase: 'prefill',
      output: 'sample',
      onProgress: ({ tokensDone, tokensTotal }) => done.push(tokensDone, tokensTotal),
    });
    expect(sizes(engine)).toEqual([[8], [8], [4]]);
    expect(done).toEqual([8, 20, 16, 20, 20, 20]);
    expect(sequence.tokens).toEqual([...ids(20)]);
    expect(result.tokenId).toBe(sequence.predict());
    expect(result.engineMs).toBe(6);
  });

  it.each([
    [9, [[8], [1]]],
    [10, [[8], [2]]],
    [17, [[8], [8], [1]]],
    [2, [[2]]],
    [1, [[1]]],
  ])('says that every piece of a prefill of %i is one, a single token too', async (count, expected) => {
    const { engine, composer } = make();
    await composer.append(new CountingSequence(), ids(count), { phase: 'prefill' });
    expect(sizes(engine)).toEqual(expected);
    expect(new Set(engine.plans.flat().map(({ phase }) => phase))).toEqual(new Set(['prefill']));
  });

  it('a decode is one token, and says that it is a decode', async () => {
    const { engine, composer } = make();
    await composer.append(new CountingSequence(), ids(1), { phase: 'decode' });
    expect(engine.plans.flat().map(({ phase }) => phase)).toEqual(['decode']);
    await expect(composer.append(new CountingSequence(), ids(2), { phase: 'decode' })).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      fields: { option: 'tokens', expected: 1, actual: 2 },
    });
  });

  it('copies the tokens it is given', async () => {
    const { composer } = make();
    const sequence = new CountingSequence();
    const tokens = ids(20);
    const done = composer.append(sequence, tokens, { phase: 'prefill' });
    tokens.fill(999);
    await done;
    expect(sequence.tokens).toEqual([...ids(20)]);
  });
});

describe('several sequences', () => {
  it('puts all decodes in one step and a smaller chunk of prefill beside them', async () => {
    const { engine, composer } = make();
    const [a, b, c] = [new CountingSequence(), new CountingSequence(), new CountingSequence()];
    const [drawnA, drawnB] = await Promise.all([
      decodeLoop(composer, a, 4),
      decodeLoop(composer, b, 4),
      composer.append(c, ids(16), { phase: 'prefill' }),
    ]);
    // First what the decodes take alone; a prompt's last chunks come after the last token.
    expect(sizes(engine).slice(0, 4)).toEqual([
      [1, 1],
      [1, 1, 4],
      [1, 1, 4],
      [1, 1, 4],
    ]);
    expect(engine.plans.length).toBe(5);
    expect(drawnA).toEqual(await decodeAlone(ids(0), 4));
    expect(drawnB).toEqual(drawnA);
  });

  it('gives waiting prefills their chunks in turn', async () => {
    const { engine, composer } = make();
    const sequences = [new CountingSequence(), new CountingSequence(), new CountingSequence()];
    await Promise.all(sequences.map((sequence) => composer.append(sequence, ids(24), { phase: 'prefill' })));
    const order = engine.plans.map((plan) => sequences.indexOf(plan[0]!.sequence));
    expect(order).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2]);
  });

  it('lets a prefill that came later overtake a long one', async () => {
    const { composer } = make();
    const finished: string[] = [];
    await Promise.all([
      composer.append(new CountingSequence(), ids(400), { phase: 'prefill' }).then(() => finished.push('long')),
      composer.append(new CountingSequence(), ids(16), { phase: 'prefill' }).then(() => finished.push('short')),
    ]);
    expect(finished).toEqual(['short', 'long']);
  });

  it('refuses a second request of the same sequence', async () => {
    const { composer } = make();
    const sequence = new CountingSequence();
    const first = composer.append(sequence, ids(20), { phase: 'prefill' });
    await expect(composer.append(sequence, ids(2), { phase: 'prefill' })).rejects.toMatchObject({ code: 'CTKVR_BUSY' });
    await first;
    expect(sequence.length).toBe(20);
  });
});

describe('abort', () => {
  it('drops an aborted decode after the step and leaves the others of that step their work', async () => {
    const { engine, composer } = make();
    const controller = new AbortController();
    const [kept, dropped] = [new CountingSequence(), new CountingSequence()];
    engine.duringStep = () => controller.abort();
    const keptResult = composer.append(kept, [3], { phase: 'decode', output: 'sample' });
    const droppedResult = composer.append(dropped, [4], { phase: 'decode', signal: controller.signal });
    await expect(droppedResult).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    expect((await keptResult).tokenId).toBe(kept.predict());
    expect(engine.numCancelled).toBe(0);
    expect(kept.tokens).toEqual([3]);
    expect(dropped.tokens).toEqual([]);
  });

  it('cancels the engine when nobody else needs the step, and puts back every chunk of the prefill', async () => {
    const { engine, composer } = make();
    const controller = new AbortController();
    const sequence = new CountingSequence();
    await composer.append(sequence, ids(3), { phase: 'prefill' });
    engine.duringStep = (index) => {
      if (index === 2) controller.abort();
    };
    const aborted = composer.append(sequence, ids(30), { phase: 'prefill', signal: controller.signal });
    await expect(aborted).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    expect(engine.numCancelled).toBe(1);
    expect(sequence.tokens).toEqual([...ids(3)]);
    await composer.append(sequence, ids(2), { phase: 'prefill' }); // and the composer goes on
    expect(sequence.length).toBe(5);
  });

  it('cancels a shared step once everybody in it has aborted', async () => {
    const { engine, composer } = make();
    const controller = new AbortController();
    engine.duringStep = () => controller.abort();
    const requests = [1, 2].map((token) =>
      composer.append(new CountingSequence(), [token], { phase: 'decode', signal: controller.signal }),
    );
    for (const request of requests) await expect(request).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    expect(engine.numCancelled).toBe(1);
  });

  it('removes a waiting request at once and refuses a signal that is aborted already', async () => {
    const { engine, composer } = make();
    const controller = new AbortController();
    const sequence = new CountingSequence();
    const waiting = composer.append(sequence, ids(4), { phase: 'prefill', signal: controller.signal });
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    await expect(
      composer.append(sequence, ids(4), { phase: 'prefill', signal: controller.signal }),
    ).rejects.toMatchObject({
      code: 'CTKVR_ABORTED',
    });
    expect(engine.plans).toEqual([]);
  });
});

it('an abort from inside onProgress ends the request for good', async () => {
  const { composer } = make();
  const controller = new AbortController();
  const sequence = new CountingSequence();
  const aborted = composer.append(sequence, ids(40), {
    phase: 'prefill',
    signal: controller.signal,
    onProgress: () => controller.abort(),
  });
  await expect(aborted).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
  expect(sequence.length).toBe(0);
  await composer.append(sequence, ids(3), { phase: 'prefill' });
  expect(sequence.tokens).toEqual([...ids(3)]);
});

describe('failures', () => {
  it('fails only the request at fault and finishes the others of its step', async () => {
    const { composer } = make();
    const [good, full, wrong, prompt] = [
      new CountingSequence(),
      new CountingSequence(0),
      new CountingSequence(),
      new CountingSequence(),
    ];
    const [goodResult, fullResult, wrongResult, promptResult] = await Promise.allSettled([
      decodeLoop(composer, good, 3),
      composer.append(full, [1], { phase: 'decode' }),
      composer.append(wrong, [VOCAB_SIZE], { phase: 'decode' }),
      composer.append(prompt, ids(20), { phase: 'prefill', output: 'sample' }),
    ]);
    expect(goodResult).toMatchObject({ status: 'fulfilled', value: await decodeAlone(ids(0), 3) });
    expect(fullResult).toMatchObject({ status: 'rejected', reason: { code: 'CTKVR_CONTEXT_EXCEEDED' } });
    expect(wrongResult).toMatchObject({ status: 'rejected', reason: { code: 'CTKVR_INVALID_OPTION' } });
    expect(promptResult).toMatchObject({ status: 'fulfilled', value: { tokenId: prompt.predict() } });
    expect(prompt.tokens).toEqual([...ids(20)]);
    expect(wrong.length).toBe(0);
  });

  it('puts a prefill back to its start when a later chunk fails', async () => {
    const { composer } = make();
    const sequence = new CountingSequence(20);
    await composer.append(sequence, ids(4), { phase: 'prefill' });
    await expect(composer.append(sequence, ids(30), { phase: 'prefill' })).rejects.toMatchObject({
      code: 'CTKVR_CONTEXT_EXCEEDED',
    });
    expect(sequence.tokens).toEqual([...ids(4)]);
  });

  it('ends a request whose onProgress throws, and nothing else', async () => {
    const { composer } = make();
    const sequence = new CountingSequence();
    const thrown = new Error('from the caller');
    const failing = composer.append(sequence, ids(30), {
      phase: 'prefill',
      onProgress: () => {
        throw thrown;
      },
    });
    const other = decodeLoop(composer, new CountingSequence(), 3);
    await expect(failing).rejects.toBe(thrown);
    expect(await other).toEqual(await decodeAlone(ids(0), 3));
    expect(sequence.length).toBe(0);
  });

  it('refuses empty requests and limits that let nothing pass', async () => {
    const { composer, engine } = make();
    await expect(composer.append(new CountingSequence(), [], { phase: 'prefill' })).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
    });
    expect(() => new StepComposer(engine, { prefillChunk: 0 })).toThrowError(/prefillChunk must be/);
  });
});

describe('exclusive work', () => {
  it('never meets a step, and waits for one step at most while others decode', async () => {
    const { engine, composer } = make();
    const decoding = decodeLoop(composer, new CountingSequence(), 20);
    await new Promise((resolve) => setImmediate(resolve));
    const built = await composer.runExclusive(() => engine.exclusive('built'));
    expect(built).toBe('built');
    expect(engine.plans.length).toBeLessThan(4);
    expect(await decoding).toEqual(await decodeAlone(ids(0), 20));
  });

  it('is cancelled by its signal while it runs and while it waits', async () => {
    const { engine, composer } = make();
    const running = new AbortController();
    const waiting = new AbortController();
    const first = composer.runExclusive(
      () => {
        setImmediate(() => running.abort());
        return engine.exclusive(1);
      },
      { signal: running.signal },
    );
    const second = composer.runExclusive(() => engine.exclusive(2), { signal: waiting.signal });
    waiting.abort();
    await expect(second).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    await expect(first).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    expect(engine.numCancelled).toBe(1);
  });

  it('passes on what the work throws, at once too', async () => {
    const { composer } = make();
    const thrown = new Error('no memory');
    const failing = composer.runExclusive(() => {
      throw thrown;
    });
    await expect(failing).rejects.toBe(thrown);
  });
});

describe('a lost device', () => {
  const lost = new CtkvrError('CTKVR_DEVICE_LOST', 'driver error 719');

  /** Loses the device in one of its steps. */
  function makeLosing(loseAt = 1) {
    const engine = new CountingEngine();
    const losses: unknown[] = [];
    const composer = new StepComposer(engine, { ...limits, onLost: (error) => losses.push(error) });
    engine.duringStep = (index) => {
      if (index === loseAt) throw lost;
    };
    return { engine, composer, losses };
  }

  it('ends what runs and what waits with its error, steps no more, and says so once', async () => {
    const { engine, composer, losses } = makeLosing(3); // when both prefills have a chunk
    const [long, waiting] = [new CountingSequence(), new CountingSequence()];
    long.truncate = () => {
      throw new Error('its pages are gone');
    };
    const ends = Promise.allSettled([
      composer.append(long, ids(40), { phase: 'prefill' }),
      composer.append(waiting, ids(40), { phase: 'prefill' }),
      composer.append(new CountingSequence(), [1], { phase: 'decode' }).then(() => {
        throw lost; // it had its token in the first step
      }),
    ]);
    for (const end of await ends) expect(end).toEqual({ status: 'rejected', reason: lost });
    expect([long.length, waiting.length]).toEqual([4, 0]); // what can be put back is
    expect(losses).toEqual([lost]);
    expect(engine.plans).toHaveLength(4);
    await expect(composer.append(waiting, [1], { phase: 'decode' })).rejects.toBe(lost);
    await expect(composer.runExclusive(() => engine.exclusive(1))).rejects.toBe(lost);
    expect(engine.plans).toHaveLength(4);
    await composer.close();
    await expect(composer.append(waiting, [1], { phase: 'decode' })).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
  });

  it('a shared step is not tried again one by one', async () => {
    const { engine, composer, losses } = makeLosing();
    const decode = () => decodeLoop(composer, new CountingSequence(), 9);
    for (const end of await Promise.allSettled([decode(), decode(), decode()])) {
      expect(end).toEqual({ status: 'rejected', reason: lost });
    }
    expect([engine.plans.length, losses.length]).toEqual([2, 1]);
  });

  it('is noticed in exclusive work as well, and ends the work that waits behind it', async () => {
    const { engine, composer, losses } = makeLosing(Number.NaN);
    const works = [
      composer.runExclusive(async () => {
        throw lost;
      }),
      composer.runExclusive(() => engine.exclusive(1)),
      composer.append(new CountingSequence(), ids(40), { phase: 'prefill' }),
    ];
    for (const end of await Promise.allSettled(works)) expect(end).toEqual({ status: 'rejected', reason: lost });
    expect(losses).toEqual([lost]);
  });

  it('who has cancelled hears that', async () => {
    const { engine, composer } = makeLosing();
    const abort = new AbortController();
    engine.duringStep = () => {
      abort.abort();
      throw lost;
    };
    await expect(
      composer.append(new CountingSequence(), ids(4), { phase: 'prefill', signal: abort.signal }),
    ).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    await expect(composer.append(new CountingSequence(), ids(4), { phase: 'prefill' })).rejects.toBe(lost);
  });
});

describe('close', () => {
  it('rejects what runs and what waits, puts sequences back, and refuses new work', async () => {
    const { engine, composer } = make();
    const sequences = [new CountingSequence(), new CountingSequence()];
    const requests = sequences.map((sequence) => composer.append(sequence, ids(40), { phase: 'prefill' }));
    const work = composer.runExclusive(() => engine.exclusive(1));
    const settled = Promise.allSettled([...requests, work]);
    await new Promise((resolve) => setImmediate(resolve));
    await composer.close();
    await composer.close();
    for (const result of await settled) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'CTKVR_CLOSED' } });
    }
    expect(sequences.map((sequence) => sequence.length)).toEqual([0, 0]);
    await expect(composer.append(sequences[0]!, ids(2), { phase: 'prefill' })).rejects.toMatchObject({
      code: 'CTKVR_CLOSED',
    });
  });
});

it('gives many random sequences exactly what each would get alone', async () => {
  const { composer } = make();
  let state = 12_345;
  const random = (below: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state % below;
  };
  const runs = Array.from({ length: 12 }, async () => {
    const sequence = new CountingSequence();
    const prompt = ids(2 + random(60), random(500));
    const count = 1 + random(12);
    for (let wait = random(5); wait > 0; wait--) await new Promise((resolve) => setImmediate(resolve));
    await composer.append(sequence, prompt, { phase: 'prefill' });
    expect(await decodeLoop(composer, sequence, count)).toEqual(await decodeAlone(prompt, count));
  });
  await Promise.all(runs);
});
