/** Log probabilities against the textbook's softmax, and which of an answer's tokens they are told of. */
import { describe, expect, test } from 'vitest';
import { AnswerLogprobs } from '../src/answer-logprobs.js';
import { tokenLogprobs } from '../src/token-logprobs.js';

describe('tokenLogprobs', () => {
  test.each([1, 2, 8191, 8192, 8193, 30_000])('of %i logits are what softmax says', async (size) => {
    const logits = Float32Array.from({ length: size }, (_, i) => Math.sin(i * 7.3) * 12 - (i % 5));
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    const sorted = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
    const tokenId = size >> 1;
    const { logprob, top } = await tokenLogprobs(logits, tokenId, 5);
    expect(logprob).toBeCloseTo(Math.log(Math.exp(logits[tokenId]!) / sum), 6);
    expect(top.map((one) => one.tokenId)).toEqual(sorted.slice(0, 5));
    for (const one of top) expect(one.logprob).toBeCloseTo(Math.log(Math.exp(logits[one.tokenId]!) / sum), 6);
    expect((await tokenLogprobs(logits, tokenId, 0)).top).toEqual([]);
  });

  test('of equals the smaller id is first; large logits do not overflow', async () => {
    const { logprob, top } = await tokenLogprobs(Float32Array.of(900, 1000, 1000, 1000), 3, 2);
    expect(top.map(({ tokenId }) => tokenId)).toEqual([1, 2]);
    expect(logprob).toBeCloseTo(-Math.log(3), 6);
  });
});

describe('an answer', () => {
  const END = 9;
  const logits = new Float32Array(10);
  const answer = () =>
    new AnswerLogprobs({ numTop: 0, tokenBytes: (tokenId) => Uint8Array.of(tokenId), endTokens: new Set([END]) });
  const told = async (given: [number, string][], numTokens: number) => {
    const logprobs = answer();
    const events = [];
    for (const [tokenId, text] of given) events.push(...(await logprobs.push({ tokenId, text, logits })));
    events.push(...logprobs.end(numTokens));
    return events.map((event) =>
      event.type === 'text' ? [event.text, (event.tokens ?? []).map(({ bytes }) => bytes[0])] : event.type,
    );
  };

  test('has a token beside its text', async () => {
    expect(
      await told(
        [
          [1, 'a'],
          [2, 'b'],
        ],
        2,
      ),
    ).toEqual([
      ['a', [1]],
      ['b', [2]],
    ]);
  });

  test('has tokens without text of their own beside the text that they became', async () => {
    expect(
      await told(
        [
          [1, ''],
          [2, 'é'],
          [3, 'b'],
        ],
        3,
      ),
    ).toEqual([
      ['é', [1, 2]],
      ['b', [3]],
    ]);
  });

  test('does not have what a stop string took away', async () => {
    expect(
      await told(
        [
          [1, 'a'],
          [2, ''],
          [3, ''],
          [4, 'b'],
        ],
        2,
      ),
    ).toEqual([
      ['a', [1]],
      ['b', [2]],
    ]);
    expect(
      await told(
        [
          [1, 'a'],
          [2, ''],
        ],
        1,
      ),
    ).toEqual([['a', [1]]]);
    expect(await told([[1, '']], 0)).toEqual([]);
  });

  test('does not have the token that ended the turn, but the text that it freed', async () => {
    expect(
      await told(
        [
          [1, 'a'],
          [2, ''],
          [END, 'b'],
        ],
        2,
      ),
    ).toEqual([
      ['a', [1]],
      ['b', [2]],
    ]);
  });

  test('has a last token whose text never became whole', async () => {
    expect(
      await told(
        [
          [1, 'a'],
          [2, ''],
        ],
        2,
      ),
    ).toEqual([
      ['a', [1]],
      ['', [2]],
    ]);
  });
});
