import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { runReadmeExample } from '@ctkvr/testkit';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { catalogueModelPath, DEFAULT_MODEL, findCatalogueModel } from '../src/index.js';

const path = process.env.CTKVR_TEST_MODEL ?? '';
const model = findCatalogueModel(DEFAULT_MODEL);
const isDefault = path !== '' && model != null && statSync(path).size === model.sizeBytes;
const reason = isDefault ? '' : ' (skipped: CTKVR_TEST_MODEL does not name the default model)';

describe.skipIf(!isDefault)(`README${reason}`, () => {
  let cache: string;
  beforeEach(() => {
    cache = mkdtempSync(join(tmpdir(), 'ctkvr-readme-'));
    const cached = catalogueModelPath(model!, cache);
    mkdirSync(dirname(cached), { recursive: true });
    symlinkSync(path, cached);
    vi.stubEnv('CTKVR_CACHE_DIR', cache);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(cache, { recursive: true });
  });

  it('its example runs and answers', async () => {
    const { answer, reason: finish } = await runReadmeExample(new URL('../README.md', import.meta.url));
    expect(answer).toContain('Paris');
    expect(finish).toBe('stop');
  });
});
