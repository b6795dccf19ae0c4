/** Where settings come from, and which goes first. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ctkvrInProcess } from './run-in-process.js';
import { temporaryFolder } from './temporary-folder.js';

async function configOf(
  args: readonly string[],
  { env = {}, file }: { env?: Record<string, string>; file?: unknown } = {},
) {
  const path = join(await temporaryFolder(), 'server.json');
  if (file !== undefined) await writeFile(path, typeof file === 'string' ? file : JSON.stringify(file));
  const from = file === undefined ? [] : ['--config', path];
  const finished = await ctkvrInProcess(['serve', '--print-config', ...from, ...args], env);
  return { path, ...finished, config: finished.code === 0 ? JSON.parse(finished.stdout) : null };
}

describe.concurrent('ctkvr serve --print-config', () => {
  it('without anything prints the defaults, and nothing of where they are from', async () => {
    const { config, stderr } = await configOf([]);
    expect(config).toMatchObject({
      host: '127.0.0.1',
      port: 8080,
      maxRunning: 4,
      engineTimeout: 60,
      mapWeights: false,
      preset: 'balanced',
    });
    expect(stderr).toBe('');
  });

  it('flags go before variables, variables before the file, the file before defaults', async () => {
    const { config, stderr, path } = await configOf(['--port', '1'], {
      env: { CTKVR_PORT: '2', CTKVR_MAX_RUNNING: '2', CTKVR_HOST: '' },
      file: { port: 3, maxRunning: 3, maxQueued: 3 },
    });
    expect(config).toMatchObject({ port: 1, maxRunning: 2, maxQueued: 3, maxWait: 300, host: '127.0.0.1' });
    expect(stderr.trim().split('\n').sort()).toEqual([
      `maxQueued: from ${path}:maxQueued`,
      'maxRunning: from CTKVR_MAX_RUNNING',
      'port: from --port',
    ]);
  });

  it('prints what is a file again: sizes, lists and switches too', async () => {
    const file = { prefixCache: '2GB', kvDeviceBudget: '512MiB', mapWeights: true, allowOrigin: ['https://a.example'] };
    const { config } = await configOf(['--allow-host', 'a', 'b'], { file });
    expect(config).toMatchObject({ ...file, allowHost: ['a', 'b'] });
    expect((await configOf([], { file: config })).config).toEqual(config);
  });

  it('a variable of a list has commas', async () => {
    const { config } = await configOf([], { env: { CTKVR_ALLOW_HOST: 'a,b' } });
    expect(config).toMatchObject({ allowHost: ['a', 'b'] });
  });

  it.each([
    [{ maxruning: 1 }, /there is no setting maxruning; did you mean maxRunning\?/],
    [{ 'max-running': 1 }, /did you mean maxRunning\?/],
    [{ xyz: 1 }, /there is no setting xyz; there are .*port/],
    [{ port: 70_000 }, /server\.json:port cannot be '70000'\. It must be an integer from 0 to 65535/],
    [{ port: null }, /:port must be a text, a number, true or false, got null/],
    [{ allowHost: [1, {}] }, /:allowHost must be a list of texts, got \{\}/],
    [{ mapWeights: 'yes' }, /:mapWeights cannot be 'yes'. It must be true or false/],
    [{ preset: 'best' }, /:preset cannot be 'best'.* balanced, paper, exact/],
  ])('a file with %j is refused', async (file, message) => {
    const { code, stdout, stderr } = await configOf([], { file });
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it.each(['[]', 'null', '{'])('a file that is no JSON object is refused: %s', async (file) => {
    const { code, stderr } = await configOf([], { file });
    expect(stderr).toMatch(/the configuration .*server\.json cannot be read/);
    expect(code).toBe(3);
  });

  it('a variable that cannot be is refused with its name', async () => {
    const { code, stderr } = await configOf([], { env: { CTKVR_PORT: 'http' } });
    expect(stderr).toMatch(/CTKVR_PORT cannot be 'http'\. It must be an integer/);
    expect(code).toBe(2);
  });

  it('a file that is not there is named, in CTKVR_CONFIG too', async () => {
    const { code, stderr } = await configOf([], { env: { CTKVR_CONFIG: '/nowhere/server.json' } });
    expect(stderr).toMatch(/there is no file \/nowhere\/server\.json/);
    expect(code).toBe(3);
  });
});

describe.concurrent('ctkvr key', () => {
  it('prints the key alone, and keeps its hash in the file', async () => {
    const path = join(await temporaryFolder(), 'keys.json');
    const { code, stdout, stderr } = await ctkvrInProcess(['key', 'alice', '--file', path]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: `alice is in ${path}\n` });
    expect(stdout).toMatch(/^ctkvr-[\w-]{43}\n$/);
    const text = await readFile(path, 'utf8');
    expect(JSON.parse(text)).toEqual([{ name: 'alice', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) }]);
    expect(text).not.toContain(stdout.trim());
    const again = await ctkvrInProcess(['key', 'alice', '--file', path]);
    expect({ code: again.code, stdout: again.stdout }).toEqual({ code: 2, stdout: '' });
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  it('a server does not start with a file of keys that is damaged', async () => {
    const path = join(await temporaryFolder(), 'keys.json');
    await writeFile(path, '[{"name":"a"}]');
    const { code, stderr } = await ctkvrInProcess(['serve', '--api-key-file', path]);
    expect(stderr).toMatch(/keys\.json: apiKeys\[0\]: sha256 must be/);
    expect(code).toBe(2);
  });
});
