import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeDiagnosis } from '../src/doctor/describe-diagnosis.js';
import type { Diagnosis } from '../src/doctor/diagnosis.js';
import { featuresOf } from '../src/doctor/examine.js';
import { examineCache } from '../src/doctor/examine-cache.js';
import { findProblems } from '../src/doctor/find-problems.js';
import { ctkvr } from './run-ctkvr.js';
import { temporaryFolder } from './temporary-folder.js';

const GIB = 1024 ** 3;

/** A machine on which everything is well. */
const well: Diagnosis = {
  usable: true,
  problems: [],
  program: { version: '0.1.0', node: 'v22.0.0', platform: 'linux', arch: 'x64', release: '6.1' },
  processor: { name: 'A processor', features: ['avx2', 'fma'], cores: 8, usableThreads: 4, loadAverage: 0.5 },
  memory: {
    totalBytes: 16 * GIB,
    freeBytes: 12 * GIB,
    limitBytes: 8 * GIB,
    usableBytes: 7 * GIB,
    bandwidth: { gigabytesPerSecond: 41.5, numThreads: 4 },
  },
  engine: {
    binary: { path: '/x/ctkvr.node', sizeBytes: 7_000_000, version: '0.1.0', ggmlFeatures: ['AVX2'] },
    error: null,
    kernels: [
      { name: 'scalar', state: 'baseline', why: null },
      { name: 'avx2', state: 'proven', why: null },
      { name: 'avx512', state: 'missing', why: 'this machine lacks avx512f' },
    ],
    used: 'avx2',
    forced: null,
  },
  device: { devices: [], reason: 'no CUDA driver: its library (libcuda.so.1) is not found', hasDriver: false },
  cache: {
    folder: '/c',
    writable: true,
    freeBytes: 50 * GIB,
    models: [{ name: 'm', path: '/c/m.gguf', sizeBytes: GIB }],
  },
  network: {
    proxy: {},
    sources: [{ name: 'Hugging Face hub', serves: 'all other models', url: 'http://hub', reachable: true, why: null }],
  },
};

describe('what doctor concludes', () => {
  it('says nothing where all is well, and shows what it saw', () => {
    expect(findProblems(well, {})).toEqual([]);
    const text = describeDiagnosis(well);
    for (const part of [
      'A processor',
      '8 cores, this program may use 4',
      'limited to 8.0 GiB',
      '41.5 GB/s by 4 threads',
    ]) {
      expect(text).toContain(part);
    }
    expect(text).toMatch(/avx2 +tested just now: correct \(in use\)/);
    expect(text).toMatch(/avx512 +not here: this machine lacks avx512f/);
    expect(text).toMatch(/^device +no device: no CUDA driver: its library/m);
    expect(text).toMatch(/m \(1\.0 GiB\)/);
    expect(text).toContain('No problems found.');
  });

  const { program, engine, memory, cache, network } = well;
  const unreachable = { ...network.sources[0]!, reachable: false, why: 'ENOTFOUND' };
  const card = {
    name: 'cuda:0',
    description: 'A card',
    computeCapability: '8.9',
    totalBytes: 24 * GIB,
    freeBytes: GIB,
  };
  const failedAmx = { name: 'amx', state: 'failed' as const, why: 'its self-test was ended by SIGILL' };
  it.each<[string, Partial<Diagnosis>, 'error' | 'warning', RegExp, RegExp]>([
    ['an old Node.js', { program: { ...program, node: 'v18.20.0' } }, 'error', /v18\.20\.0 is too old/, /Node\.js 20/],
    ['no engine', { engine: { ...engine, binary: null, error: 'no file' } }, 'error', /no file/, /npm run build/],
    ['CTKVR_ISA wrong', { engine: { ...engine, used: null, forced: 'mmx' } }, 'error', /mmx/, /scalar, avx2/],
    ['another version', { program: { ...program, version: '0.2.0' } }, 'warning', /0\.1\.0.*0\.2\.0/, /npm run build/],
    ['kernels that failed', { engine: { ...engine, kernels: [failedAmx] } }, 'warning', /'amx'.*SIGILL/, /report/],
    ['scalar only', { engine: { ...engine, used: 'scalar' } }, 'warning', /many times slower/, /AVX2/],
    ['little memory', { memory: { ...memory, usableBytes: 1e8 } }, 'error', /95\.4 MiB/, /limit of 8\.0 GiB/],
    [
      'a driver without a device of use',
      { device: { devices: [], reason: 'the CUDA driver is too old.', hasDriver: true } },
      'warning',
      /no device can be used: the CUDA driver is too old\.$/,
      /devices\.md/,
    ],
    [
      'a device that cannot be used',
      { device: { devices: [{ ...card, unusable: 'no kernels for sm_89' }], reason: null, hasDriver: true } },
      'warning',
      /cuda:0: no kernels for sm_89/,
      /devices\.md/,
    ],
    [
      'a cache to read only',
      { cache: { ...cache, writable: false } },
      'warning',
      /\/c, cannot be written/,
      /CTKVR_CACHE_DIR/,
    ],
    ['a full disk', { cache: { ...cache, freeBytes: 1e6 } }, 'warning', /976\.6 KiB left/, /CTKVR_CACHE_DIR/],
    [
      'no hub',
      { network: { ...network, sources: [unreachable] } },
      'warning',
      /http:\/\/hub.*ENOTFOUND/,
      /HF_ENDPOINT/,
    ],
  ])('%s', (_, change, severity, what, remedy) => {
    const facts = { ...well, ...change };
    const problems = findProblems(facts, {});
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({
      severity,
      what: expect.stringMatching(what),
      remedy: expect.stringMatching(remedy),
    });
    const text = describeDiagnosis({ ...facts, problems, usable: severity === 'warning' });
    expect(text).toContain(`${severity}: ${problems[0]?.what}`);
    expect(text).toContain(severity === 'error' ? 'Models do not run here' : 'Models run here');
  });

  it('lists devices, with what each has, and how to use it or why not', () => {
    const devices = [card, { ...card, name: 'cuda:1', unusable: 'no kernels for sm_70' }];
    const facts = { ...well, device: { devices, reason: null, hasDriver: true } };
    expect(findProblems(facts, {})).toEqual([]);
    const text = describeDiagnosis(facts);
    expect(text).toMatch(/^device +cuda:0: A card, compute capability 8\.9, 24\.0 GiB, 1\.0 GiB free$/m);
    expect(text).toMatch(/used with --device auto or --device cuda:0$/m);
    expect(text).toMatch(/cuda:1: A card[\s\S]*not used: no kernels for sm_70$/m);
  });

  it('names the switch of a proxy that Node.js does not use by itself', () => {
    const facts = { ...well, network: { proxy: { HTTPS_PROXY: 'http://p:1' }, sources: [unreachable] } };
    expect(findProblems(facts, {})[0]?.remedy).toContain('NODE_USE_ENV_PROXY=1');
    expect(findProblems(facts, { NODE_USE_ENV_PROXY: '1' })[0]?.remedy).not.toContain('NODE_USE_ENV_PROXY');
  });

  it('picks the instruction sets that matter', () => {
    const x86 = 'processor\t: 0\nflags\t\t: fpu sse4_1 smep avx2 avx512_bf16 amx_tile syscall fma\n';
    expect(featuresOf(x86)).toEqual(['sse4_1', 'avx2', 'avx512_bf16', 'amx_tile', 'fma']);
    expect(featuresOf('Features\t: fp asimd sve i8mm crc32\n')).toEqual(['asimd', 'sve', 'i8mm']);
    expect(featuresOf('')).toEqual([]);
  });

  it('tries whether the cache can be written, and leaves nothing behind', async () => {
    const folder = await temporaryFolder();
    expect(await examineCache(folder)).toMatchObject({ folder, writable: true, models: [] });
    expect(await examineCache('/dev/null/none')).toMatchObject({ writable: false });
  });
});

describe('ctkvr doctor', () => {
  const server = createServer((_, response) => response.writeHead(404).end());
  let here = '';
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    here = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => void server.close());
  const closed = 'http://user:secret@127.0.0.1:9';

  it('--json prints everything, whatever is not reachable', async () => {
    const cache = await temporaryFolder();
    const env = { CTKVR_CACHE_DIR: cache, HF_ENDPOINT: here, PIP_INDEX_URL: closed, npm_config_registry: here };
    const { code, stdout } = await ctkvr(['doctor', '--json'], { env: { ...env, https_proxy: closed, CTKVR_ISA: '' } });
    const found = JSON.parse(stdout) as Diagnosis;
    expect(code).toBe(0);
    expect(stdout).not.toContain('secret');
    expect(found).toMatchObject({
      usable: true,
      program: { node: process.version, platform: process.platform, arch: process.arch },
      processor: { name: expect.any(String), cores: expect.any(Number), usableThreads: expect.any(Number) },
      memory: {
        totalBytes: expect.any(Number),
        usableBytes: expect.any(Number),
        bandwidth: { numThreads: expect.any(Number) },
      },
      engine: {
        binary: { path: expect.stringMatching(/\.node$/), version: found.program.version },
        error: null,
        forced: null,
      },
      cache: { folder: cache, writable: true, freeBytes: expect.any(Number), models: [] },
      network: { proxy: { https_proxy: 'http://127.0.0.1:9/' } },
    });
    const states = found.engine.kernels.filter(({ state }) => state === 'baseline' || state === 'proven');
    expect(states[0]).toEqual({ name: 'scalar', state: 'baseline', why: null });
    expect(found.engine.used).toBe(states.at(-1)?.name);
    expect(found.network.sources.map(({ name, reachable }) => [name, reachable])).toEqual([
      ['Python package index', false],
      ['Hugging Face hub', true],
      ['npm registry', true],
    ]);
    expect(found.problems.map(({ what }) => what).join()).toMatch(/Python package index/);
  });

  it.each([
    [
      'an engine that is not there',
      { CTKVR_NATIVE_PATH: '/none/ctkvr.node' },
      /error: The native engine cannot be loaded/,
    ],
    ['an instruction set that is not there', { CTKVR_ISA: 'mmx' }, /error: CTKVR_ISA is set to mmx/],
  ])('ends with status 1 for %s, in words', async (_, env, message) => {
    const local = { HF_ENDPOINT: here, PIP_INDEX_URL: here, npm_config_registry: here };
    const { code, stdout, stderr } = await ctkvr(['doctor'], { env: { ...local, ...env } });
    expect(stdout).toMatch(message);
    expect(stdout).toContain('Models do not run here');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
  });
});
