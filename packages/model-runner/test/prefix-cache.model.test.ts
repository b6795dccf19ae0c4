/**
 * What begins from a kept prompt is what is read anew, to the bit: every selector, prompts that go on, turn off in the midst and repeat, on a
 * schedule of lengths that crosses where indexes are built.
 */
import { expect, it } from 'vitest';
import {
  estimateMemory,
  loadModel,
  type Model,
  type SelectorChoice,
  type SessionOptions,
  selectorFor,
} from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

const small = { numSinkTokens: 4, recentWindow: 32, denseBelow: 0, denseLayers: false, maxSelected: 48 } as const;
const selectors: readonly SelectorChoice[] = [
  { ...small, method: 'ctkvr', appendSize: 8, numCentroids: 16 },
  { ...small, method: 'ctkvr', appendSize: 64, numCentroids: 16, denseBelow: 98 },
  { method: 'full' },
  { ...small, method: 'streaming' },
  { ...small, method: 'exactTopK' },
  { ...small, method: 'snapkv' },
  { ...small, method: 'quest' },
  { ...small, method: 'magicpig', hashBits: 6, hashTables: 40 },
  { ...small, method: 'keyClusters' },
];

/** Tokens of the second prompt that are those of the first, and how many others follow. */
interface Case {
  readonly first: number;
  readonly common: number;
  readonly others: number;
}

const cases: readonly Case[] = [
  { first: 105, common: 105, others: 6 },
  { first: 90, common: 90, others: 40 }, // beyond 96, 112 and 128, where indexes are built
  { first: 140, common: 90, others: 25 },
  { first: 100, common: 90, others: 5 },
  { first: 95, common: 95, others: 0 },
];

/** For selectors without an index that is built at certain lengths: one prompt that goes on, one that turns off in the midst. */
const casesWithoutIndex = cases.slice(1, 3);

/** A cut in a page (256 positions) that is whole already. Pages are the same to every selector. */
const beyondOnePage: Case = { first: 262, common: 252, others: 20 };

async function answer(model: Model, tokens: Int32Array, options: SessionOptions, maxTokens = 10) {
  await using session = await model.admitSession({ contextLength: 400, promptLength: tokens.length, ...options });
  const { numCachedTokens } = await session.prefill(tokens);
  const drawn: number[] = [];
  const distributions: Buffer[] = [];
  const sampling = { temperature: 0.9, seed: 5, repeatPenalty: 1.1 };
  for await (const event of session.generate({ maxTokens, logits: true, ignoreEndOfTurn: true, sampling })) {
    drawn.push(event.tokenId);
    distributions.push(Buffer.from(event.logits!.buffer.slice(0)));
  }
  return { drawn, distributions, numCachedTokens };
}

describeWithModel('the prefix cache', (model) => {
  it.each(selectors.map((selector, n) => ({ selector, name: `${n}: ${selector.method}` })))(
    'gives the same bits as reading anew: $name',
    async ({ selector }) => {
      const text = await model().tokenize(prose(800));
      const all = selector.method === 'ctkvr' ? [...cases, beyondOnePage] : casesWithoutIndex;
      for (const [n, { first: length, common, others }] of all.entries()) {
        const head = text.subarray(n, n + length);
        const tokens = Int32Array.from([...head.subarray(0, common), ...text.subarray(400, 400 + others)]);
        const namespace = `case ${n}`;
        const first = await answer(model(), head, { selector, prefixCache: { namespace } }, 4);
        const cached = await answer(model(), tokens, { selector, prefixCache: { namespace } });
        const anew = await answer(model(), tokens, { selector, prefixCache: { namespace, lookUp: false } });
        expect(first.numCachedTokens).toBe(0);
        const what = `${common} of ${length} tokens and ${others} more`;
        expect(cached.drawn, what).toEqual(anew.drawn);
        expect(
          cached.distributions.every((one, i) => one.equals(anew.distributions[i]!)),
          what,
        ).toBe(true);
        expect(cached.numCachedTokens, what).toBeGreaterThan(common - 40);
        expect(cached.numCachedTokens).toBeLessThanOrEqual(common);
      }
    },
  );

  it('keeps namespaces, selectors and KV formats apart, and knows nothing after close', async () => {
    const tokens = (await model().tokenize(prose(200))).subarray(0, 100);
    const selector: SelectorChoice = { method: 'full' };
    const cachedOf = async (options: SessionOptions) =>
      (await answer(model(), tokens, { selector, ...options })).numCachedTokens;
    expect(await cachedOf({ prefixCache: { namespace: 'a' } })).toBe(0);
    expect(await cachedOf({ prefixCache: { namespace: 'a' } })).toBe(99);
    expect(await cachedOf({ prefixCache: { namespace: 'b' } })).toBe(0);
    expect(await cachedOf({ prefixCache: { namespace: 'a' }, selector: { method: 'streaming' } })).toBe(0);
    expect(await cachedOf({ prefixCache: { namespace: 'a' }, kvFormat: 'q8' })).toBe(0);
    expect(await cachedOf({})).toBe(0);
  });

  it('makes way for sessions, and one that is computed again is told the same bits', async () => {
    // The second is at its page's end first; then the first wants the page back.
    const lengths = [250, 255];
    const text = await model().tokenize(prose(1600));
    const selector: SelectorChoice = { method: 'full' };
    const answers = (on: Model, options: SessionOptions) =>
      Promise.all(
        lengths.map((length) =>
          answer(on, text.subarray(length, 2 * length), { selector, contextLength: 400, ...options }),
        ),
      );
    const alone = await answers(model(), {});
    const bytesOf = (numTokens: number) => {
      const { info } = model();
      const need = { info, contextLength: 1024, numTokens, selector: selectorFor(info, selector) };
      const { kvBytes, indexBytes } = estimateMemory(need);
      return kvBytes + indexBytes;
    };
    const sessionMemoryBytes = bytesOf(256) + bytesOf(512);
    await using tight = await loadModel(model().info.path, { numThreads: 1, contextLength: 1024, sessionMemoryBytes });
    for (let round = 0; round < 2; round++) {
      const both = await answers(tight, { prefixCache: {} });
      expect(both.map(({ drawn }) => drawn)).toEqual(alone.map(({ drawn }) => drawn));
      expect(tight.prefixCacheUsage.bytes).toBeGreaterThan(0);
      expect(tight.prefixCacheUsage.bytes).toBeLessThanOrEqual(sessionMemoryBytes / 2);
    }
    await using whole = tight.createSession({ selector }); // is promised what was lent
    expect(tight.prefixCacheUsage.bytes).toBeLessThanOrEqual(Math.max(0, sessionMemoryBytes - whole.reservedBytes));
  });
});
