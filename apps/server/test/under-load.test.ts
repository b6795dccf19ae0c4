/**
 * 64 clients at once, of whom every fifth leaves: all answers are those of a single client, and nothing piles up. Prints times. Needs
 * CTKVR_TEST_MODEL, the native build, and CTKVR_LOAD_SECONDS (`npm run test:server` sets it).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { loadModel, type Model } from '@ctkvr/model-runner';
import { createRandom } from '@ctkvr/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import { collectGarbage } from './collect-garbage.js';
import { startModelServer } from './model-server.js';
import { percentile, SentenceClient } from './streaming-client.js';

const seconds = Number(process.env.CTKVR_LOAD_SECONDS ?? 0);
const modelPath = process.env.CTKVR_TEST_MODEL;
const runs = seconds > 0 && modelPath !== undefined;
const title = `Under load${runs ? '' : ' (skipped: CTKVR_LOAD_SECONDS is not set)'}`;

const NUM_CLIENTS = 64;
const LEAVING_SHARE = 0.2;
const LEAST_REQUESTS = 1000;
/** Prompts of some 15 to 160 tokens, answers of 2 to 10. */
const questions = Array.from({ length: 12 }, (_, n) => ({
  content: `${'The sea was calm and grey. '.repeat(2 * n)}Tell me about ${['rivers', 'cats', 'bread', 'stars'][n % 4]}.`,
  max_tokens: 2 + ((n * 5) % 9),
}));

interface Sample {
  readonly numRequests: number;
  readonly rssBytes: number;
  /** JavaScript's, after a collection; the clients' too, which share the process. */
  readonly heapBytes: number;
  readonly handles: number;
  readonly prefixes: number;
  /** Of keys and values, of all sequences; a page counts once. */
  readonly pages: number;
}

describe.skipIf(!runs)(title, { timeout: 30 * 60_000 }, () => {
  let model: Model;
  let server: RunningServer;

  beforeAll(async () => {
    model = await loadModel(modelPath!, { numThreads: 1, contextLength: 1024, sessionMemoryBytes: 256 << 20 });
    server = await startModelServer(model, { maxRunning: 8 });
  }, 120_000);

  afterAll(async () => {
    await server?.close();
    await model?.close();
  });

  test(`${NUM_CLIENTS} clients for ${seconds} s, and ${LEAST_REQUESTS} requests at least`, async () => {
    const random = createRandom(7);
    const alone = new SentenceClient(server.url);
    const expected: string[] = [];
    for (const question of questions) expected.push((await alone.ask(question)).text);
    const idle = sampleOf(model, 0);

    let numRequests = 0;
    let numLeft = 0;
    let numRefused = 0;
    const gaps: number[] = [];
    const samples: Sample[] = [];
    const until = performance.now() + seconds * 1000;
    const client = async () => {
      const own = new SentenceClient(server.url);
      while (performance.now() < until || numRequests < LEAST_REQUESTS) {
        numRequests += 1;
        if (numRequests % 100 === 0) samples.push(sampleOf(model, numRequests));
        const which = random.integer(0, questions.length - 1);
        const leaves = random.uniform() < LEAVING_SHARE ? AbortSignal.timeout(random.integer(0, 5000)) : undefined;
        const answer = await own.ask(questions[which]!, leaves);
        if (answer.status === 429) {
          numRefused += 1;
          await delay(200);
        } else if (answer.left) {
          numLeft += 1;
          expect(expected[which]).toContain(answer.text);
        } else {
          expect([answer.status, answer.text]).toEqual([200, expected[which]]);
          gaps.push(...answer.gapsMs);
        }
      }
    };
    await Promise.all(Array.from({ length: NUM_CLIENTS }, client));

    const ms = (share: number) => percentile(gaps, share).toFixed(1);
    const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
    process.stderr.write(
      `${numRequests} requests, ${numLeft} left, ${numRefused} refused (429); between two pieces of an answer: p50 ${ms(0.5)} ms, p95 ${ms(0.95)} ms\n` +
        samples
          .map(
            (one) =>
              `${one.numRequests}: RSS ${mib(one.rssBytes)} MiB, heap ${mib(one.heapBytes)} MiB, ${one.handles} handles, ${one.prefixes} prompts kept, ${one.pages} pages\n`,
          )
          .join(''),
    );
    expect(numLeft).toBeGreaterThan(0);

    for (let tries = 0; (await health(server)).running > 0; tries += 1) {
      expect(tries).toBeLessThan(600);
      await delay(50);
    }
    expect(await health(server)).toMatchObject({ status: 'ok', running: 0, queued: 0 });
    // A client holds two or three handles. The allocators keep a little more the longer it runs.
    const [, early, ...rest] = samples;
    const last = rest.at(-1)!;
    expect(last.rssBytes).toBeLessThan(1.1 * early!.rssBytes);
    expect(last.heapBytes).toBeLessThan(1.1 * early!.heapBytes);
    expect(last.handles).toBeLessThan(early!.handles + 2 * NUM_CLIENTS);
    expect(last.prefixes).toBeLessThanOrEqual(questions.length);
    // Pages of prompts that are kept, as after each was asked once; none of the sessions, of which a fifth was left.
    expect(sampleOf(model, numRequests).pages).toBe(idle.pages);
    await using _whole = model.createSession(); // all of what sessions may take is free again
  });
});

async function health(server: RunningServer): Promise<{ readonly running: number }> {
  return (await (await fetch(`${server.url}/health`)).json()) as { running: number };
}

function sampleOf(model: Model, numRequests: number): Sample {
  collectGarbage();
  const { rss, heapUsed } = process.memoryUsage();
  return {
    numRequests,
    rssBytes: rss,
    heapBytes: heapUsed,
    handles: process.getActiveResourcesInfo().length,
    prefixes: model.prefixCacheUsage.numPrefixes,
    pages: model.native.kvUsage().pages,
  };
}
