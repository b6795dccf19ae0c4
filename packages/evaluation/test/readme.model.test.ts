import { statSync } from 'node:fs';
import { DEFAULT_MODEL, findCatalogueModel } from '@ctkvr/model-runner';
import { runReadmeExample } from '@ctkvr/testkit';
import { describe, expect, it } from 'vitest';

const path = process.env.CTKVR_TEST_MODEL ?? '';
const isDefault = path !== '' && statSync(path).size === findCatalogueModel(DEFAULT_MODEL)?.sizeBytes;
const reason = isDefault ? '' : ' (skipped: CTKVR_TEST_MODEL does not name the default model)';

describe.skipIf(!isDefault)(`README${reason}`, { timeout: 180_000 }, () => {
  it('its example runs and says what its comment says', async () => {
    const { selectors } = await runReadmeExample(new URL('../README.md', import.meta.url));
    const [ctkvr, streaming] = selectors as { meanKl: number }[];
    expect(ctkvr!.meanKl).toBeLessThan(streaming!.meanKl);
  });
});
