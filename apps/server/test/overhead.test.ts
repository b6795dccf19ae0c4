/**
 * Tokens a second of eight streams over HTTP, beside the same through the library, in turns. Prints the ratio of the medians; asserts the texts.
 * Needs CTKVR_TEST_MODEL, the native build, and CTKVR_LOAD_SECONDS (`npm run test:server` sets it).
 */
import { loadModel, type Model } from '@ctkvr/model-runner';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import { startModelServer } from './model-server.js';
import { percentile, SentenceClient } from './streaming-client.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const runs = Number(process.env.CTKVR_LOAD_SECONDS ?? 0) > 0 && modelPath !== undefined;
const title = `Overhead${runs ? '' : ' (skipped: CTKVR_LOAD_SECONDS is not set)'}`;

const NUM_STREAMS = 8;
const NUM_TOKENS = 64;
const ROUNDS = 7;
const contents = Array.from({ length: NUM_STREAMS }, (_, n) => `Tell me about the number ${n}.`);

describe.skipIf(!runs)(title, { timeout: 10 * 60_000 }, () => {
  let model: Model;
  let server: RunningServer;

  beforeAll(async () => {
    model = await loadModel(modelPath!, { numThreads: 1, contextLength: 1024 });
    server = await startModelServer(model, { maxRunning: NUM_STREAMS });
  }, 120_000);

  afterAll(async () => {
    await server?.close();
    await model?.close();
  });

  /** As the server does it: a session for each, whose tokens share steps. */
  async function throughLibrary(content: string): Promise<string> {
    const tokens = await model.applyChatTemplate([{ role: 'user', content }]);
    await using session = await model.admitSession({
      contextLength: tokens.length + NUM_TOKENS,
      promptLength: tokens.length,
      prefixCache: {},
    });
    await session.prefill(tokens);
    let text = '';
    const sampling = { temperature: 0 };
    for await (const event of session.generate({ maxTokens: NUM_TOKENS, ignoreEndOfTurn: true, sampling })) {
      text += event.text;
    }
    return text;
  }

  async function throughHttp(content: string): Promise<string> {
    const question = { content, max_tokens: NUM_TOKENS, ignore_eos: true };
    return (await new SentenceClient(server.url).ask(question)).text;
  }

  test(`${NUM_STREAMS} streams of ${NUM_TOKENS} tokens`, async () => {
    const ways = { library: throughLibrary, http: throughHttp };
    const rates: Record<keyof typeof ways, number[]> = { library: [], http: [] };
    const texts: string[][] = [];
    for (let round = 0; round <= ROUNDS; round += 1) {
      for (const way of round % 2 === 0 ? (['library', 'http'] as const) : (['http', 'library'] as const)) {
        const startedAt = performance.now();
        texts.push(await Promise.all(contents.map(ways[way])));
        const tokensPerSecond = (1000 * NUM_STREAMS * NUM_TOKENS) / (performance.now() - startedAt);
        if (round > 0) rates[way].push(tokensPerSecond); // the first one warms up
      }
    }
    const [library, http] = [percentile(rates.library, 0.5), percentile(rates.http, 0.5)];
    process.stderr.write(
      `${NUM_STREAMS} streams: library ${library.toFixed(1)} tokens/s, HTTP ${http.toFixed(1)} tokens/s, ratio ${((100 * http) / library).toFixed(1)} % ` +
        `(medians of ${ROUNDS} in turns; library ${rates.library.map(Math.round)}, HTTP ${rates.http.map(Math.round)})\n`,
    );
    for (const one of texts) expect(one).toEqual(texts[0]);
  });
});
