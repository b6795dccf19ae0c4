/** Outputs that cannot be written, and files that cannot be run: what a user is told, and with which exit status. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ctkvr, startCtkvr } from './run-ctkvr.js';
import { temporaryFolder } from './temporary-folder.js';

/** Runs a command whose standard output is a device. */
function intoDevice(device: string, args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
  const out = openSync(device, 'w');
  const command = ['--conditions=@ctkvr/source', '--import', 'tsx', 'src/bin.ts', ...args];
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  const child = spawn(process.execPath, command, { cwd, stdio: ['ignore', out, 'pipe'] });
  closeSync(out);
  let stderr = '';
  child.stderr!.on('data', (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stderr })));
}

describe.skipIf(!existsSync('/dev/full'))('an output on a full device', () => {
  it.each([[['models']], [['models', '--json']], [['--help']], [['ask', '--help']], [['--version']]])(
    '%j names it',
    async (args) => {
      const { code, stderr } = await intoDevice('/dev/full', args);
      expect(stderr).toContain('standard output could not be written: its device is full; free some space');
      expect(stderr).not.toContain('bug');
      expect(code).toBe(4);
    },
  );
});

it('a reader that goes away ends the command without a word', async () => {
  const running = startCtkvr(['models', '--json']);
  running.child.stdout.destroy();
  const { code, stderr } = await running.finished;
  expect({ code, stderr }).toEqual({ code: 141, stderr: '' });
});

describe('one part of a split model', () => {
  /** A GGUF file with an architecture, and nothing else but that it is the first of two. */
  async function part(): Promise<string> {
    const path = join(await temporaryFolder(), 'x-00001-of-00002.gguf');
    const size = (value: number) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(value));
      return bytes;
    };
    const u32 = (value: number) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(value);
      return bytes;
    };
    const text = (value: string) => Buffer.concat([size(value.length), Buffer.from(value)]);
    const [uint16, string] = [2, 8];
    writeFileSync(
      path,
      Buffer.concat([
        ...[Buffer.from('GGUF'), u32(3), size(0), size(2)],
        ...[text('general.architecture'), u32(string), text('llama')],
        ...[text('split.count'), u32(uint16), Buffer.from([2, 0])],
      ]),
    );
    return path;
  }

  it('inspect gives the command that merges, no made-up sizes, and exit status 3', async () => {
    const path = await part();
    const whole = path.replace('-00001-of-00002', '');
    const shown = await ctkvr(['inspect', path]);
    expect(shown.stdout).toContain(`llama-gguf-split --merge ${path} ${whole}`);
    expect(shown.stdout).not.toContain('KV per token');
    expect(shown.code).toBe(3);
    const json = await ctkvr(['inspect', path, '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject({ supported: false, memory: null });
    expect(json.code).toBe(3);
  });

  it('ask gives it too', async () => {
    const path = await part();
    const { code, stderr } = await ctkvr(['ask', '-m', path, '-', 'Why?'], { input: 'Because.' });
    expect(stderr).toContain(`llama-gguf-split --merge ${path} `);
    expect(code).toBe(3);
  });
});
