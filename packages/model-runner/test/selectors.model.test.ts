import { afterAll, beforeAll, expect, it } from 'vitest';
import { estimateMemory, type SelectorChoice, type Session } from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

const small = { numSinkTokens: 4, recentWindow: 64, denseBelow: 0, denseLayers: false, maxSelected: 64 } as const;

/** The baselines of docs/design/selectors.md, with a small budget, and so that they read all they index. */
const baselines: readonly { readonly choice: SelectorChoice; readonly all: SelectorChoice }[] = [
  ...(['snapkv', 'quest', 'keyClusters'] as const).map((method) => ({
    choice: { ...small, method },
    all: { ...small, method, maxSelected: 0 },
  })),
  {
    choice: { ...small, method: 'magicpig', hashBits: 8, hashTables: 75 },
    // one bit: nearly every key shares two of so many tables
    all: { ...small, method: 'magicpig', hashBits: 1, hashTables: 200 },
  },
];

/** Greedy tokens and their counters. */
async function greedy(session: Session, maxTokens: number) {
  const tokens: number[] = [];
  const counters = [];
  for await (const event of session.generate({ maxTokens, ignoreEndOfTurn: true })) {
    tokens.push(event.tokenId);
    if (event.statistics.counters) counters.push(event.statistics.counters);
  }
  return { tokens, counters };
}

describeWithModel('baseline selectors', (model) => {
  let base: Session;
  let expected: readonly number[];
  let recentBytes: number;
  beforeAll(async () => {
    base = model().createSession({ contextLength: 1000, selector: { method: 'full' } });
    await base.prefill([{ role: 'user', content: `${prose(400)} What did the keeper do on day 3?` }]);
    await using dense = base.fork();
    expected = (await greedy(dense, 6)).tokens;
    await using streaming = base.fork();
    streaming.setSelector({ ...small, method: 'streaming' });
    await greedy(streaming, 6);
    recentBytes = streaming.memory.indexBytes;
  }, 60_000);
  afterAll(() => base.close());

  it.each(baselines)(
    '$choice.method reads within its budget, and like dense attention without one',
    async (baseline) => {
      await using whole = base.fork();
      whole.setSelector(baseline.all);
      expect((await greedy(whole, 6)).tokens).toEqual(expected);

      await using sparse = base.fork();
      sparse.setSelector(baseline.choice);
      const { counters } = await greedy(sparse, 6);
      const [first, last] = [counters.at(0)!, counters.at(-1)!];
      expect(first.selected).toBeGreaterThan(0);
      expect(first.candidates).toBe(first.selected);
      if (sparse.selector.method !== 'magicpig') expect(first.selected).toBeLessThanOrEqual(64 * first.heads);
      expect(first.keysRead).toBe(first.selected + first.heads * (4 + 64 + 1));
      // what has been generated since the build is read as window
      expect(last.keysRead - last.selected).toBe(first.keysRead - first.selected + first.heads * (counters.length - 1));
      const { indexBytes } = sparse.memory;
      // a selector without an index holds recent queries only
      expect(indexBytes).toBeGreaterThan(recentBytes);
      const { info } = model();
      expect(indexBytes).toBeLessThanOrEqual(
        estimateMemory({ info, contextLength: 1000, selector: sparse.selector }).indexBytes,
      );
    },
  );
});
