/**
 * What a session is answered is the same alone and beside others, on one thread and two, to the bit: every selector, greedy and drawn, with
 * indexes that are built and grow. `npm run bench -- same-bits` asks more questions.
 */
import { expect, it } from 'vitest';
import { loadModel, type Model, type SelectorChoice } from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

const small = { numSinkTokens: 4, recentWindow: 32, denseBelow: 0, denseLayers: false, maxSelected: 48 } as const;

/** Each with a prompt of another length, so that pieces fall in other places. */
const asked: readonly {
  readonly selector: SelectorChoice;
  readonly numTokens: number;
  readonly temperature: number;
}[] = [
  { selector: { ...small, method: 'ctkvr', appendSize: 8, numCentroids: 32 }, numTokens: 420, temperature: 0 },
  { selector: { method: 'full' }, numTokens: 300, temperature: 0.9 },
  { selector: { ...small, method: 'streaming' }, numTokens: 90, temperature: 0 },
  { selector: { ...small, method: 'exactTopK' }, numTokens: 210, temperature: 0 },
  { selector: { ...small, method: 'snapkv' }, numTokens: 150, temperature: 0.9 },
  { selector: { ...small, method: 'quest' }, numTokens: 330, temperature: 0 },
  { selector: { ...small, method: 'magicpig', hashBits: 6, hashTables: 40 }, numTokens: 120, temperature: 0 },
  { selector: { ...small, method: 'keyClusters' }, numTokens: 180, temperature: 0 },
];

async function answer(model: Model, which: number) {
  const { selector, numTokens, temperature } = asked[which]!;
  await using session = model.createSession({ contextLength: 1000, selector });
  await session.prefill([{ role: 'user', content: `${prose(numTokens)} What happened on day ${which + 2}?` }]);
  const tokens: number[] = [];
  const distributions: Float32Array[] = [];
  let mostInStep = 0;
  const sampling = { temperature, seed: which };
  for await (const event of session.generate({ maxTokens: 14, logits: true, ignoreEndOfTurn: true, sampling })) {
    tokens.push(event.tokenId);
    distributions.push(event.logits!);
    mostInStep = Math.max(mostInStep, event.statistics.numSequences);
  }
  return { tokens, distributions, mostInStep };
}

describeWithModel('the same bits', (model) => {
  it('beside others and alone, on one thread and two', async () => {
    const expected: Awaited<ReturnType<typeof answer>>[] = [];
    for (let i = 0; i < asked.length; i++) expected.push(await answer(model(), i));
    await using two = await loadModel(model().info.path, { numThreads: 2 });
    for (const [threads, other] of [
      [1, model()],
      [2, two],
    ] as const) {
      const together = await Promise.all(asked.map((_, i) => answer(other, i)));
      expect(Math.max(...together.map(({ mostInStep }) => mostInStep))).toBeGreaterThan(1);
      for (const [i, { tokens, distributions }] of together.entries()) {
        const what = `${asked[i]!.selector.method}, ${threads} threads`;
        expect(tokens, what).toEqual(expected[i]!.tokens);
        for (const [k, distribution] of distributions.entries()) {
          const [a, b] = [distribution, expected[i]!.distributions[k]!].map((x) => Buffer.from(x.buffer));
          expect(a!.equals(b!), `${what}: the distribution of token ${k}`).toBe(true);
        }
      }
    }
  });
});
