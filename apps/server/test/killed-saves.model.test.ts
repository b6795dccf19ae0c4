/**
 * A server that is killed while it saves a document: what was saved before is there after a restart and answers as before; of the save nothing
 * is seen, or all. Needs CTKVR_TEST_MODEL and the native build.
 */
import { mkdtemp, readdir, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createRandom, propertyParameters } from '@ctkvr/testkit';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readEvents } from './read-events.js';
import { type ServerProcess, startServerProcess } from './server-process.js';
import { ask, post, type Session, textOf } from './session-client.js';
import { until } from './until.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `A server that is killed while it saves${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;
const { seed, numRuns } = propertyParameters(6);

const texts = ['The keeper of the lighthouse', 'Her sister in the city'].map((who) =>
  Array.from({ length: 10 }, (_, day) => `On day ${day + 1} ${who} counted ${7 * day + 3} ships.`).join(' '),
);

describe.skipIf(!modelPath)(title, { timeout: 300_000 }, () => {
  let folder: string;
  let server: ServerProcess;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-killed-'));
  });
  afterEach(async () => {
    await server?.kill();
    await rm(folder, { recursive: true, force: true });
  });

  const start = async () => {
    server = await startServerProcess({ model: modelPath!, modelName: 'test-model', sessionStore: { folder } });
  };
  const filesLike = async (ending: RegExp) =>
    (await readdir(folder).catch(() => [])).filter((name) => ending.test(name));
  const unfinished = () => filesLike(/\.saving/);
  const listed = async () => {
    const { data } = (await (await fetch(`${server.url}/v1/sessions`)).json()) as { data: Session[] };
    return data;
  };
  const answerOf = async (id: string) => textOf(await ask(server.url, id, 'What was counted?', { max_tokens: 4 }));

  async function read(name: string, text: string): Promise<string> {
    const { id } = (await (await post(`${server.url}/v1/sessions`, { name, text })).json()) as Session;
    await readEvents(await fetch(`${server.url}/v1/sessions/${id}/events`));
    await until(async () => (await filesLike(new RegExp(`_${id}\\.ctkvr$`))).length === 1);
    return id;
  }

  /** Has a copy of a session saved. Returns its id once the first bytes are written. */
  async function beginSave(id: string): Promise<string> {
    const before = await unfinished();
    const response = await fetch(`${server.url}/v1/sessions/${id}/fork`, { method: 'POST' });
    expect(response.status).toBe(201);
    await until(async () => (await unfinished()).some((name) => !before.includes(name)));
    return ((await response.json()) as Session).id;
  }

  test(`${numRuns} times (seed ${seed}; CTKVR_TEST_SEED replays it)`, async () => {
    const random = createRandom(seed);
    await start();
    /** What each session that is on disk answers, by its id. */
    const answers = new Map<string, string>();
    for (const [n, text] of texts.entries()) {
      const id = await read(`text ${n}`, text);
      answers.set(id, await answerOf(id));
    }
    const originals = [...answers.keys()];
    const startedAt = performance.now();
    const copy = await beginSave(originals[0]!);
    await until(async () => (await unfinished()).length === 0);
    const saveMs = performance.now() - startedAt;
    answers.set(copy, answers.get(originals[0]!)!);

    let numHalf = 0;
    for (let run = 0; run < numRuns; run += 1) {
      const original = originals[run % originals.length]!;
      const halfBefore = await unfinished();
      const made = await beginSave(original);
      await delay(random.uniform() * saveMs);
      await server.kill();
      numHalf += (await unfinished()).length > halfBefore.length ? 1 : 0;
      await start();
      const sessions = await listed();
      expect(sessions.map(({ state }) => state)).toEqual(sessions.map(() => 'saved'));
      if (sessions.some(({ id }) => id === made)) answers.set(made, answers.get(original)!);
      expect(sessions.map(({ id }) => id).sort()).toEqual([...answers.keys()].sort());
      for (const [id, answer] of answers) expect([id, await answerOf(id)]).toEqual([id, answer]);
    }
    // Else the kills came before or after the saves, and showed nothing.
    expect(numHalf).toBeGreaterThan(0);
    process.stderr.write(`killed ${numRuns} times (seed ${seed}): ${numHalf} saves were half done\n`);

    const hourAgo = Date.now() / 1000 - 3601;
    for (const name of await readdir(folder)) await utimes(join(folder, name), hourAgo, hourAgo);
    await beginSave(originals[0]!);
    await until(async () => (await unfinished()).length === 0);
    const keysWith = async (ending: string) =>
      (await filesLike(/./)).filter((name) => name.endsWith(ending)).map((name) => name.slice(0, -ending.length));
    expect((await keysWith('.json')).sort()).toEqual((await keysWith('.ctkvr')).sort());
    expect(await filesLike(/quarantine/)).toEqual([]);
    expect(server.errors()).toBe('');
  });
});
