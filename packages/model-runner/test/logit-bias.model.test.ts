import { CtkvrError } from '@ctkvr/core';
import { expect, it } from 'vitest';
import type { GenerateOptions } from '../src/index.js';
import { capital, describeWithModel } from './test-model.js';

describeWithModel('logit bias', (model) => {
  const answer = async (options: GenerateOptions) => {
    await using session = model().createSession();
    await session.prefill(capital);
    const tokens: number[] = [];
    const likeliest: number[] = [];
    for await (const { tokenId, logits } of session.generate({ maxTokens: 8, logits: true, ...options })) {
      tokens.push(tokenId);
      likeliest.push(logits!.indexOf(logits!.reduce((best, logit) => Math.max(best, logit))));
    }
    return { tokens, likeliest };
  };

  it('forbids a token and forces one, and leaves the logits that are told as they are', async () => {
    const plain = await answer({});
    const [first] = plain.tokens;
    expect(plain.likeliest[0]).toBe(first);
    expect((await answer({ logitBias: {} })).tokens).toEqual(plain.tokens);
    for (const sampling of [{}, { temperature: 1, seed: 5 }]) {
      const without = await answer({ logitBias: { [first!]: -100 }, sampling });
      expect(without.tokens).not.toContain(first);
      expect(without.likeliest[0]).toBe(first);
      const [forced] = await model().tokenize(' sea');
      expect((await answer({ logitBias: { [forced!]: 100 }, sampling })).tokens).toEqual(Array(8).fill(forced));
    }
  });

  it('acts among the tokens that a grammar allows', async () => {
    const grammar = { type: 'lark', grammar: 'start: "yes" | "no"' } as const;
    const first = async (logitBias: Record<number, number>) => (await answer({ grammar, logitBias })).tokens[0]!;
    const free = await first({});
    const [forced] = await model().tokenize(' sea');
    expect(await first({ [forced!]: 100 })).toBe(free);
    const other = await first({ [free]: -100 });
    expect(other).not.toBe(free);
    expect('yes no').toContain(model().detokenize([other]));
  });

  it('refuses a token that the vocabulary does not have, and the session goes on', async () => {
    await using session = model().createSession();
    await session.prefill(capital);
    const refused = session.generate({ logitBias: { 999999: 1 }, maxTokens: 1 }).next();
    await expect(refused).rejects.toThrow(/^.*token id.*from 0 to \d+.*999999/);
    await expect(refused).rejects.toBeInstanceOf(CtkvrError);
    for await (const { tokenId } of session.generate({ maxTokens: 1 })) expect(tokenId).toBeGreaterThanOrEqual(0);
  });
});
