/** `ctkvr plan`: the tables, the JSON, the picture and the mistakes. What it predicts is tested in packages/scheduler. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { modelOf } from '../src/plan/model-of.js';
import { parseCard, parseHost } from '../src/plan/parse-machine.js';
import { ctkvr } from './run-ctkvr.js';
import { ctkvrInProcess } from './run-in-process.js';
import { temporaryFolder } from './temporary-folder.js';

const llama = ['plan', '--model', 'llama-3-8b', '--context', '98304'];
const h100 = ['--gpu', '80GB@3350GB/s', '--weights', 'q4_k_m'];
const sizes = 'layers=32,heads=32,kvHeads=8,headDim=128,params=7.5e9';

describe('a plan for one card', () => {
  it('says that it is predicted, what is chosen, and what the parts take', async () => {
    const { code, stdout, stderr } = await ctkvrInProcess([...llama, ...h100, '--sequences', '8']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^Predicted from bytes and bandwidths\. None of these times was measured/);
    expect(stdout).toMatch(
      /placement +20 layers on the device, 12 hybrid; two micro-batches\noptions +--device cuda --hybrid-layers 12\n/,
    );
    expect(stdout).toMatch(/speed-up +4\.3\d x over dense; the ceiling is 7\.51 x/);
    expect(stdout).toMatch(/of a sequence +1,222 +9\.5 % +of dense/);
    expect(stdout).toMatch(/32 layers on the device +114\.3 GB +0\.8 GB +7\.0 ms +no/);
  });

  it('says what fewer bytes for retrieval heads and clusters leave', async () => {
    const fewer = ['--cluster-format', 'q8', '--retrieval-cluster-share', '0.3'];
    const { stdout } = await ctkvrInProcess([...llama, ...h100, ...fewer]);
    expect(stdout).toMatch(/retrieval heads +174 /);
    expect(stdout).toMatch(/index +246 /);
    expect(stdout).toMatch(/of a sequence +729 +5\.7 % +of dense/);
  });

  it('as JSON, of sizes on the command line as of the built-in model', async () => {
    const runs = [llama, ['plan', '--model', sizes, '--context', '98304']].map((start) =>
      ctkvr([...start, ...h100, '--json']),
    );
    const [builtIn, custom] = (await Promise.all(runs)).map(({ stdout }) => JSON.parse(stdout));
    expect(custom).toEqual(builtIn);
    expect(builtIn).toMatchObject({
      ...{ predicted: true, fits: true, placement: { layers: { device: 32, hybrid: 0, host: 0 }, microBatches: 1 } },
      ...{ dense: { fits: true }, bottleneck: { resource: 'device', part: 'weights' } },
    });
    expect(builtIn.time.timeline).toBeUndefined();
  });

  it('draws a layer: the device alone, or both and the hops', async () => {
    const folder = await temporaryFolder();
    const draw = async (name: string, sequences: string) => {
      const path = join(folder, name);
      const { code } = await ctkvrInProcess([...llama, ...h100, '--sequences', sequences, '--svg', path]);
      expect(code).toBe(0);
      return await readFile(path, 'utf8');
    };
    const [resident, hybrid] = await Promise.all([draw('a.svg', '1'), draw('b.svg', '8')]);
    expect(resident).toContain('<title>Layer 16 of 32, device: ');
    expect(resident).not.toContain('class="hop"');
    expect(hybrid).toContain('<title>Layer 26 of 32, hybrid: ');
    expect(hybrid.match(/class="hop"/g)).toHaveLength(4);
    for (const picture of [resident, hybrid]) {
      expect(picture).not.toMatch(/NaN|Infinity|undefined/);
      expect(picture).toMatch(/retrieval heads [\d.]+ µs/);
    }
  });
});

it('without a card it says which are large enough', async () => {
  const { code, stdout } = await ctkvrInProcess([...llama, '--sequences', '8', '--weights', 'q4_k_m']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/on the device +114\.3 GB +0\.8 GB\nhybrid +17\.8 GB +97\.6 GB\n/);
  expect(stdout).toMatch(/H200 +141\.0 GB +4,800 +5\.1 ms +5\.64 x +32 layers on the device\n/);
  const { stdout: json } = await ctkvrInProcess([...llama, '--host', '4GB@50GB/s', '--json']);
  const { needs, cards } = JSON.parse(json);
  expect(needs.map(({ fitsHost }: { fitsHost: boolean }) => fitsHost)).toEqual([true, false, false]);
  expect(cards.find(({ card }: { card: { name: string } }) => card.name === 'L4').plan).toBeNull();
});

describe('mistakes', () => {
  it.each<[string[], number, RegExp]>([
    [['--gpu', 'H20'], 2, /--gpu.*80GB@3350GB\/s.*did you mean H200\?/],
    [['--gpu', '80GB'], 2, /--gpu.*80GB@3350GB\/s.*one of RTX 4080/],
    [['--gpu', '0GB@1GB/s'], 2, /--gpu.*memory and bandwidth/],
    [['--host', 'fast'], 2, /--host.*128GB@230GB\/s@64cores/],
    [['--gpus', 'H200'], 2, /unknown option '--gpus'\n.*--gpu/],
    [['--kv', 'q4'], 2, /--kv.*f16, q8/],
    [['--cluster-format', 'q4'], 2, /--cluster-format.*f16, q8/],
    [['--retrieval-cluster-share', '1.5'], 2, /--retrieval-cluster-share.*from 0 to 1/],
    [['--weights', 'q4'], 2, /--weights.*f16, q8_0, q4_k_m/],
    [['--context', '1000'], 2, /--context.*4096/],
    [['--svg', 'x.svg'], 2, /--svg.*no --gpu/],
    [['--gpu', 'H200', '--svg', '/no-such-folder/x.svg'], 1, /x\.svg could not be written/],
    [
      ['--gpu', '10GB@300GB/s'],
      4,
      /a sequence of 98304 tokens does not fit: at least 16\.5 GB.*10\.0 GB.*--kv-format q8/,
    ],
    [['--model', 'lama-3-8b'], 3, /got lama-3-8b; did you mean llama-3-8b\?/],
    [['--model', sizes.replace('kvHeads', 'kvHead')], 2, /no option kvHead; did you mean kvHeads\?/],
    [['--model', sizes.replace('7.5e9', 'many')], 2, /params must be a number.*got "many"/],
    [['--model', sizes.replace('heads=32', 'heads=30')], 2, /a multiple of model\.numKvHeads, got 30 with 8/],
  ])('%j', async (args, status, message) => {
    const { code, stdout, stderr } = await ctkvrInProcess([...llama, ...args]);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect({ code, stdout }).toEqual({ code: status, stdout: '' });
  });
});

it('cards, hosts and sizes as texts', async () => {
  expect(parseCard('rtx 4090')).toMatchObject({ name: 'RTX 4090', memoryBytes: 24e9 });
  expect(parseCard('80 GB @ 3.35 TB/s')).toMatchObject({ memoryBytes: 80e9, gigabytesPerSecond: 3350 });
  expect(parseHost('128GB@230GB/s@64cores')).toEqual({ memoryBytes: 128e9, gigabytesPerSecond: 230, cores: 64 });
  expect(parseHost('here')).toBe('here');
  expect(() => parseCard('80GB@3350GB/s@4cores')).toThrow(/memory and bandwidth/);
  expect(await modelOf(sizes)).toMatchObject({ numLayers: 32, numQueryHeads: 32, numKvHeads: 8, headDim: 128 });
});

describe('docs/guide/plan.md', () => {
  const guide = new URL('../../../docs/guide/', import.meta.url);

  it('shows what its commands print and draw', async () => {
    const page = await readFile(new URL('plan.md', guide), 'utf8');
    const shown = [...page.matchAll(/```sh\nnpm run -s ctkvr -- (plan .*)\n```\n[^`]*```text\n([^`]*)```/g)];
    expect(shown).toHaveLength(2);
    const picture = join(await temporaryFolder(), 'plan.svg');
    for (const [, command = '', table] of shown) {
      const args = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
      const { stdout } = await ctkvrInProcess(args.map((arg) => (arg === 'plan.svg' ? picture : arg)));
      expect(stdout).toBe(table);
    }
    expect(await readFile(picture, 'utf8')).toBe(await readFile(new URL('pictures/plan.svg', guide), 'utf8'));
  });

  it('and the picture of a layer on the device, in devices.md, is the plan of four sequences', async () => {
    const picture = join(await temporaryFolder(), 'plan-device.svg');
    await ctkvrInProcess([...llama, ...h100, '--sequences', '4', '--svg', picture]);
    expect(await readFile(picture, 'utf8')).toBe(await readFile(new URL('pictures/plan-device.svg', guide), 'utf8'));
  });
});

describe('--host here', () => {
  it('is what doctor --calibrate measured', async () => {
    const env = { CTKVR_CACHE_DIR: await temporaryFolder() };
    const here = [...llama, ...h100, '--host', 'here', '--json'];
    const before = await ctkvr(here, { env });
    expect(before.stderr).toMatch(/has not been measured.*doctor --calibrate/);
    expect(before.code).toBe(3);
    const { stdout } = await ctkvr(['doctor', '--calibrate', '--json'], { env });
    const { path, calibration } = JSON.parse(stdout).calibration;
    expect(path).toBe(join(env.CTKVR_CACHE_DIR, 'calibration.json'));
    const { gigabytesPerSecond, cores, memoryBytes } = calibration;
    const after = await ctkvr(here, { env });
    expect(JSON.parse(after.stdout).host).toEqual({ gigabytesPerSecond, cores, memoryBytes });
    await writeFile(path, '{"version": 2}');
    const damaged = await ctkvr(here, { env });
    expect(damaged.stderr).toMatch(/holds no measurement of this version; run/);
    expect(damaged.code).toBe(3);
  });
});
