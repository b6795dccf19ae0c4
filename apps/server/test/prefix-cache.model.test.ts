/**
 * The second turn of a conversation begins from the first: what is told of it is right, the answer is that of reading it anew, and how long both
 * took is printed. Needs CTKVR_TEST_MODEL and the native build.
 */
import { readMobyDick } from '@ctkvr/model-runner';
import { expect, test } from 'vitest';
import { describeWithServer } from './model-server.js';

/** A prompt of 7,000 tokens takes minutes: too long for every change. */
const isLong = process.env.CTKVR_TEST_LONG === '1';

interface Answer {
  readonly text: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly firstTokenMs: number;
}

type Message = { readonly role: string; readonly content: string };

describeWithServer('Prefix cache', 600_000, (server) => {
  async function ask(messages: readonly Message[], more: object = {}): Promise<Answer> {
    const response = await fetch(`${server().url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'test-model', messages, temperature: 0, max_tokens: 24, ...more }),
    });
    expect(response.status).toBe(200);
    const { choices, usage, ctkvr } = (await response.json()) as {
      choices: { message: { content: string } }[];
      usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
      ctkvr: { time_to_first_token_ms: number };
    };
    return {
      text: choices[0]!.message.content,
      promptTokens: usage.prompt_tokens,
      cachedTokens: usage.prompt_tokens_details.cached_tokens,
      firstTokenMs: ctkvr.time_to_first_token_ms,
    };
  }

  async function twoTurns(text: string) {
    const apart = { cache_salt: `${text.length} characters` }; // of the same book
    const messages: Message[] = [{ role: 'user', content: `${text}\n\nWho tells this story?` }];
    const first = await ask(messages, apart);
    messages.push({ role: 'assistant', content: first.text }, { role: 'user', content: 'Where does he go?' });
    const second = await ask(messages, apart);
    const anew = await ask(messages, { ...apart, cache_prompt: false });
    return { first, second, anew };
  }

  test(`a second turn after ${isLong ? 'some 1,000 tokens and after some 7,000' : 'some 1,000 tokens'}`, async () => {
    const book = await readMobyDick();
    for (const characters of isLong ? [4_000, 29_500] : [4_000]) {
      const { first, second, anew } = await twoTurns(book.slice(0, characters));
      const ms = [first, second, anew].map(({ firstTokenMs }) => Math.round(firstTokenMs));
      const ratio = ((100 * second.firstTokenMs) / first.firstTokenMs).toFixed(1);
      process.stderr.write(
        `${first.promptTokens} tokens: first token after ${ms[0]} ms; second turn of ${second.promptTokens}: ${ms[1]} ms ` +
          `(${ratio} %), ${second.cachedTokens} cached; read anew: ${ms[2]} ms\n`,
      );
      expect(first.cachedTokens).toBe(0);
      // All of the first prompt but its last token, which was decoded.
      expect(second.cachedTokens).toBe(first.promptTokens - 1);
      expect([second.text, second.promptTokens]).toEqual([anew.text, anew.promptTokens]);
      expect(anew.cachedTokens).toBe(0);
    }
  });

  test('salts are kept apart, and a stream tells of cached tokens too', async () => {
    const messages = [{ role: 'user', content: `${'The sea was calm. '.repeat(40)}What was calm?` }];
    expect((await ask(messages, { cache_salt: 'a' })).cachedTokens).toBe(0);
    const again = await ask(messages, { cache_salt: 'a' });
    expect(again.cachedTokens).toBe(again.promptTokens - 1);
    expect((await ask(messages, { cache_salt: 'b' })).cachedTokens).toBe(0);
    const response = await fetch(`${server().url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'test-model',
        messages,
        cache_salt: 'b',
        max_tokens: 2,
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    expect(await response.text()).toContain(`"prompt_tokens_details":{"cached_tokens":${again.cachedTokens}}`);
  });
});
