import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CtkvrError } from '@ctkvr/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { candidates, loadFirst } from './load-binding.js';

describe('loadFirst', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'ctkvr-native-'));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  const fail = (places: Parameters<typeof loadFirst>[0]): CtkvrError => {
    try {
      loadFirst(places);
    } catch (error) {
      if (CtkvrError.isInstance(error)) return error;
      throw error;
    }
    throw new Error('loaded something');
  };

  it('names every attempt and keeps every cause', () => {
    const damaged = join(dir, 'damaged.node');
    writeFileSync(damaged, 'not a library');
    const error = fail([
      { what: 'first', request: join(dir, 'missing.node') },
      { what: 'second', request: damaged },
      { what: 'third', request: '@ctkvr/native-no-such-platform' },
    ]);
    expect(error.code).toBe('CTKVR_NATIVE_UNAVAILABLE');
    const messages: string[] = [];
    for (let cause = error.cause; cause instanceof Error; cause = cause.cause) messages.push(cause.message);
    expect(messages.join('\n')).toMatch(/first: there is no file[\s\S]*second: [\s\S]*third: /);
    expect(error.message).toContain('first: ');
    expect(error.fields.attempts).toBe(3);
  });

  it('refuses a module that lacks the exports of this version, and tries the next one', () => {
    const foreign = join(dir, 'foreign.cjs');
    writeFileSync(foreign, 'module.exports = { buildInfo() {} };');
    expect(fail([{ what: 'only', request: foreign }]).message).toContain('has no inspectModel, loadModel');
    const complete = join(dir, 'complete.cjs');
    writeFileSync(
      complete,
      `for (const n of ["buildInfo","inspectModel","loadModel","processMemory","memoryNeed","CentroidIndex","kernelTables","testKernels",
        "allowKernels","allowedKernels","fastestKernels"]) exports[n] = () => n;`,
    );
    const { binding, path } = loadFirst([
      { what: 'foreign', request: foreign },
      { what: 'complete', request: complete },
    ]);
    expect(binding.buildInfo()).toBe('buildInfo');
    expect(binding.listDevices).toBeUndefined(); // one of before there were devices loads too
    expect(path).toBe(realpathSync(complete));
  });
});

describe('candidates', () => {
  it('looks only at the file that CTKVR_NATIVE_PATH names', () => {
    expect(candidates('some/file.node').map((place) => place.what)).toEqual(['CTKVR_NATIVE_PATH=some/file.node']);
  });

  it('looks at the development build before the installed package', () => {
    expect(candidates(undefined).map((place) => place.what)).toEqual([
      'the development build',
      expect.stringContaining('the package @ctkvr/native-'),
    ]);
  });
});
