/** Documents kept in a store: found by what they are, put aside when damaged, safe from a full disk. */
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRandom, propertyParameters } from '@ctkvr/testkit';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { documentKey, type ReadDocument, SnapshotStore } from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

const { seed, numRuns } = propertyParameters(200);

describeWithModel('documents in a store', (model) => {
  let folder = '';
  const text = prose(300);
  const reading = { selector: { denseBelow: 0, recentWindow: 64 }, contextLength: 512 };
  const about = { name: 'prose', modelName: 'SmolLM2', numTokens: 300 };
  let read: ReadDocument;
  let answer: readonly number[];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-store-'));
    read = await model().readDocument(text, reading);
    answer = await answerOf(read);
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  async function answerOf(document: ReadDocument): Promise<number[]> {
    const tokens: number[] = [];
    const options = { maxTokens: 8, sampling: { temperature: 0 } };
    for await (const { tokenId } of document.ask('Who watched the harbour?', options)) tokens.push(tokenId);
    return tokens;
  }

  const opening = (path: string) => model().openDocument(path);
  const saving = (path: string) => read.save(path);

  test('a key is that of text, template and settings', async () => {
    const key = documentKey({ model: model(), text, ...reading });
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    const { info, chatTemplate } = model();
    const same = { model: { info: { ...info, path: '/elsewhere' }, chatTemplate }, text, ...reading };
    expect(documentKey({ ...same, kvFormat: 'f16' })).toBe(key);
    const others = [
      { ...same, text: `${text} ` },
      { ...same, kvFormat: 'q8' as const },
      { ...same, contextLength: 513 },
      { ...same, selector: { denseBelow: 0 } },
      { ...same, model: { info, chatTemplate: 'another' } },
      { ...same, model: { info: { ...info, sizeBytes: 1 }, chatTemplate } },
    ];
    expect(new Set([key, ...others.map(documentKey)]).size).toBe(1 + others.length);
    expect(() => documentKey({ ...same, kvFormat: 'q4' as never })).toThrow(/kvFormat/);
  });

  test(`a bit flipped at ${numRuns} places: refused and put aside, answered as before once read anew (seed ${seed}; CTKVR_TEST_SEED replays it)`, async () => {
    const random = createRandom(seed);
    const text = prose(40);
    const smallReading = { ...reading, contextLength: 160 };
    await using small = await model().readDocument(text, smallReading);
    const smallAnswer = await answerOf(small);
    const whole = join(folder, 'whole');
    await small.save(whole);
    const bytes = await readFile(whole);
    const parts = partsOf(bytes);
    expect([...new Set(parts.map(({ name }) => name))]).toEqual(
      ['header', 'engine', 'shape', 'settings', 'queries', 'prompt', 'index', 'page', 'end'], // a part that is new is flipped too
    );
    const quarantined: string[] = [];
    const store = new SnapshotStore({
      folder: join(folder, 'flipped'),
      maxBytes: 10 * bytes.length, // damaged ones leave first
      onQuarantine: ({ key, error }) => quarantined.push(`${key} ${error.code}`),
    });
    const damaged = join(folder, 'damaged');
    for (let run = 0; run < numRuns; run++) {
      const { name, begin, end } = parts[run % parts.length]!;
      // Every other one in the 64 bytes that say what the part is: elsewhere they would be missed.
      const last = run % (2 * parts.length) < parts.length ? Math.min(end, begin + 64) : end;
      const position = random.integer(begin, last - 1);
      const bit = random.integer(0, 7);
      const flipped = Buffer.from(bytes);
      flipped[position]! ^= 1 << bit;
      await writeFile(damaged, flipped);
      const where = `bit ${bit} of byte ${position}, in ${name}`;
      await expect(model().openDocument(damaged), where).rejects.toMatchObject({ code: 'CTKVR_BAD_SNAPSHOT' });
      await store.importFrom(damaged, { key: 'text', ...about });
      expect(await store.open('text', opening), where).toBeNull();
    }
    expect(quarantined).toEqual(Array.from({ length: numRuns }, () => 'text CTKVR_BAD_SNAPSHOT'));
    expect((await readdir(join(store.folder, 'quarantine'))).length).toBeGreaterThan(5);
    await using again = await model().readDocument(text, smallReading);
    await store.save('text', about, (path) => again.save(path));
    const opened = await store.open('text', opening);
    expect(await answerOf(opened!)).toEqual(smallAnswer);
    await opened!.close();
  });

  /** What a snapshot is made of: a header of 64 bytes, then sections, each with a record of 64 bytes (name, length) before its content. */
  function partsOf(bytes: Buffer): { readonly name: string; readonly begin: number; readonly end: number }[] {
    const parts = [{ name: 'header', begin: 0, end: 64 }];
    for (let begin = 64; begin < bytes.length; begin = parts.at(-1)!.end) {
      const name = bytes.toString('latin1', begin, begin + 8).replace(/\0+$/, '');
      const end = begin + 64 + 64 * Math.ceil(Number(bytes.readBigUInt64LE(begin + 8)) / 64);
      parts.push({ name, begin, end });
    }
    return parts;
  }

  test('a disk that is full: an error with the reason, what was kept before is whole', async (context) => {
    const store = new SnapshotStore({ folder: join(folder, 'full') });
    await mkdir(store.folder);
    const { bytes } = await read.save(join(folder, 'measured'));
    const size = `size=${Math.round(1.5 * bytes)}`;
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', store.folder]).status !== 0) {
      context.skip('no file system can be mounted here, which takes root');
      return;
    }
    try {
      await store.save('first', about, saving);
      await expect(store.save('second', about, saving)).rejects.toMatchObject({ code: 'CTKVR_DISK_FULL' });
      await expect(store.save('first', { ...about, name: 'anew' }, saving)).rejects.toMatchObject({
        code: 'CTKVR_DISK_FULL',
      });
      expect((await readdir(store.folder)).sort()).toEqual(['first.ctkvr', 'first.json']);
      expect((await store.list()).map(({ name }) => name)).toEqual(['prose']);
      const opened = await store.open('first', opening);
      expect(await answerOf(opened!)).toEqual(answer);
      await opened!.close();
    } finally {
      spawnSync('umount', [store.folder]);
    }
  });

  test('what is of another model, or no document, is an error and stays', async () => {
    const store = new SnapshotStore({ folder: join(folder, 'others') });
    await using session = model().createSession({ contextLength: 64 });
    await session.prefill('A short text.');
    await store.save('session', about, (path) => session.save(path));
    const { size } = await stat(join(store.folder, 'session.ctkvr'));
    await expect(store.open('session', opening)).rejects.toMatchObject({
      code: 'CTKVR_BAD_SNAPSHOT',
      fields: { field: 'document' },
    });
    expect((await store.list()).map(({ key, bytes }) => [key, bytes])).toEqual([['session', size]]);
    await writeFile(join(folder, 'text.txt'), text);
    await store.importFrom(join(folder, 'text.txt'), { key: 'text', ...about });
    expect(await store.open('text', opening)).toBeNull();
  });
});
