import { expect, it } from 'vitest';
import { estimateMemory, type Session } from '../src/index.js';
import { capital, describeWithModel, prose, textOf } from './test-model.js';

describeWithModel('session', (model) => {
  it('answers a question greedily, with statistics, and tells why it stopped', async () => {
    await using session = model().createSession();
    const prompt = await session.prefill(capital);
    expect(prompt.numTokens).toBe(session.length);
    let text = '';
    const tokenIds: number[] = [];
    for await (const event of session.generate({ maxTokens: 40 })) {
      text += event.text;
      tokenIds.push(event.tokenId);
      expect(event.statistics.msPerToken).toBeGreaterThan(0);
      expect(event.statistics.counters?.heads).toBe(model().info.numLayers * model().info.numKvHeads);
      expect(event.logits).toBeNull();
    }
    expect(text).toContain('Paris');
    expect(session.lastFinish).toMatchObject({ reason: 'stop', numTokens: tokenIds.length, stopString: null });
    expect(session.length).toBe(prompt.numTokens + tokenIds.length);
    expect(model().detokenize(tokenIds)).toBe(text);
  });

  it('goes on with a second turn behind its own answer', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    const first = await textOf(session, { maxTokens: 40 });
    await session.prefill([{ role: 'user', content: 'And of Germany?' }]);
    expect(await textOf(session, { maxTokens: 40 })).toContain('Berlin');
    const whole = model().detokenize(session.tokens, { special: true });
    expect(whole).toContain(`assistant\n${first}<|im_end|>\n<|im_start|>user\nAnd of Germany?<|im_end|>`);
    expect(whole.match(/<\|im_start\|>system/g)?.length).toBe(1);
  });

  it('replays a seed, and draws something else with another', async () => {
    const draw = async (seed: number) => {
      await using session = model().createSession();
      await session.prefill([{ role: 'user', content: 'Tell me a story about a fox.' }]);
      const text = await textOf(session, {
        maxTokens: 24,
        sampling: { temperature: 1.5, topK: 0, topP: 1, minP: 0, seed },
      });
      return { text, finish: session.lastFinish };
    };
    const first = await draw(1);
    expect(first.finish).toMatchObject({ seed: 1, reason: 'length', numTokens: 24 });
    expect((await draw(1)).text).toBe(first.text);
    expect((await draw(2)).text).not.toBe(first.text);
  });

  it('stops at a stop string that spans tokens, emits none of it and keeps none of it', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    const start = session.length;
    await using twin = session.fork();
    const whole = await textOf(twin, { maxTokens: 40 });
    const stop = whole.slice(whole.indexOf('capital') + 3, whole.indexOf('France') + 2); // begins and ends inside words
    const text = await textOf(session, { maxTokens: 40, stop: [stop, 'never said'] });
    expect(text).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(session.lastFinish).toMatchObject({ reason: 'stopString', stopString: stop });
    expect(whole.startsWith(model().detokenize(session.tokens.subarray(start)))).toBe(true);
    expect(model().detokenize(session.tokens.subarray(start))).not.toContain(stop);
  });

  it('generates the same in one go and in two, and after leaving the loop early', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    await using inTwo = session.fork();
    await using left = session.fork();
    const whole = await textOf(session, { maxTokens: 6 });
    expect((await textOf(inTwo, { maxTokens: 2 })) + (await textOf(inTwo, { maxTokens: 4 }))).toBe(whole);
    let text = '';
    for await (const event of left.generate({ maxTokens: 6 })) {
      text += event.text;
      break;
    }
    expect(left.lastFinish).toMatchObject({ reason: 'aborted', numTokens: 1 });
    expect(text + (await textOf(left, { maxTokens: 5 }))).toBe(whole);
  });

  it('forks stay apart and truncation goes back to what was', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    const { length } = session;
    await using fork = session.fork();
    await fork.prefill(' The weather is nice today.');
    const other = await textOf(fork, { maxTokens: 8, ignoreEndOfTurn: true });
    const answer = await textOf(session, { maxTokens: 8, ignoreEndOfTurn: true });
    expect(other).not.toBe(answer);
    session.truncate(length);
    expect(session.length).toBe(length);
    expect(await textOf(session, { maxTokens: 8, ignoreEndOfTurn: true })).toBe(answer);
    fork.truncate(length);
    expect(await textOf(fork, { maxTokens: 8, ignoreEndOfTurn: true })).toBe(answer);
  });

  it('a fork outlives its parent', async () => {
    const session = model().createSession();
    await session.prefill(capital);
    await using fork = session.fork();
    await session.close();
    expect(await textOf(fork, { maxTokens: 40 })).toContain('Paris');
  });

  it('gives sessions that run side by side what each gives alone', async () => {
    const questions = ['What is the capital of France?', 'Name a colour.', 'What is 2 plus 2?'];
    const ask = async (content: string) => {
      await using session = model().createSession();
      await session.prefill([{ role: 'user', content }]);
      const events: number[] = [];
      let shared = 0;
      for await (const event of session.generate({ maxTokens: 12 })) {
        events.push(event.tokenId);
        shared = Math.max(shared, event.statistics.numSequences);
      }
      return { events, shared };
    };
    const alone = [];
    for (const question of questions) alone.push((await ask(question)).events);
    const together = await Promise.all(questions.map(ask));
    expect(together.map((run) => run.events)).toEqual(alone);
    expect(Math.max(...together.map((run) => run.shared))).toBeGreaterThan(1);
  });

  it('says for forced tokens what it would have said, as when it generates', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    await using forced = session.fork();
    const drawn: { tokenId: number; best: number }[] = [];
    for await (const { tokenId, logits } of session.generate({ maxTokens: 5, logits: true })) {
      drawn.push({ tokenId, best: argmax(logits) });
    }
    for (const { tokenId, best } of drawn) expect(best).toBe(tokenId);
    const ids = drawn.map(({ tokenId }) => tokenId);
    const said: number[] = [];
    for await (const { logits } of forced.force(ids)) said.push(argmax(logits));
    expect(said).toEqual(ids);
    expect(forced.tokens).toEqual(session.tokens);
  });

  it('forces what a function chooses from the distributions', async () => {
    await using session = model().createSession({ selector: { method: 'full' } });
    await session.prefill(capital);
    await using chosen = session.fork();
    const second: number[] = [];
    const runnerUp = (logits: Float32Array) => argmax(logits.with(argmax(logits), Number.NEGATIVE_INFINITY));
    for await (const { tokenId, logits } of chosen.force(runnerUp, { numTokens: 3 })) {
      expect(tokenId).toBe(runnerUp(logits));
      second.push(tokenId);
    }
    expect([...chosen.tokens]).toEqual([...session.tokens, ...second]);
    expect(second).toHaveLength(3);
    const tooMany = chosen.force(runnerUp, { numTokens: 1e6 });
    await expect(tooMany.next()).rejects.toMatchObject({ code: 'CTKVR_CONTEXT_EXCEEDED' });
  });

  it('builds an index over a long prompt, reads less with it, and finds what was said far back', {
    timeout: 240_000,
  }, async () => {
    await using session = model().createSession({
      selector: {
        denseBelow: 512,
        recentWindow: 64,
        numCentroids: 32,
        listLength: 128,
        clusterProbes: 4,
        maxSelected: 64,
      },
    });
    const phases = new Set<string>();
    const text = prose(700).replace('On day 30 ', 'The password of the harbour is "heliotrope". On day 30 ');
    const result = await session.prefill(
      [{ role: 'user', content: `${text}\n\nWhat is the password of the harbour?` }],
      { onProgress: ({ phase }) => phases.add(phase) },
    );
    expect([...phases]).toEqual(['prefill', 'index']);
    expect(result.index?.indexedTokens).toBeGreaterThan(400);
    const { selector, contextLength, memory } = session;
    const estimate = estimateMemory({ info: model().info, contextLength, selector });
    expect(memory.indexBytes).toBeGreaterThan(0);
    expect(memory.indexBytes).toBeLessThanOrEqual(estimate.indexBytes);
    expect(memory.kvBytes).toBeLessThanOrEqual(estimate.kvBytes);
    let answer = '';
    for await (const { text: piece, statistics } of session.generate({ maxTokens: 30, audit: true })) {
      answer += piece;
      const { keysRead, keysTotal, measuredMass, auditedHeads } =
        statistics.counters ?? expect.fail('a decode has counters');
      expect(keysRead).toBeLessThan(keysTotal * 0.75);
      expect(auditedHeads).toBeGreaterThan(0);
      expect(measuredMass).toBeGreaterThan(0);
    }
    expect(answer).toContain('heliotrope');
    session.setSelector({ ...selector, massSampling: true });
    for await (const { statistics } of session.generate({ maxTokens: 3, ignoreEndOfTurn: true })) {
      expect(statistics.counters?.auditedHeads).toBe(1);
    }
    session.setSelector({ method: 'full' });
    expect(session.selector.method).toBe('full');
    await textOf(session, { maxTokens: 2, ignoreEndOfTurn: true });
  });

  it('keeps keys and values in 8 bits where asked, with 9/16 of the memory, forks and index as in f16', async () => {
    const tokens = await model().tokenize(prose(700));
    const selector = { denseBelow: 256, recentWindow: 64, numCentroids: 64, listLength: 64, maxSelected: 64 };
    await using f16 = model().createSession({ selector });
    await using q8 = model().createSession({ selector, kvFormat: 'q8' });
    for (const session of [f16, q8]) expect((await session.prefill(tokens)).index?.indexedTokens).toBeGreaterThan(256);
    await using fork = q8.fork();
    expect([f16.kvFormat, q8.kvFormat, fork.kvFormat]).toEqual(['f16', 'q8', 'q8']);
    expect(q8.memory.kvBytes).toBe((f16.memory.kvBytes * 9) / 16);
    expect(fork.memory).toEqual(q8.memory);
    const { contextLength } = q8;
    const estimate = estimateMemory({ info: model().info, contextLength, kvFormat: 'q8', selector: q8.selector });
    expect(q8.memory.kvBytes + q8.reservedBytes).toBeLessThanOrEqual(estimate.kvBytes + estimate.indexBytes);
    const answer = await textOf(q8, { maxTokens: 8, ignoreEndOfTurn: true });
    expect(await textOf(fork, { maxTokens: 8, ignoreEndOfTurn: true })).toBe(answer);
    q8.truncate(tokens.length);
    expect(await textOf(q8, { maxTokens: 8, ignoreEndOfTurn: true })).toBe(answer);
    expect(() => model().createSession({ kvFormat: 'q4' as 'q8' })).toThrowError(/kvFormat must be one of f16, q8/);
  });

  it('has an index as good as a fresh one after going back, though the engine no longer holds the queries', async () => {
    const selector = { denseBelow: 256, recentWindow: 64, numCentroids: 64, listLength: 64, maxSelected: 32 };
    const tokens = await model().tokenize(prose(700));
    const half = Math.floor(tokens.length / 2);
    await using session = model().createSession({ selector });
    await session.prefill(tokens);
    session.truncate(half);
    await using fresh = model().createSession({ selector });
    await fresh.prefill(tokens.subarray(0, half));
    const next = tokens.subarray(half, half + 4);
    const [back, anew] = [await forcedSteps(session, next), await forcedSteps(fresh, next)];
    expect(back.map(({ token }) => token)).toEqual(anew.map(({ token }) => token));
    expect(session.native.indexedRange).toEqual(fresh.native.indexedRange);
    // Queries that were computed in another chunk may differ in their last bits: enough to swap the last position of a probed list.
    const { numLayers, numKvHeads } = model().info;
    const swaps = numLayers * numKvHeads * session.selector.numProbes;
    for (const [step, { candidates }] of back.entries()) {
      expect(candidates).toBeGreaterThan(0);
      expect(Math.abs(candidates - anew[step]!.candidates)).toBeLessThanOrEqual(swaps);
    }
  });

  it('reads sinks and window only with the streaming selector, also far into a generation', async () => {
    const selector = { method: 'streaming', denseBelow: 128, numSinkTokens: 4, recentWindow: 32 } as const;
    await using session = model().createSession({ selector });
    await session.prefill(await model().tokenize(prose(150)));
    const heads = model().info.numLayers * model().info.numKvHeads;
    const perHead: number[] = [];
    for await (const { statistics } of session.generate({ maxTokens: 80, ignoreEndOfTurn: true })) {
      perHead.push((statistics.counters?.keysRead ?? 0) / heads);
    }
    expect(Math.min(...perHead)).toBeGreaterThanOrEqual(36);
    expect(Math.max(...perHead)).toBeLessThanOrEqual(4 + 32 + 32 + 1);
  });
});

async function forcedSteps(session: Session, next: Int32Array): Promise<{ token: number; candidates: number }[]> {
  const steps: { token: number; candidates: number }[] = [];
  for await (const { logits, statistics } of session.force(next)) {
    steps.push({ token: argmax(logits), candidates: statistics.counters?.candidates ?? 0 });
  }
  return steps;
}

function argmax(values: Float32Array | null): number {
  if (values === null) return -1;
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] ?? 0) > (values[best] ?? 0)) best = i;
  return best;
}
