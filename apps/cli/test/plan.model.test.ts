/** A plan of a real GGUF file; CTKVR_TEST_MODEL names it (`npm test` sets it). */
import { stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { ctkvr } from './run-ctkvr.js';

const model = process.env.CTKVR_TEST_MODEL;

describe.skipIf(!model)('plan of a GGUF file', () => {
  it('takes sizes and bytes from the file, and another format where one is asked for', async () => {
    const plan = async (...more: string[]) => {
      const { stdout } = await ctkvr([
        'plan',
        '--model',
        model!,
        '--context',
        '8000',
        '--gpu',
        'L4',
        '--json',
        ...more,
      ]);
      return JSON.parse(stdout);
    };
    const [file, f16] = [await plan(), await plan('--weights', 'f16')];
    expect(file.weightsBytes).toBe((await stat(model!)).size);
    expect(f16.weightsBytes).toBeGreaterThan(1.5 * file.weightsBytes);
    expect(f16.bytes).toEqual(file.bytes);
  });
});
