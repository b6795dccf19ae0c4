/** Ten thousand documents, one after the other and all at once, on a model that reads nothing: the limit holds, nothing hangs, memory stays. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Model, type ReadDocument, SnapshotStore } from '@ctkvr/model-runner';
import { beforeEach, describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { ModelSessions } from '../src/sessions/model-sessions.js';
import { collectGarbage } from './collect-garbage.js';
import { EchoEngine } from './echo-engine.js';

const NUM_REQUESTS = 10_000;
const MAX_SESSIONS = 1000;
const TEXT = 'Call me Ishmael. '.repeat(250);

class EngineWithDocuments extends EchoEngine {
  readonly sessions: ModelSessions;
  constructor(store: SnapshotStore | null) {
    super();
    const model = { readDocument: async (text: string) => documentOf(text), passageSize: 32 };
    this.sessions = new ModelSessions({ model: model as unknown as Model, modelName: 'echo', store });
  }
}

let savesAtOnce = 0;
let mostSavesAtOnce = 0;

function documentOf(text: string): ReadDocument {
  const save = async (path: string) => {
    savesAtOnce += 1;
    mostSavesAtOnce = Math.max(mostSavesAtOnce, savesAtOnce);
    await writeFile(path, text);
    savesAtOnce -= 1;
    return { bytes: text.length };
  };
  return { numTokens: text.length, passages: () => [text], save, close: async () => {} } as unknown as ReadDocument;
}

let app: ReturnType<typeof createApp>;
let engine: EngineWithDocuments;
const start = (store: SnapshotStore | null = null) => {
  engine = new EngineWithDocuments(store);
  app = createApp({ engine });
};
beforeEach(() => start());

const create = async (name: string) => {
  const response = await app.request('/v1/sessions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, text: TEXT }),
  });
  const body = (await response.json()) as { id?: string; error?: { code: string } };
  return { id: body.id, outcome: `${response.status} ${body.error?.code ?? ''}`.trim() };
};
const listed = async () => {
  const { data } = (await (await app.request('/v1/sessions')).json()) as { data: { id: string; state: string }[] };
  return data;
};
const countsOf = (outcomes: readonly string[]) => {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
};

describe(`${NUM_REQUESTS} documents`, { timeout: 300_000 }, () => {
  test('one after the other: so many as may be, the others refused, the list bounded; none stays in memory once deleted', async () => {
    const heapMiB: number[] = [];
    for (const numRequests of [MAX_SESSIONS + 1000, NUM_REQUESTS]) {
      const outcomes: string[] = [];
      for (let n = 0; n < numRequests; n += 1) outcomes.push((await create(`book ${n}`)).outcome);
      expect(countsOf(outcomes)).toEqual({
        '202': MAX_SESSIONS,
        '400 too_many_sessions': numRequests - MAX_SESSIONS,
      });
      const sessions = await listed();
      expect(sessions).toHaveLength(MAX_SESSIONS);
      for (const { id } of sessions) {
        expect((await app.request(`/v1/sessions/${id}`, { method: 'DELETE' })).status).toBe(200);
      }
      expect(await listed()).toEqual([]);
      heapMiB.push(usedHeapMiB());
    }
    expect(heapMiB[1]! - heapMiB[0]!, `MiB after each round: ${heapMiB}`).toBeLessThan(10); // one text of each request would be 40
  });

  test('all at once: refused for the documents that wait or for the limit, and never more than that', async () => {
    const made = await Promise.all(Array.from({ length: NUM_REQUESTS }, (_, n) => create(`book ${n}`)));
    const counts = countsOf(made.map(({ outcome }) => outcome));
    for (const outcome of Object.keys(counts)) {
      expect(['202', '400 too_many_sessions', '429 queue_full']).toContain(outcome);
    }
    expect((await listed()).map(({ id }) => id).sort()).toEqual(made.flatMap(({ id }) => id ?? []).sort());
    expect(counts['202']).toBeLessThanOrEqual(MAX_SESSIONS);
  });

  test('forks of one, all at once: no more than may be, and they are saved one after the other', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ctkvr-many-'));
    try {
      start(new SnapshotStore({ folder }));
      const { id } = await create('a book');
      const paths = Array.from({ length: 2 * MAX_SESSIONS }, () => `/v1/sessions/${id}/fork`);
      const forks = await Promise.all(paths.map((path) => app.request(path, { method: 'POST' })));
      expect(countsOf(forks.map(({ status }) => String(status)))).toEqual({
        '201': MAX_SESSIONS - 1,
        '400': MAX_SESSIONS + 1,
      });
      expect(await listed()).toHaveLength(MAX_SESSIONS);
      await engine.sessions.close();
      expect(mostSavesAtOnce).toBe(1);
      start(new SnapshotStore({ folder }));
      const saved = await listed();
      expect(countsOf(saved.map(({ state }) => state))).toEqual({ saved: MAX_SESSIONS });
      expect((await create('one more')).outcome).toBe('400 too_many_sessions');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

function usedHeapMiB(): number {
  collectGarbage();
  return Math.round(process.memoryUsage().heapUsed / 2 ** 20);
}
