/** Every mistake ends in one message that names the thing, an exit status that says what kind it was, and nothing on stdout. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ctkvr, type RunningCtkvr, startCtkvr } from './run-ctkvr.js';
import { temporaryFolder } from './temporary-folder.js';

describe.concurrent('wrong usage', () => {
  it.each([
    [['ask', 'file.txt'], /a file \(or -\) and a question|at least one file/],
    [['ask', '--temperature', 'warm', 'a.txt', 'q'], /--temperature.*number from 0 to 10/],
    [['ask', '--context', '0', 'a.txt', 'q'], /--context.*at least 1/],
    [['ask', '--preset', 'best', 'a.txt', 'q'], /--preset.*balanced, paper, exact/],
    [['ask', '--selector', 'best', 'a.txt', 'q'], /--selector.*streaming/],
    [['ask', '--no-such-option', 'a.txt', 'q'], /unknown option/],
    [['fidelity', '--text', 'a.txt', '--selectors', 'full,best'], /"best" is none of full, exactTopK/],
    [['fidelity'], /--text/],
    [['no-such-command'], /unknown command/],
    [['chat', '-'], /as a file/],
    [['ask', 'no-such-file.txt', ''], /the question is empty/],
    [['ask', 'no-such-file.txt', ' \n'], /the question is empty/],
    [['serve', '--port', '70000'], /--port.*65535/],
    [['serve', '-m', 'a', '-m', 'b', '--name', 'c'], /--name must be given once for each --model: 1 name for 2 models/],
    [['serve', '--unload-after', '10'], /--unload-after <time>.*90s, 10m or 1h/],
    [['pull', 'no-such-model', '--json', 'surplus'], /too many arguments/],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await ctkvr(args);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });
});

describe.concurrent('unusable files', () => {
  it.each([
    ['a missing one', ['ask', 'no-such-file.txt', 'q'], /no file no-such-file\.txt/],
    ['a folder', ['ask', '.', 'q'], /is a folder/],
    ['a missing model file', ['inspect', 'no-such-model.gguf'], /no-such-model\.gguf/],
    ['an unknown model', ['pull', 'no-such-model'], /smollm2-135m/],
  ])('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await ctkvr(args);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
  });

  it('a binary, with --json: the error is JSON on stderr', async () => {
    const path = join(await temporaryFolder(), 'binary.txt');
    await writeFile(path, Buffer.from([0x68, 0x69, 0, 1, 2]));
    const { code, stdout, stderr } = await ctkvr(['ask', path, 'q', '--json']);
    expect(JSON.parse(stderr)).toMatchObject({
      error: { code: 'CTKVR_FILE_UNREADABLE', message: expect.stringContaining('NUL byte at offset 2') },
    });
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
  });

  it('bytes that are not UTF-8 on standard input', async () => {
    const { code, stderr } = await ctkvr(['ask', '-', 'q'], { input: Buffer.from([0x68, 0xff, 0xfe]) });
    expect(stderr).toMatch(/standard input is not a text file.*UTF-8/);
    expect(code).toBe(3);
  });

  it('an empty text', async () => {
    const { code, stderr } = await ctkvr(['ask', '-', 'q'], { input: ' \n' });
    expect(stderr).toMatch(/standard input holds no text/);
    expect(code).toBe(2);
  });
});

describe.concurrent('Ctrl-C', () => {
  it('while waiting for standard input leaves with 130 and without a word', async () => {
    const { child, finished } = startCtkvr(['ask', '-', 'q'], { input: null });
    await reads(child);
    child.kill('SIGINT');
    expect(await finished).toEqual({ code: 130, stdout: '', stderr: '' });
  });

  it('SIGTERM leaves with 143', async () => {
    const { child, finished } = startCtkvr(['ask', '-', 'q'], { input: null });
    await reads(child);
    child.kill('SIGTERM');
    expect((await finished).code).toBe(143);
  });
});

/** Resolves once the child takes its standard input: more than a pipe holds has gone through. */
function reads({ stdin }: RunningCtkvr['child']): Promise<void> {
  return new Promise((resolve) => stdin.write('some text\n'.repeat(100_000), () => resolve()));
}
