/** `--device` and `--kv-device-budget`, on a stand-in for the native binary that has devices. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { exitCodeOf } from '../src/exit-codes.js';
import { size } from '../src/parse-options.js';
import { buildProgram } from '../src/run-cli.js';
import { ctkvr } from './run-ctkvr.js';
import { temporaryFolder } from './temporary-folder.js';

const CTKVR_NATIVE_PATH = fileURLToPath(new URL('../../../packages/testkit/fake-native.cjs', import.meta.url));
const card = {
  name: 'cuda:0',
  description: 'A card',
  computeCapability: '8.9',
  totalBytes: 24e9,
  freeBytes: 20e9,
};
const oldDriver = { devices: { devices: [], reason: 'the CUDA driver is too old' } };

let [model, text] = ['', ''];
beforeAll(async () => {
  const folder = await temporaryFolder();
  [model, text] = [join(folder, 'model.gguf'), join(folder, 'text.txt')];
  await Promise.all([writeFile(model, 'not read by the stand-in'), writeFile(text, 'once upon a time')]);
});

/** Asks the stand-in, which does as `fake` says. */
function ask(args: readonly string[], fake: object = {}) {
  return ctkvr(['ask', text, 'why?', '-m', model, '--max-tokens', '4', ...args], {
    env: { CTKVR_NATIVE_PATH, CTKVR_FAKE_NATIVE: JSON.stringify(fake) },
  });
}

describe('sizes', () => {
  it.each([
    ['24GB', 24e9],
    ['512MiB', 512 * 2 ** 20],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['64kb', 64_000],
    ['2TiB', 2 * 2 ** 40],
    ['100B', 100],
  ])('%s', (given, bytes) => expect(size(given)).toBe(bytes));

  it.each(['24', '', 'GB', '-1GB', '0GB', '24 gigabytes', '1e3MB', '24GBs', '9999999TB'])('refuses %j', (given) => {
    expect(() => size(given)).toThrowError(/24GB or 512MiB/);
  });
});

it('every command that loads a model takes both options, and computes on the CPU unless asked', () => {
  const out = Object.assign(new Writable({ write: (_chunk, _encoding, done) => done() }), { isTTY: false });
  const io = { stdin: process.stdin, stdout: out, stderr: out, env: {} };
  const { commands } = buildProgram(io, async () => {});
  const taking = commands.filter(({ options }) => options.some(({ long }) => long === '--device'));
  expect(taking.map((command) => command.name()).sort()).toEqual([
    ...['ask', 'chat', 'demo', 'fidelity', 'needles', 'serve'],
  ]);
  for (const command of taking) {
    expect(command.options.map(({ long }) => long)).toEqual(
      expect.arrayContaining(['--kv-device-budget', '--hybrid-layers']),
    );
    expect(command.getOptionValue('device')).toBe('cpu');
  }
});

it('a lost device has no exit status of its own', () => {
  const lost = Object.assign(new Error('lost'), { code: 'CTKVR_DEVICE_LOST', [Symbol.for('ctkvr.error')]: true });
  expect(exitCodeOf(lost)).toBe(1);
});

describe.concurrent('a device on the command line', () => {
  it('is used, with its budget', async () => {
    const options = ['--device', 'cuda', '--kv-device-budget', '64MB', '--hybrid-layers', 'all'];
    const done = await ask(options, { devices: { devices: [card] } });
    expect(done.stdout).toMatch(/^[a-z]{4}\n$/);
    expect(done.code).toBe(0);
  });

  it.each([
    [['--device', 'gpu'], /--device <device>.*auto, cpu, cuda or cuda:N \(N from 0\)\. Did you mean cuda\?/],
    [['--device', 'cuda0'], /Did you mean cuda:0\?/],
    [['--kv-device-budget', '24'], /--kv-device-budget <size>.*such as 24GB or 512MiB/],
    [
      ['--kv-device-budget', '24GB'],
      /--kv-device-budget bounds a device's memory.*give --device auto or --device cuda too/,
    ],
    [['--hybrid-layers', 'some'], /--hybrid-layers <count>.*a whole number, or all/],
    [
      ['--hybrid-layers', '2'],
      /--hybrid-layers moves keys and values off a device.*--device auto or --device cuda too/,
    ],
    [['--devise', 'cuda'], /Did you mean --device\?/],
  ])('%j is wrong usage', async (args, message) => {
    const { code, stdout, stderr } = await ask(args, { devices: { devices: [card] } });
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('that is not there ends with status 3 and says what is missing', async () => {
    const { code, stdout, stderr } = await ask(['--device', 'cuda']);
    expect(stderr).toMatch(/^ctkvr: no CUDA driver: its library .* is not found.*; `ctkvr doctor`.*--device cpu.*\n$/);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    const json = await ask(['--device', 'cuda:3', '--json'], { devices: { devices: [card] } });
    expect(JSON.parse(json.stderr)).toMatchObject({
      error: { code: 'CTKVR_DEVICE_UNAVAILABLE', fields: { device: 'cuda:3' } },
    });
    expect(json.code).toBe(3);
  });

  it('serve tells it in the same way', async () => {
    const args = ['serve', '-m', model, '--port', '0', '--device', 'cuda'];
    const { code, stderr } = await ctkvr(args, { env: { CTKVR_NATIVE_PATH } });
    expect(stderr).toMatch(/^ctkvr: no CUDA driver: /);
    expect(code).toBe(3);
  });

  it('auto says nothing without a driver, and one line where the driver is of no use', async () => {
    const [without, useless] = await Promise.all([ask(['--device', 'auto']), ask(['--device', 'auto'], oldDriver)]);
    expect([without.code, useless.code, without.stdout]).toEqual([0, 0, useless.stdout]);
    expect(without.stderr).not.toContain('CTkvr');
    expect(useless.stderr.match(/^ctkvr: CTkvr uses the CPU.*$/gm)).toEqual([
      expect.stringContaining('the CUDA driver is too old'),
    ]);
  });

  it('that is lost ends the answer with a message and status 1', async () => {
    const fake = { devices: { devices: [card] }, loseAtStep: 3 };
    const { code, stderr } = await ask(['--device', 'auto'], fake);
    expect(stderr).toMatch(/^ctkvr: the device is lost: .*load the model again$/m);
    expect(stderr).not.toMatch(/bug of ctkvr|\n\s+at /);
    expect(code).toBe(1);
  });

  it('doctor --json lists what there is, and nothing of a binary without devices', async () => {
    const local = 'http://127.0.0.1:9';
    const env = { CTKVR_NATIVE_PATH, HF_ENDPOINT: local, PIP_INDEX_URL: local, npm_config_registry: local };
    const run = (fake: object) =>
      ctkvr(['doctor', '--json'], { env: { ...env, CTKVR_FAKE_NATIVE: JSON.stringify(fake) } });
    const [listed, old, useless] = await Promise.all([
      run({ devices: { devices: [card] } }),
      run({ devices: null }),
      run(oldDriver),
    ]);
    expect(JSON.parse(listed.stdout).device).toEqual({ devices: [card], reason: null, hasDriver: true });
    expect(JSON.parse(old.stdout).device).toMatchObject({ devices: [], hasDriver: false });
    const problems = (text: string) => JSON.stringify(JSON.parse(text).problems);
    expect([listed, old].map(({ stdout }) => problems(stdout)).join()).not.toMatch(/device/);
    expect(problems(useless.stdout)).toMatch(/no device can be used: the CUDA driver is too old/);
  });
});
