/**
 * The small model under each instruction set of this machine, forced by CTKVR_ISA as a user forces it, beside the plainest one. Kernels are
 * compared number by number elsewhere; here, that whatever chooses them chooses them together.
 *
 * Equal logits are not to be had: activations are rounded to 8 bits, and sums in another order move some by a code, layer after layer. The
 * README's measure of that noise is a mean KL of 0.002 nats for this model.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findBinding } from '@ctkvr/native';
import { describe, expect, it } from 'vitest';
import { argmax, klDivergence } from '../src/index.js';

const path = process.env.CTKVR_TEST_MODEL ?? '';
const noModel = path === '' ? ' (skipped: CTKVR_TEST_MODEL names no GGUF file)' : '';
const script = fileURLToPath(new URL('./print-logits.ts', import.meta.url));
/** Ten times that, and ten times the most that a step here was seen to have (0.0020): what computes wrongly is far beyond. */
const MAX_KL = 0.02;

const full = { method: 'full' };

const known = path === '' ? [] : findBinding().binding.kernelTables();
const present = known.filter(({ missing }) => missing.length === 0).map(({ name }) => name);

async function logitsUnder(isa: string, numTokens: number, selector: object): Promise<Float32Array[]> {
  const args = ['--import', import.meta.resolve('tsx'), '--conditions=@ctkvr/source', script];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...args, path, String(numTokens), JSON.stringify(selector)],
    {
      env: { ...process.env, CTKVR_ISA: isa },
      maxBuffer: 1 << 28,
    },
  );
  const all = new Float32Array(new Uint8Array(Buffer.from(stdout, 'base64')).buffer);
  const size = all.length / 6;
  return Array.from({ length: 6 }, (_, i) => all.subarray(i * size, (i + 1) * size));
}

function expectNear(got: readonly Float32Array[], expected: readonly Float32Array[]): void {
  for (const [i, reference] of expected.entries()) {
    const kl = klDivergence(reference, got[i]!);
    expect(kl).toBeLessThan(MAX_KL);
    const best = argmax(reference);
    // Pinsker: no probability is off by more than sqrt(KL / 2), so a lead of twice that stays a lead.
    const share = (logits: Float32Array, token: number) =>
      Math.exp(logits[token]!) / logits.reduce((sum, x) => sum + Math.exp(x), 0);
    const second = argmax(reference.with(best, Number.NEGATIVE_INFINITY));
    if (share(reference, best) - share(reference, second) > 2 * Math.sqrt(kl / 2)) expect(argmax(got[i]!)).toBe(best);
  }
}

describe.skipIf(path === '')(`instruction sets${noModel}`, { timeout: 180_000 }, () => {
  const missing = known.filter(({ name }) => !present.includes(name));
  for (const { name, missing: what } of missing) it.skip(`${name} (this machine lacks ${what.join(', ')})`, () => {});

  const retrieval = { method: 'ctkvr', denseBelow: 0, recentWindow: 32, numCentroids: 48, maxSelected: 64 };
  describe.each([full, retrieval])('a short prompt, method $method', (selector) => {
    let plainest: Promise<Float32Array[]> | undefined;
    it.each(present)('%s', async (isa) => {
      plainest ??= logitsUnder('scalar', 300, selector);
      expectNear(await logitsUnder(isa, 300, selector), await plainest);
    });
  });

  // Long enough for products in bf16, which are compared with f32 on the table below the first that has them: the plainest take minutes.
  const inBf16 = present.filter((isa) => isa === 'avx512bf16' || isa === 'amx');
  describe('a prompt of 2,200 tokens', () => {
    if (inBf16.length === 0) it.skip('avx512bf16, amx (this machine has neither)', () => {});
    let plainest: Promise<Float32Array[]> | undefined;
    it.each(inBf16)('%s', async (isa) => {
      plainest ??= logitsUnder('avx512vnni', 2200, full);
      expectNear(await logitsUnder(isa, 2200, full), await plainest);
    });
  });
});
