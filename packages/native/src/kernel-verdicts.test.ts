import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readVerdicts, verdictsFile, writeVerdicts } from './kernel-verdicts.js';
import { processorIdentity } from './processor-identity.js';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ctkvr-verdicts-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

it('remembers what was found, in one file', () => {
  const file = join(dir, 'new/folder/a.json');
  const verdicts = { avx2: { why: null, at: 5 }, amx: { why: 'its self-test was ended by SIGILL', at: 7 } };
  writeVerdicts(file, verdicts);
  expect(readVerdicts(file, 10)).toEqual(verdicts);
  expect(readdirSync(join(dir, 'new/folder'))).toEqual(['a.json']);
});

it('tries a failure again after a day, and keeps what passed', () => {
  const file = join(dir, 'old.json');
  writeVerdicts(file, { avx2: { why: null, at: 0 }, amx: { why: 'it hung', at: 0 } });
  expect(Object.keys(readVerdicts(file, 23 * 3600e3))).toEqual(['avx2', 'amx']);
  expect(Object.keys(readVerdicts(file, 25 * 3600e3))).toEqual(['avx2']);
});

it.each(['', '{', 'null', '[1]', '{"avx2":null}', '{"avx2":{"why":null}}', '{"avx2":{"at":1,"why":2}}'])(
  'takes nothing from a damaged file: %s',
  (text) => {
    const file = join(dir, 'damaged.json');
    writeFileSync(file, text);
    expect(readVerdicts(file, 2)).toEqual({});
  },
);

it('makes no fuss about a folder that cannot be written or read', () => {
  const file = join(dir, 'a-file', 'a.json');
  writeFileSync(join(dir, 'a-file'), '');
  writeVerdicts(file, { avx2: { why: null, at: 0 } });
  expect(readVerdicts(file)).toEqual({});
});

it('has another file for another binary, the same for the same', () => {
  const [one, two] = ['one', 'two'].map((name) => {
    const path = join(dir, name);
    writeFileSync(path, name);
    return path;
  });
  expect(verdictsFile(one!, dir)).toBe(verdictsFile(one!, dir));
  expect(verdictsFile(one!, dir)).not.toBe(verdictsFile(two!, dir));
});

it('knows the processor by what lasts', () => {
  expect(processorIdentity()).toBe(processorIdentity());
  // Fields, that is: AMD has a flag whose name ends in apicid.
  expect(processorIdentity()).not.toMatch(/^(cpu MHz|bogomips|(initial )?apicid)\b/im);
  expect(processorIdentity().split('\n').length).toBeGreaterThan(3);
});
