/** Several answers of a real model to one prompt. Needs CTKVR_TEST_MODEL and the native build. */
import OpenAI from 'openai';
import { expect, test } from 'vitest';
import { describeWithServer } from './model-server.js';

describeWithServer('Choices', 120_000, (server) => {
  test('each is the single answer of its seed, and the prompt stays kept', async () => {
    const client = new OpenAI({ baseURL: `${server().url}/v1`, apiKey: 'unused' });
    const messages = [{ role: 'user' as const, content: `${'The sea was calm. '.repeat(20)}What was calm?` }];
    const asked = { model: 'test-model', messages, max_tokens: 8, temperature: 1.5 };
    const { choices, usage } = await client.chat.completions.create({ ...asked, n: 3, seed: 11 });
    expect(usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    expect(new Set(choices.map(({ message }) => message.content)).size).toBeGreaterThan(1);
    for (const [index, choice] of choices.entries()) {
      const alone = await client.chat.completions.create({ ...asked, seed: 11 + index });
      expect(choice.message.content).toBe(alone.choices[0]!.message.content);
      // All but the last token, which is decoded: the prompt was kept when the first choice had read it.
      expect(alone.usage?.prompt_tokens_details?.cached_tokens).toBe(usage!.prompt_tokens - 1);
    }
  });
});
