/** The commands on a real model: set CTKVR_TEST_MODEL to SmolLM2-135M-Instruct (a path or a catalogue name). */
import { copyFile, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { drawNeedle, drawNeedles } from '../src/needles/draw-needle.js';
import { lighthouseFact, lighthouseQuestion } from '../src/needles/lighthouse.js';
import { ctkvr, startCtkvr } from './run-ctkvr.js';
import { temporaryFolder } from './temporary-folder.js';

const model = process.env.CTKVR_TEST_MODEL;
if (!model) process.stderr.write('apps/cli model tests skipped: CTKVR_TEST_MODEL is not set\n');
const text = `${'The sea was calm and the ship sailed on under a clear sky. '.repeat(40)}
${lighthouseFact(482915)}
${'Gulls followed the ship and the crew sang. '.repeat(40)}`;
const question = lighthouseQuestion();

describe.skipIf(!model)('on a real model', { timeout: 300_000 }, () => {
  it('ask answers on stdout and puts one line of statistics on stderr', async () => {
    const { code, stdout, stderr } = await ctkvr(
      ['ask', '-', question, '--no-store', '--model', model!, '--max-tokens', '30'],
      {
        input: text,
      },
    );
    expect(stdout).toContain('482915');
    expect(stderr.trim().split('\n')[0]).toMatch(
      /tokens read, \d+ written \| first token after .* ms\/token \| keys read per head [\d,]+ of [\d,]+ \| estimated attention mass [\d.]+ % \| peak memory/,
    );
    expect(code).toBe(0);
  });

  it('ask --json replays a seed', async () => {
    const args = [
      'ask',
      '-',
      question,
      '--model',
      model!,
      '--max-tokens',
      '12',
      '--temperature',
      '1.2',
      '--seed',
      '7',
      '--json',
      '--no-store',
    ];
    const [one, two] = [await ctkvr(args, { input: text }), await ctkvr(args, { input: text })].map((run) =>
      JSON.parse(run.stdout),
    );
    expect(one).toMatchObject({
      question,
      seed: 7,
      promptTokens: expect.any(Number),
      keysReadPerHead: expect.any(Number),
    });
    expect(two.answer).toBe(one.answer);
  });

  it('needles counts what each selector finds, and replays a seed', async () => {
    const args = ['needles', '--text', '-', '--model', model!, '--tokens', '700', '--trials', '2', '--seed', '5'];
    const { code, stdout } = await ctkvr([...args, '--selectors', 'ctkvr,streaming', '--json'], {
      input: 'The sea was calm and the ship sailed on under a clear sky.\n\n'.repeat(80),
    });
    expect(code).toBe(0);
    const { trials, foundByDense, selectors } = JSON.parse(stdout);
    expect(trials).toHaveLength(2);
    for (const [i, trial] of trials.entries()) {
      expect(trial.number).toBe(drawNeedle(5, i).number);
      expect(trial.tokens).toBeLessThanOrEqual(700);
      expect(trial.dense.found).toBe(trial.dense.text.includes(String(trial.number)));
      expect(trial.answers).toHaveLength(trial.dense.found ? 2 : 0);
    }
    expect(foundByDense).toBe(trials.filter((t: { dense: { found: boolean } }) => t.dense.found).length);
    expect(foundByDense).toBeGreaterThan(0);
    const [ctkvrCount, streamingCount] = selectors;
    expect(ctkvrCount).toMatchObject({ selector: 'ctkvr', share: ctkvrCount.found / foundByDense });
    expect(streamingCount.keysReadPerHead).toBeLessThan(ctkvrCount.keysReadPerHead);
  });

  it('needles hides several numbers in one prompt, and asks for each after the index was built', async () => {
    const args = ['needles', '--text', '-', '--model', model!, '--tokens', '600', '--trials', '2', '--needles', '2'];
    const more = ['--selectors', 'full', '--index-before-question', '--seed', '5', '--json'];
    const { code, stdout } = await ctkvr([...args, ...more], {
      input: 'The sea was calm and the ship sailed on under a clear sky.\n\n'.repeat(80),
    });
    expect(code).toBe(0);
    const { trials, foundByDense, selectors } = JSON.parse(stdout);
    expect(trials.map(({ place, number }: { place: string; number: number }) => ({ place, number }))).toEqual(
      drawNeedles(5, 0, 2).map(({ place, number }) => ({ place, number })),
    );
    const places = trials.map(({ factAt }: { factAt: number }) => factAt);
    expect([...places].sort((a, b) => a - b)).toEqual(places);
    expect(selectors[0]).toMatchObject({ selector: 'full', found: foundByDense });
  });

  it('fidelity --turns asks one question after another', async () => {
    const turns = join(await temporaryFolder(), 'turns.json');
    await writeFile(turns, JSON.stringify([{ question: 'What is entry 3?' }, { question: 'And entry 9?' }]));
    const input = Array.from({ length: 100 }, (_, i) => `Entry ${i}: the value is ${(i * 7919) % 1000}.`).join('\n');
    const args = ['fidelity', '--model', model!, '--text', '-', '--tokens', '500', '--steps', '4', '--turns', turns];
    const { code, stdout } = await ctkvr([...args, '--selectors', 'streaming:recentWindow=64', '--json'], { input });
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.turns.map((turn: { question: string }) => turn.question)).toEqual([
      'What is entry 3?',
      'And entry 9?',
    ]);
    for (const { selectors } of report.turns) {
      expect(selectors[0]).toMatchObject({
        inTurn: { meanKl: expect.any(Number) },
        atEnd: { meanKl: expect.any(Number) },
      });
    }
  });

  it('a prompt beyond the context is refused with the numbers', async () => {
    const { code, stdout, stderr } = await ctkvr(
      ['ask', '-', question, '--no-store', '--model', model!, '--context', '256'],
      {
        input: text,
      },
    );
    expect(stderr).toMatch(/256/);
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
  });

  it('Ctrl-C during the answer leaves with 130', async () => {
    const running = startCtkvr(['ask', '-', 'Tell a very long story.', '--no-store', '--model', model!], {
      input: text,
    });
    running.child.stdout.once('data', () => running.child.kill('SIGINT'));
    const { code, stderr } = await running.finished;
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' });
  });

  it('chat keeps the conversation, one JSON line an answer', async () => {
    const input = `${question}\nWrite that number again.\n/exit\n`;
    const { code, stdout } = await ctkvr(['chat', '--model', model!, '--json', '--max-tokens', '24'], { input });
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers.map((answer) => answer.question)).toEqual([question, 'Write that number again.']);
    // The second turn reads only what is new.
    expect(answers[1].promptTokens).toBeGreaterThan(answers[0].promptTokens);
    expect(code).toBe(0);
  });

  it('inspect tells what a context needs', async () => {
    const { code, stdout } = await ctkvr(['inspect', model!, '--context', '1000', '--json']);
    const info = JSON.parse(stdout);
    expect(info).toMatchObject({ supported: true, unsupportedReason: null, memory: { context: 1000 } });
    expect(info.memory.kvBytes).toBe(1024 * info.kvBytesPerToken); // whole pages of 256 tokens
    expect(info.memory.kvBytesQ8).toBe((1024 * info.kvBytesPerToken * 9) / 16);
    expect(code).toBe(0);
  });

  it('inspect says why another architecture is not supported, and nothing of sizes it does not know', async () => {
    const other = join(await temporaryFolder(), 'other.gguf');
    await copyFile(model!, other);
    const name = Buffer.from('general.architecture');
    await using file = await open(other, 'r+');
    const head = Buffer.alloc(1 << 20);
    await file.read(head, 0, head.length, 0);
    // The value follows its type (4 bytes) and its length (8 bytes).
    await file.write('mamba', head.indexOf(name) + name.length + 12);
    const { code, stdout } = await ctkvr(['inspect', other]);
    expect(stdout).toMatch(/supported +no: its architecture is "mamba"/);
    expect(stdout).not.toMatch(/layers|NaN/);
    expect(code).toBe(3);
  });

  it('fidelity: full is dense, retrieval is nearer to it than the window alone', async () => {
    const input = Array.from({ length: 400 }, (_, i) => `Entry ${i}: the value is ${(i * 7919) % 1000}.`).join('\n');
    const { code, stdout } = await ctkvr(
      [
        'fidelity',
        '--model',
        model!,
        '--text',
        '-',
        '--tokens',
        '1500',
        '--steps',
        '8',
        '--selectors',
        'full,streaming,ctkvr',
        '--json',
      ],
      { input },
    );
    const report = JSON.parse(stdout);
    expect(code).toBe(0);
    expect(report.tokens).toBeLessThanOrEqual(1500);
    expect(report.tokens).toBeGreaterThan(1480);
    const [full, streaming, retrieved] = report.selectors;
    expect(full.meanKl).toBeLessThan(0.001);
    expect(full.attentionMass).toBeGreaterThan(0.999);
    expect(retrieved.meanKl).toBeLessThan(streaming.meanKl);
    expect(retrieved.indexBuildMs).toBeGreaterThan(0);
    expect(retrieved.attentionMass).toBeLessThanOrEqual(1);
  });
});
