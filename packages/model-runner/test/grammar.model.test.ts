/** Answers that are bound to a grammar, by a real model. */
import { expect, test } from 'vitest';
import type { GrammarSource, Session } from '../src/index.js';
import { describeWithModel } from './test-model.js';

const schema = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    colours: { type: 'array', items: { enum: ['red', 'green', 'blue'] }, minItems: 1, maxItems: 3 },
    happy: { type: 'boolean' },
  },
  required: ['name', 'age', 'colours', 'happy'],
  additionalProperties: false,
};
const bySchema: GrammarSource = { type: 'json-schema', schema };

describeWithModel('grammars', (model) => {
  type Options = Parameters<Session['generate']>[0];

  async function answer(options: Options = {}, question = 'Describe a person as JSON.') {
    await using session = model().createSession();
    await session.prefill([{ role: 'user', content: question }]);
    let text = '';
    let samplingMs = 0;
    let totalMs = 0;
    let numTokens = 0;
    for await (const event of session.generate({ maxTokens: 200, ...options })) {
      text += event.text;
      samplingMs += event.statistics.timings.samplingMs;
      totalMs += event.statistics.timings.totalMs;
      numTokens += 1;
    }
    return { text, reason: session.lastFinish?.reason, samplingMs, totalMs, numTokens };
  }

  const isPerson = (text: string) => {
    const person = JSON.parse(text) as Record<string, unknown>;
    expect(person).toEqual({
      name: expect.any(String),
      age: expect.any(Number),
      colours: expect.any(Array),
      happy: expect.any(Boolean),
    });
  };

  test.each([
    {},
    { temperature: 1, seed: 1 },
    { temperature: 1.5, topK: 0, topP: 1, minP: 0, seed: 2 },
    { frequencyPenalty: 1 },
    { repeatPenalty: 1.3, temperature: 0.8, seed: 3 },
  ])('an answer follows the schema and ends with it: %j', async (sampling) => {
    const { text, reason } = await answer({ grammar: bySchema, sampling });
    expect(reason).toBe('stop');
    isPerson(text);
  });

  test('a seed draws the same answer again, with a compiled grammar too, alone and beside others', async () => {
    const options = { grammar: bySchema, sampling: { temperature: 1.2, seed: 11 } };
    const compiled = await model().compileGrammar(bySchema);
    const alone = await answer(options);
    const together = await Promise.all([
      answer({ ...options, grammar: compiled }),
      answer({ ...options, grammar: compiled }),
      answer({ sampling: { temperature: 1, seed: 5 }, maxTokens: 20 }),
    ]);
    expect(together.slice(0, 2).map(({ text }) => text)).toEqual([alone.text, alone.text]);
    expect(together[2]?.reason).toBe('length');
  });

  test('stop strings and limits end it as ever, and logits stay the model’s own', async () => {
    expect((await answer({ grammar: bySchema, stop: ',' })).reason).toBe('stopString');
    expect((await answer({ grammar: bySchema, maxTokens: 3 })).reason).toBe('length');
    await using session = model().createSession();
    await session.prefill([{ role: 'user', content: 'Hello.' }]);
    for await (const { tokenId, logits } of session.generate({ grammar: bySchema, maxTokens: 1, logits: true })) {
      expect(Math.max(...logits!)).toBeGreaterThan(logits![tokenId]!); // '{' is not what it would have said
    }
  });

  test('any JSON object, and a Lark grammar', async () => {
    const { text } = await answer({ grammar: { type: 'json-object' }, sampling: { temperature: 1, seed: 4 } });
    expect(text.startsWith('{')).toBe(true);
    const lark = { type: 'lark', grammar: 'start: "It is " ("red" | "blue") "."' } as const;
    expect((await answer({ grammar: lark })).text).toMatch(/^It is (red|blue)\.$/);
  });

  test('what is not supported is refused by name, also in the midst of others', async () => {
    const refused = (keyword: string) =>
      answer({ grammar: { type: 'json-schema', schema: { type: 'object', [keyword]: {} } } });
    await expect(refused('dependentSchemas')).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      message: expect.stringContaining('dependentSchemas'),
    });
    await expect(model().compileGrammar({ type: 'yaml' } as never)).rejects.toThrow(/grammar must be/);
    await expect(answer({ grammar: bySchema, ignoreEndOfTurn: true })).rejects.toThrow(/ignoreEndOfTurn must be false/);
  });

  test('a grammar that finds no token ends its own answer with a typed error, and no other', async () => {
    const bytes = '%llguidance {"allow_invalid_utf8": true}\nstart: /\\xff\\xfe/'; // no token is such a byte
    const [failed, other] = await Promise.allSettled([
      answer({ grammar: { type: 'lark', grammar: bytes } }),
      answer({ maxTokens: 5 }),
    ]);
    expect(failed).toMatchObject({ status: 'rejected', reason: { code: 'CTKVR_GRAMMAR_FAILED' } });
    expect(other).toMatchObject({ status: 'fulfilled', value: { reason: 'length' } });
  });

  test('prints what a mask costs', async () => {
    const grammar = await model().compileGrammar(bySchema);
    const cost = {
      free: { samplingMs: 0, totalMs: 0, numTokens: 0 },
      bound: { samplingMs: 0, totalMs: 0, numTokens: 0 },
    };
    for (let round = 0; round < 2; round++) {
      for (const [name, options] of [
        ['free', { maxTokens: 40 }],
        ['bound', { grammar }],
      ] as const) {
        const one = await answer({ ...options, sampling: { temperature: 1, seed: round } });
        for (const key of ['samplingMs', 'totalMs', 'numTokens'] as const) cost[name][key] += one[key];
      }
    }
    const perToken = ({ samplingMs, totalMs, numTokens }: typeof cost.free) =>
      `sampling ${(samplingMs / numTokens).toFixed(3)} ms of ${(totalMs / numTokens).toFixed(2)} ms a token`;
    process.stdout.write(`free: ${perToken(cost.free)}; bound: ${perToken(cost.bound)}\n`);
    expect(cost.bound.numTokens).toBeGreaterThan(0);
  });
});
