/** Log probabilities in the shape of POST /v1/completions. */
import { expect, test } from 'vitest';
import { CompletionLogprobs } from '../src/completion-logprobs.js';
import { createApp } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { readEvents } from './read-events.js';

const post = (more: object) =>
  createApp({ engine: new EchoEngine() }).request('/v1/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'echo', prompt: 'on é up', ...more }),
  });

const expected = {
  tokens: ['on ', 'é ', 'up '],
  token_logprobs: [-Math.LN2, -Math.LN2, -Math.LN2],
  top_logprobs: [
    { o: -2, 'on ': -Math.LN2 },
    { é: -2, 'é ': -Math.LN2 },
    { u: -2, 'up ': -Math.LN2 },
  ],
  text_offset: [0, 3, 5],
};

test('a whole answer has them beside each other', async () => {
  const { choices } = (await (await post({ logprobs: 1 })).json()) as { choices: { logprobs: object }[] };
  expect(choices[0]!.logprobs).toEqual(expected);
});

test('the pieces of a stream are those of the whole', async () => {
  const events = await readEvents(await post({ logprobs: 1, stream: true }));
  const lists = events.slice(0, -1).map(({ choices }) => choices[0].logprobs);
  for (const name of Object.keys(expected) as (keyof typeof expected)[]) {
    expect(lists.flatMap((list) => list[name])).toEqual(expected[name]);
  }
});

test('there are none unless asked for', async () => {
  expect(await (await post({})).json()).toMatchObject({ choices: [{ logprobs: null }] });
});

test('tokens inside a character are told by their bytes, and lie where it begins', () => {
  const bytes = [...Buffer.from('aé')].map((byte) => Uint8Array.of(byte));
  const tokens = bytes.map((one) => ({ bytes: one, logprob: -1, top: [] }));
  const { tokens: names, text_offset: offsets } = new CompletionLogprobs().add(tokens);
  expect(names).toEqual(['a', 'bytes:\\xc3', 'bytes:\\xa9']);
  expect(offsets).toEqual([0, 1, 1]);
});
