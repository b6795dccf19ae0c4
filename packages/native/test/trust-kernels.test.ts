/**
 * What becomes of a kernel table whose self-test crashes, hangs or finds a wrong number: the real binary and real child processes, with a
 * script that fails at the fastest table of this machine.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { verdictsFile, writeVerdicts } from '../src/kernel-verdicts.js';
import { findBinding } from '../src/load-binding.js';
import { proofScript } from '../src/proof-child.js';
import { trustKernels, trustKernelsSync } from '../src/trust-kernels.js';
import { noBinding } from './test-binding.js';

const { binding, path: binaryPath } = noBinding === '' ? findBinding() : ({} as ReturnType<typeof findBinding>);
const present = noBinding === '' ? binding.kernelTables().filter(({ missing }) => missing.length === 0) : [];
const names = present.map(({ name }) => name);
const [victim = '', next = ''] = [names.at(-1), names.at(-2)];
const reason = noBinding || (names.length < 2 ? ' (skipped: this machine has the scalar kernels alone)' : '');

const folders: string[] = [];
function emptyCache(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ctkvr-trust-'));
  folders.push(folder);
  return folder;
}
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** The script, but for the victim, of which `action` is what its self-test does. */
const failingAt = (action: string) =>
  proofScript.replace(
    'binding.testKernels(table)',
    `(table === ${JSON.stringify(victim)} ? ${action} : binding.testKernels(table))`,
  );

describe.skipIf(reason !== '')(`kernels that fail${reason}`, () => {
  afterEach(() => binding.allowKernels(names));

  it.each([
    ['crash', "process.kill(process.pid, 'SIGILL')", /was ended by SIGILL/, undefined],
    ['hang', '(() => { for (;;); })()', /did not end within 3 s/, 3000],
    ['compute wrongly', "'gemm: gave 3 at 7'", /computes wrongly: gemm: gave 3 at 7/, undefined],
    ['end the process', 'process.exit(9)', /ended with exit status 9/, undefined],
  ])('that %s are left out with one line, and the next ones down are used', async (_, action, why, timeoutMs) => {
    const options = { binding, binaryPath, script: failingAt(action), timeoutMs, cacheDir: emptyCache(), forced: '' };
    for (const trust of [await trustKernels(options), trustKernelsSync({ ...options, cacheDir: emptyCache() })]) {
      expect(trust.allowed).toEqual(names.slice(0, -1));
      expect(trust.tables.find(({ name }) => name === victim)).toMatchObject({ state: 'failed' });
      expect(trust.warning).toMatch(why);
      expect(trust.warning).toContain(`${victim} (`);
      expect(trust.warning).toContain(`uses ${next}`);
      expect(trust.warning).not.toContain('\n');
      binding.allowKernels([...trust.allowed]);
      expect(binding.buildInfo()).toMatchObject({ isa: next, availableIsas: names.slice(0, -1) });
      expect(binding.fastestKernels()).toBe(next);
    }
    // Remembered: a child that would fail at every table is not asked.
    const remembered = trustKernelsSync({ ...options, script: 'process.exit(1)' });
    expect(remembered.allowed).toEqual(names.slice(0, -1));
    // And tested again when asked to.
    const again = trustKernelsSync({ ...options, script: undefined, again: true });
    expect(again).toMatchObject({ allowed: names, warning: null });
    expect(trustKernelsSync({ ...options, script: 'process.exit(1)' }).allowed).toEqual(names);
  });

  it('are no more than named by CTKVR_ISA', () => {
    const options = { binding, binaryPath, script: failingAt("'wrong'"), cacheDir: emptyCache() };
    expect(trustKernelsSync({ ...options, forced: next })).toMatchObject({
      allowed: names.slice(0, -1),
      warning: null,
    });
    expect(trustKernelsSync({ ...options, forced: 'scalar', script: 'process.exit(1)' }).allowed).toEqual(['scalar']);
  });

  it.each([
    ['a child that dies before its first test', 'process.exit(3)', false],
    ['no child', undefined, true],
  ])('%s: tables are tested in this process, but for tiles', async (_, script, isChild) => {
    const before = process.env.CTKVR_KERNEL_CHILD;
    if (isChild) process.env.CTKVR_KERNEL_CHILD = '1';
    const options = { binding, binaryPath, script, forced: '' };
    const trusts = [
      await trustKernels({ ...options, cacheDir: emptyCache() }),
      trustKernelsSync({ ...options, cacheDir: emptyCache() }),
    ];
    if (before === undefined) delete process.env.CTKVR_KERNEL_CHILD;
    for (const trust of trusts) {
      expect(trust.allowed).toEqual(names.filter((name) => name !== 'amx'));
      if (names.includes('amx')) expect(trust.warning).toMatch(/amx \(it is tested in a child process only/);
      else expect(trust.warning).toBeNull();
    }
  });

  it('pass here, with a cache that cannot be written too', () => {
    const trust = trustKernelsSync({ binding, binaryPath, cacheDir: '/dev/null/none', forced: '' });
    expect(trust).toMatchObject({ allowed: names, warning: null });
  });
});

describe.skipIf(reason !== '')(`a process of its own${reason}`, () => {
  const script = fileURLToPath(new URL('./print-isa.ts', import.meta.url));
  async function run(env: Record<string, string>) {
    const args = ['--import', import.meta.resolve('tsx'), '--conditions=@ctkvr/source', script];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { env: { ...process.env, ...env } });
    return { said: JSON.parse(stdout) as Record<string, unknown>, stderr };
  }

  it.each(names)('uses %s when CTKVR_ISA names it', async (isa) => {
    const { said, stderr } = await run({ CTKVR_ISA: isa });
    expect(said).toEqual({ isa, workerIsa: isa, availableIsas: names.slice(0, names.indexOf(isa) + 1) });
    expect(stderr).toBe('');
  });

  it.each(['mmx', 'AVX2'])('refuses %s and says what there is', async (isa) => {
    const { said } = await run({ CTKVR_ISA: isa });
    const listed = expect.stringContaining(names.join(', '));
    expect(said).toMatchObject({ code: 'CTKVR_INVALID_OPTION', again: 'CTKVR_INVALID_OPTION', message: listed });
    expect(said.message).toContain(isa);
  });

  it('refuses what failed its self-test, and warns once where it is not asked for', async () => {
    const cacheDir = emptyCache();
    const at = Date.now();
    const verdicts = Object.fromEntries(names.map((name) => [name, { why: name === victim ? 'it burns' : null, at }]));
    writeVerdicts(verdictsFile(binaryPath, cacheDir), verdicts);
    const { said, stderr } = await run({ CTKVR_CACHE_DIR: cacheDir, CTKVR_ISA: '' });
    expect(said).toMatchObject({ isa: next, workerIsa: next });
    expect(stderr.match(/CtkvrWarning: .*it burns.*/g)).toHaveLength(1);
    const refused = await run({ CTKVR_CACHE_DIR: cacheDir, CTKVR_ISA: victim });
    expect(refused.said).toMatchObject({ code: 'CTKVR_INVALID_OPTION' });
  });
});
